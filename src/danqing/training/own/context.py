"""Where a run works: its folder, sets, models, device; what every method is opened with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import torch

from danqing.models.catalog import Catalog
from danqing.training.own.events import EventLog

CPU = torch.device("cpu")


@dataclass
class Context:
    """A run's surroundings.

    Attributes:
        folder: The run's; only the trainer writes there.
        sets_dir: Where training sets lie, one folder each.
        models_dir: In A1111's layout; None for the built-in family alone.
        device: Where it computes.
        events: What is told.
        estimating: Only a few steps will be made to time them: do not prepare more than they need.
        warnings: What a person should know before it starts; methods add to them while they are opened.
    """

    folder: Path
    sets_dir: Path
    models_dir: Path | None = None
    device: torch.device = CPU
    events: EventLog = field(default_factory=lambda: EventLog(None))
    estimating: bool = False
    warnings: list[str] = field(default_factory=list[str])

    @cached_property
    def catalog(self) -> Catalog:
        """Which models are there."""
        return Catalog(self.models_dir)

    def warn(self, words: str | Sequence[str]) -> None:
        """Something a person should know; an estimate shows it, a run's events too."""
        for one in [words] if isinstance(words, str) else words:
            self.warnings.append(one)
            if not self.estimating:
                self.events.note(one)
