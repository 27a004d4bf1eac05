"""What tests of executors share; each file has its own `models_dir`."""

from __future__ import annotations

from pathlib import Path

import pytest

from easel import Easel


@pytest.fixture(scope="module")
def by_torch(models_dir: Path) -> Easel:
    """Paints by PyTorch alone: what the other executors are compared with."""
    return Easel(models_dir)
