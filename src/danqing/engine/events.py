"""What the engine tells of a Session, in order, to the sink it was submitted with."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from danqing.spec.errors import DanqingError


@dataclass(frozen=True)
class Progressed:
    """Where a Session stands.

    Attributes:
        key: The Session.
        step: Steps done in this pass.
        steps: Steps of this pass.
        fraction: Of the whole Session, 0 to 1.
        pass_index: Which pass.
        stage: load, encode, denoise, decode or save.
        eta_s: Estimated seconds to the end, once there is something to go by.
    """

    key: str
    step: int
    steps: int
    fraction: float
    pass_index: int
    stage: str
    eta_s: float | None


@dataclass(frozen=True)
class Previewed:
    """A small picture of what is being painted, uint8 [h, w, 3]."""

    key: str
    step: int
    image: npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Finished:
    """The end of a Session: a result, or an error (`CancelledError` when it was stopped).

    Attributes:
        key: The Session.
        result: What the generator returned.
        error: Why there is no result.
        total_s: Seconds from submission to the end.
        by_call_s: Seconds of model time by kind of Call (its share of shared batches).
    """

    key: str
    result: Any = None
    error: DanqingError | None = None
    total_s: float = 0.0
    by_call_s: dict[str, float] = field(default_factory=dict[str, float])


SessionEvent = Progressed | Previewed | Finished
