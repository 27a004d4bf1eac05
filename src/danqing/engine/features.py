"""What a Session keeps of a denoiser's deep blocks from one step to the next (see `danqing.models.shallow`).

The state belongs to one pass of one Session and travels in its Calls: an executor keeps nothing of it.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from torch import Tensor

if TYPE_CHECKING:
    from danqing.engine.calls import Denoise


@dataclass(frozen=True, eq=False)
class _Kept:
    step: int
    words: Tensor
    beside: tuple[Any, ...]
    feature: Tensor

    def still_holds(self, words: Tensor, beside: tuple[Any, ...]) -> bool:
        """Whether a row reads the same words, with the same beside them."""
        return self.words is words and self.beside == beside


@dataclass(eq=False)
class FeatureCache:
    """The deep features of one pass.

    Attributes:
        interval: They are computed anew at every so many steps; 1 never keeps any.
        branch: Where the denoiser is cut.
    """

    interval: int
    branch: int
    _kept: dict[Hashable, _Kept] = field(default_factory=dict[Hashable, "_Kept"])

    def within(self, call: Denoise, step: int, keys: Sequence[Hashable]) -> Denoise:
        """A Call that keeps its deep features, or uses those of an earlier one.

        It uses them if all of its rows have some that are not too old and were computed for the same words, networks,
        ControlNets and image prompts: a row that began to be asked for, or whose words changed, has the whole Call
        computed. It is the same for all evaluations at one noise level.

        Args:
            call: Without features.
            step: Counted from 0.
            keys: What each row means within the pass.
        """
        if self.interval < 2:
            return call
        reuse = all(self._is_fresh(key, step, call, row) for row, key in enumerate(keys))
        return replace(call, features=FeatureUse(self, self.branch, step, tuple(keys), reuse))

    def _is_fresh(self, key: Hashable, step: int, call: Denoise, row: int) -> bool:
        kept = self._kept.get(key)
        if kept is None or not 0 < step - kept.step < self.interval:
            return False
        return kept.still_holds(call.contexts[row], _beside(call, row))

    def feature(self, key: Hashable) -> Tensor:
        """What was kept of a row [1, f, h, w]."""
        return self._kept[key].feature

    def keep(self, key: Hashable, step: int, feature: Tensor, told: tuple[Tensor, tuple[Any, ...]]) -> None:
        """Keep what a row's deep blocks said at a step, and what the row was told."""
        self._kept[key] = _Kept(step, told[0], told[1], feature)


@dataclass(frozen=True, eq=False)
class FeatureUse:
    """How a Denoise Call deals with deep features.

    Attributes:
        cache: Where they are.
        branch: Where the denoiser is cut.
        step: Of the Call.
        keys: Of its rows.
        reuse: Whether kept ones are used; else all is computed, and kept.
    """

    cache: FeatureCache
    branch: int
    step: int
    keys: tuple[Hashable, ...]
    reuse: bool

    def of(self, row: int) -> Tensor:
        """The kept feature [1, f, h, w] of a row."""
        return self.cache.feature(self.keys[row])

    def keep(self, call: Denoise, row: int, feature: Tensor) -> None:
        """Keep the feature [1, f, h, w] of a row of its Call, apart from the batch it was computed in."""
        told = (call.contexts[row], _beside(call, row))
        self.cache.keep(self.keys[row], self.step, feature.clone(), told)


def _beside(call: Denoise, row: int) -> tuple[Any, ...]:
    """What acts on a row besides its words."""
    controls = tuple((one.key, one.weight * one.rows[row]) for one in call.sorted_controls)
    images = None if call.images is None else (call.images.adapter, call.images.weight, call.images.rows[row])
    places = 0 if call.regions is None else len(call.regions.rows[row])
    return (call.networks, controls, images, places)
