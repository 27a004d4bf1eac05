"""Control types of A1111's ControlNet extension: one choice narrows annotators and networks to a kind of map."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from danqing.spec.registry.controls import CONTROL_TYPES
from danqing.spec.registry.lookup import match, normalise

_TYPES = {one.key: one for one in CONTROL_TYPES}


@dataclass(frozen=True)
class ControlFilter:
    """A control type as a person chooses it.

    Attributes:
        key: Stable name; also accepted as `control_type` of a unit.
        name: A1111's label.
        types: The kinds of map it stands for, keys of `CONTROL_TYPES`.
        inverts: Whether a drawing in black on white may be turned into such a map.
        adapters: Whether it is for T2I-Adapters, whatever they follow.
    """

    key: str
    name: str
    types: tuple[str, ...]
    inverts: bool = False
    adapters: bool = False

    @property
    def aliases(self) -> tuple[str, ...]:
        """Other accepted spellings."""
        return self.types

    @property
    def annotators(self) -> tuple[str, ...]:
        """Keys of the annotators that make such maps, the best one first."""
        found = dict.fromkeys(name for key in self.types for name in _TYPES[key].annotators)
        return tuple(name for name in found if name != "none")

    def takes(self, annotator: str) -> bool:
        """Whether an annotator makes such maps; `none` takes a map that is there."""
        if annotator == "none" or annotator in self.annotators:
            return True
        starts = tuple(word for key in self.types for word in _TYPES[key].words)
        return annotator.startswith(starts) or (annotator == "invert" and self.inverts)

    def follows(self, control_types: Iterable[str | None], annotators: Iterable[str]) -> bool:
        """Whether a network follows such maps.

        Args:
            control_types: What the network says it follows.
            annotators: What it was trained with; looked at only where it says nothing.
        """
        said = {one for one in control_types if one}
        return bool(said & set(self.types)) if said else bool(set(annotators) & set(self.annotators))


CONTROL_FILTERS: tuple[ControlFilter, ...] = (
    ControlFilter("canny", "Canny", ("canny",), inverts=True),
    ControlFilter("lineart", "Lineart", ("lineart", "lineart_anime"), inverts=True),
    ControlFilter("softedge", "SoftEdge", ("softedge",)),
    ControlFilter("scribble", "Scribble/Sketch", ("scribble",), inverts=True),
    ControlFilter("mlsd", "MLSD", ("mlsd",), inverts=True),
    ControlFilter("depth", "Depth", ("depth",)),
    ControlFilter("normal", "NormalMap", ("normal",)),
    ControlFilter("segmentation", "Segmentation", ("segmentation",)),
    ControlFilter("openpose", "OpenPose", ("openpose", "mediapipe_face")),
    ControlFilter("tile", "Tile/Blur", ("tile",)),
    ControlFilter("shuffle", "Shuffle", ("shuffle",)),
    ControlFilter("inpaint", "Inpaint", ("inpaint",)),
    ControlFilter("ip2p", "InstructP2P", ("ip2p",)),
    ControlFilter("recolor", "Recolor", ("recolor", "brightness")),
    ControlFilter("qr", "QR", ("qr",)),
    ControlFilter("color", "Color", ("color",)),
    ControlFilter("t2i_adapter", "T2I-Adapter", (), adapters=True),
)
ALL = "All"
"""A1111's label for no filter."""


def find_control_filter(name: str) -> ControlFilter | None:
    """The control type with this key, label or kind of map; None for `All` and what is none.

    >>> [find_control_filter(one).key for one in ("NormalMap", "scribble/sketch", "lineart_anime")]
    ['normal', 'scribble', 'lineart']
    """
    return match(CONTROL_FILTERS, name) or next(
        (one for one in CONTROL_FILTERS if normalise(name) in normalise(one.name).split("/")), None
    )


def map_type(name: str) -> str:
    """The kind of map that a unit's `control_type` means: itself, or the first one of a control type of A1111.

    >>> map_type("NormalMap"), map_type("lineart_anime"), map_type("unheard of")
    ('normal', 'lineart_anime', 'unheard of')
    """
    if any(normalise(name) == normalise(key) for key in _TYPES):
        return name
    found = find_control_filter(name)
    return found.types[0] if found is not None and found.types else name
