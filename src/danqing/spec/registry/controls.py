"""What control networks follow, and how the published files are named after it.

What a map means stands in no tensor: `control_v11p_sd15_canny` follows Canny's outlines because its name says so. Names
are those of the ControlNet 1.1 files (Zhang 2023), of the T2I-Adapters and of what the community publishes beside them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from danqing.spec.control import INPAINT_ANNOTATOR
from danqing.spec.registry.lookup import match


@dataclass(frozen=True)
class ControlTypeInfo:
    """A kind of control map.

    Attributes:
        key: Its name, as A1111's extension has it.
        words: Pieces of file names that tell it, lower-case; a type earlier in the list wins.
        annotators: Keys of the annotators that make such maps, the one that training used first.
        union_id: Its number in the union ControlNets for SDXL; None where they have none for it.
    """

    key: str
    words: tuple[str, ...]
    annotators: tuple[str, ...]
    union_id: int | None = None

    @property
    def name(self) -> str:
        """The label a person sees."""
        return self.key

    @property
    def aliases(self) -> tuple[str, ...]:
        """Other accepted spellings."""
        return self.words


_PARTS = ("_full", "", "_hand", "_face", "_faceonly")
_OPENPOSE = (*(f"openpose{part}" for part in _PARTS), *(f"mediapipe_pose{part}" for part in _PARTS))
_HED = ("softedge_hed", "softedge_pidisafe", "softedge_hedsafe", "softedge_hed_bsds")
_SOFT = ("softedge_pidinet", *_HED, "softedge_dog")
_SCRIBBLE = ("scribble_pidinet", "scribble_hed", "scribble_hed_bsds", "scribble_xdog", "scribble_canny")
_LINES = ("lineart_realistic", "lineart_coarse", "lineart_standard", "lineart_xdog")

CONTROL_TYPES: tuple[ControlTypeInfo, ...] = (
    ControlTypeInfo("inpaint", ("inpaint", "repaint"), (INPAINT_ANNOTATOR,), 7),
    ControlTypeInfo("lineart_anime", ("lineart_anime", "anime_lineart"), ("lineart_anime", *_LINES), 3),
    ControlTypeInfo("lineart", ("lineart",), _LINES, 3),
    ControlTypeInfo("scribble", ("scribble", "sketch"), _SCRIBBLE, 2),
    ControlTypeInfo("canny", ("canny",), ("canny",), 3),
    ControlTypeInfo("mlsd", ("mlsd",), ("mlsd", "mlsd_tiny", "mlsd_lsd"), 3),
    ControlTypeInfo("softedge", ("softedge", "hed"), _SOFT, 2),
    ControlTypeInfo("depth", ("depth",), ("depth_midas", "depth_anything", "depth_relief"), 1),
    ControlTypeInfo("normal", ("normal",), ("normal_bae", "normal_from_depth", "normal_relief"), 4),
    ControlTypeInfo("mediapipe_face", ("mediapipe_face", "mediapipeface"), ("mediapipe_face",)),
    ControlTypeInfo("openpose", ("openpose", "pose"), _OPENPOSE, 0),
    ControlTypeInfo("segmentation", ("seg",), ("seg_upernet_ade20k", "seg_superpixels"), 5),
    ControlTypeInfo("shuffle", ("shuffle",), ("shuffle",)),
    ControlTypeInfo("tile", ("tile", "blur"), ("tile_resample", "blur_gaussian"), 6),
    # Both read the picture itself.
    ControlTypeInfo("ip2p", ("ip2p", "pix2pix"), ("none",)),
    ControlTypeInfo("qr", ("qrcode", "qr_", "monster"), ("none", "threshold", "grayscale")),
    ControlTypeInfo("brightness", ("brightness", "illumination"), ("grayscale",)),
    ControlTypeInfo("recolor", ("recolor",), ("grayscale",)),
    ControlTypeInfo("color", ("color",), ("t2ia_color_grid",)),
    ControlTypeInfo("style", ("style",), ()),
)
"""Longer words first: `lineart_anime` before `lineart`, `openpose` before `pose`, `recolor` before `color`."""
WORDS: tuple[tuple[str, str], ...] = tuple((word, one.key) for one in CONTROL_TYPES for word in one.words)
"""(piece of a file's name, key of the type)."""


def control_type_of(name: str) -> ControlTypeInfo | None:
    """What a ControlNet follows, told from its file's or folder's name; None where the name does not say.

    >>> [control_type_of(f"control_v11{one}").key for one in ("f1p_sd15_depth", "p_sd15s2_lineart_anime", "p_sd15_seg")]
    ['depth', 'lineart_anime', 'segmentation']
    """
    lower = name.lower()
    return next((one for one in CONTROL_TYPES if any(word in lower for word in one.words)), None)


def union_types(count: int) -> tuple[ControlTypeInfo, ...]:
    """What a union ControlNet with so many kinds of maps follows."""
    return tuple(one for one in CONTROL_TYPES if one.union_id is not None and one.union_id < count)


def union_id(key: str | None) -> int | None:
    """The number of a type in union ControlNets; None for none."""
    return next((one.union_id for one in CONTROL_TYPES if one.key == key), None)


def union_type(wanted: str, types: Iterable[str]) -> ControlTypeInfo | None:
    """The type of a union ControlNet by its key or by an annotator that makes such maps.

    Args:
        wanted: Key of a type, or of an annotator.
        types: Keys of the types that the ControlNet knows.

    >>> union_type("mlsd_lsd", ["canny", "mlsd", "depth"]).key, union_type("shuffle", ["canny"])
    ('mlsd', None)
    """
    known = set(types)
    offered = [one for one in CONTROL_TYPES if one.key in known]
    making = (one for one in offered if wanted in one.annotators and wanted != "none")
    return match(offered, wanted) or next(making, None)
