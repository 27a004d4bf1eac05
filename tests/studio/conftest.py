from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from studio_helpers import fake_planner

from danqing.studio.service import Studio
from danqing.studio.settings import load_settings
from danqing.workers.pool import FakePool, WorkerPool

OpenStudio = Callable[..., Studio]


@pytest.fixture
def open_studio(tmp_path: Path) -> Iterator[OpenStudio]:
    """Opens Studios on one data folder, with fake workers and a fake planner unless told otherwise."""
    opened: list[Studio] = []

    def begin(pool: WorkerPool | None = None, *, eager: bool = False, start: bool = True, **options: Any) -> Studio:
        settings = load_settings(data_dir=tmp_path, **options)
        studio = Studio(settings, pool or FakePool(), planner=fake_planner)
        opened.append(studio)
        if start:
            studio.start(eager=eager)
        return studio

    yield begin
    for studio in opened:
        studio.close()
