"""Where the page's own files are."""

from __future__ import annotations

from pathlib import Path

STATIC = Path(__file__).parent / "static"
CANVAS = Path(__file__).parent / "components" / "canvas"
PROJECTS = Path(__file__).parent / "components" / "projects"
TRAINING = Path(__file__).parent / "components" / "training"
