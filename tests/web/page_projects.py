"""The whole server with pages before it and a fake painter behind it: for the tests of the Projects page.

`python tests/web/page_projects.py FOLDER [PORT]` serves it, with its data in FOLDER.
"""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

from page_serving import listening

from danqing.server.app import create_app
from danqing.studio.service import Studio
from danqing.studio.settings import load_settings
from danqing.web import mount
from danqing.workers.pool import FakePool

API = "api/v1/"


def build(folder: Path, pool: FakePool):
    """A started studio on this folder, and the application that serves it."""
    settings = load_settings(data_dir=folder)
    studio = Studio(settings, pool)
    studio.start(eager=True)
    return studio, mount(create_app(studio, settings), studio, settings)


@contextlib.contextmanager
def serving(folder: Path, pool: FakePool):
    """The address of a running server, and its studio."""
    studio, app = build(folder, pool)
    with listening(app) as address:
        try:
            yield studio, address
        finally:
            studio.close()


if __name__ == "__main__":
    import uvicorn

    _, application = build(Path(sys.argv[1]), FakePool(delay_s=0.2, steps=8))
    uvicorn.run(application, host="127.0.0.1", port=int(sys.argv[2]) if len(sys.argv) > 2 else 7891)
