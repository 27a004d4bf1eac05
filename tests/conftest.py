"""Shared fixtures: small models with random weights, and skips that say what is missing."""

from __future__ import annotations

import gc
import os
import shutil
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Workers of tests paint by PyTorch: a graph takes a second to compile. tests/engine/test_engine_openvino.py and the
# in-process painter of tests/workers take what a person gets.
os.environ.setdefault("DANQING_EXECUTOR", "torch")

CHROMIUM = ("chromium", "chromium-browser")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--run-slow", action="store_true", help="also run the tests that take more than a minute")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, Any, Any]:
    """Importing makes millions of objects that stay: looking for garbage among them would take a third of it."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    from long_files import longest_first

    if hasattr(config, "workerinput"):  # one of several processes, which share the files in this order
        items[:] = longest_first(items)
    missing: dict[str, str | None] = {}
    for item in items:
        for mark in ("slow", "gpu", "browser"):
            if item.get_closest_marker(mark) is None:
                continue
            if mark not in missing:
                missing[mark] = _why_not(mark, config)
            reason = missing[mark]
            if reason is not None:
                item.add_marker(pytest.mark.skip(reason=reason))
    config.stash[SKIPPED] = sorted({reason for reason in missing.values() if reason is not None})


def pytest_collection_finish() -> None:
    """What was imported for the tests stays: no collection of garbage looks through all of it again."""
    gc.collect()
    gc.freeze()


SKIPPED = pytest.StashKey[list[str]]()


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """One loud line for everything this machine cannot test."""
    for reason in config.stash.get(SKIPPED, []):
        terminalreporter.write_line(f"NOT TESTED HERE: {reason}", yellow=True, bold=True)


def _why_not(mark: str, config: pytest.Config) -> str | None:
    if mark == "slow":
        return None if config.getoption("--run-slow") else "slow tests are left out; run them with --run-slow"
    if mark == "browser":
        found = any(shutil.which(name) for name in CHROMIUM)
        return None if found else "browser tests need Debian's Chromium: apt-get install chromium"
    import torch

    return None if torch.cuda.is_available() else "gpu tests need a CUDA device and PyTorch's CUDA build"


@pytest.fixture(scope="session")
def tiny_sd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A models folder in A1111's layout with small Stable Diffusions of random weights.

    `tiny` and `other` (ε, 4 channels), `tiny-v` (v-prediction), `tiny-inpaint` (9 channels in).
    """
    from tiny_models import build_all

    return build_all(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="session")
def easel(tiny_sd: Path) -> Any:
    """Paints Requests and Plans on the small models, in float32 on the CPU."""
    from easel import Easel

    return Easel(tiny_sd)


@pytest.fixture(scope="session")
def control_easel(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """As `easel`, with ControlNets: see `tiny_controls.build_controls`."""
    from easel import Easel
    from tiny_controls import build_controls

    return Easel(build_controls(tmp_path_factory.mktemp("control-models")))


@pytest.fixture(scope="session")
def image_easel(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """As `easel`, with image adapters: see `tiny_images.build_images`."""
    from easel import Easel
    from tiny_images import build_images

    return Easel(build_images(tmp_path_factory.mktemp("image-models")))


if str(Path(__file__).parent) not in sys.path:
    sys.path.insert(0, str(Path(__file__).parent))
