"""The whole server with the small trainer of `tests/studio/fake_trainer.py`, and a set on which it may be tried.

`python tests/web/page_training.py FOLDER [PORT]` serves it, with its data in FOLDER.
"""

from __future__ import annotations

import contextlib
import io
import sys
from pathlib import Path

from page_serving import listening
from page_studio import picture

from danqing.server.app import create_app
from danqing.sets.importing import ImportOptions
from danqing.spec.training_edit import SetChanges
from danqing.studio.service import Studio
from danqing.studio.settings import load_settings
from danqing.studio.trainer_process import TrainerOptions
from danqing.web import mount
from danqing.workers.pool import FakePool

FAKE = Path(__file__).parents[1] / "studio" / "fake_trainer.py"
API = "api/v1/"


def trainer(**environment: object) -> TrainerOptions:
    """The small trainer; what it is to do as in its own docstring: step_s, gate, go, fail, reasons …."""
    told = {f"FAKE_{name.upper()}": str(value) for name, value in environment.items()}
    return TrainerOptions(command=(sys.executable, "-S", str(FAKE)), environment=told, tick_s=0.02, calm_s=0.1)


def png(words: str, side: int = 96) -> bytes:
    """A picture that depends on the words."""
    out = io.BytesIO()
    picture(words, 1, side, side).save(out, "PNG")
    return out.getvalue()


def add_set(studio: Studio, name: str, *, count: int = 3, trigger: str = "") -> None:
    """A set of some pictures with one caption: the sheet by strength has one row then."""
    studio.training_sets.create(name, kind="style", recipe=None, changes=SetChanges(trigger=trigger))
    files = {f"{i}.png": png(f"{name} {i}") for i in range(count)}
    captions = {f"{i}.txt": b"a boat" for i in range(count)}
    studio.training_sets.import_files(name, files | captions, ImportOptions())


def build(folder: Path, **environment: object):
    """A started studio on this folder, and the application that serves it."""
    settings = load_settings(data_dir=folder)
    studio = Studio(settings, FakePool(), trainer=trainer(**environment))
    studio.start(eager=True)
    return studio, mount(create_app(studio, settings), studio, settings)


@contextlib.contextmanager
def serving(folder: Path):
    """The address of a running server, and its studio."""
    studio, app = build(folder)
    with listening(app) as address:
        try:
            yield studio, address
        finally:
            studio.close()


if __name__ == "__main__":
    import uvicorn

    _, application = build(Path(sys.argv[1]), step_s=0.2)
    uvicorn.run(application, host="127.0.0.1", port=int(sys.argv[2]) if len(sys.argv) > 2 else 7892)
