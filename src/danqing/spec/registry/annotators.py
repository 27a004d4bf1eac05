"""The annotators: picture → control map. Names are those of A1111's ControlNet extension ("preprocessors").

`classical` annotators are formulas that Danqing carries itself; `learned` ones are networks whose weights a person
installs. A classical map never goes by a learned network's name. The code is in `danqing.annotators`.
"""

from __future__ import annotations

from collections.abc import Mapping

from danqing.spec.errors import InvalidRequestError
from danqing.spec.registry.annotator_types import (
    AnnotatorInfo,
    ControlClass,
    MapKind,
    ParameterInfo,
    ParameterValue,
    WeightsInfo,
)
from danqing.spec.registry.annotators_carried import CARRIED
from danqing.spec.registry.lookup import match, unknown

WEIGHTS_FOLDER = "models/ControlNetPreprocessor"
_AUX_WEIGHTS = "the model repository lllyasviel/Annotators"
_A, _B = ("threshold_a",), ("threshold_b",)


def _p(key: str, name: str, default: float, span: tuple[float, float], hint: str, *aliases: str) -> ParameterInfo:
    return ParameterInfo(key, name, default, *span, hint, aliases=aliases)


CLASSICAL: tuple[AnnotatorInfo, ...] = (
    AnnotatorInfo(
        "none", "none", ("use my own map",), "other", "color", "The picture as it is: for a map you already have."
    ),
    AnnotatorInfo(
        "invert",
        "invert (from white bg & black line)",
        (),
        "line",
        "color",
        "Black and white change places: turns a drawing on white paper into a line map.",
    ),
    AnnotatorInfo(
        "canny",
        "canny",
        (),
        "line",
        "binary",
        "Thin white outlines on black (Canny's edge detector). Exact; keeps every contour it finds.",
        (
            _p("low_threshold", "Low threshold", 100, (0, 256), "Lower keeps fainter outlines; good: 50 to 150.", *_A),
            _p("high_threshold", "High threshold", 200, (0, 256), "How strong an outline must start; 100 to 250.", *_B),
        ),
    ),
    AnnotatorInfo(
        "lineart_standard",
        "lineart_standard (from white bg & black line)",
        (),
        "line",
        "grey",
        "Keeps what is darker than its surroundings, white on black (a classical formula): for drawings on paper.",
        (
            _p("sigma_px", "Blur", 6.0, (0.5, 64), "Pixels looked at around each point; larger keeps wider strokes."),
            _p("floor", "Noise floor", 8, (0, 255), "Differences below it do not count as ink; raise it for scans."),
        ),
    ),
    AnnotatorInfo(
        "lineart_xdog",
        "lineart_xdog (classical)",
        ("xdog",),
        "line",
        "grey",
        "Ink lines, white on black, by XDoG (extended difference of Gaussians): a classical drawing, no network.",
        (
            _p("sigma", "Pen width", 1.4, (0.4, 8), "Width of the pen, for a picture of 512 px; good: 0.8 to 2."),
            _p("sharpness", "Sharpness", 40, (1, 200), "How fast a line goes from grey to white; good: 20 to 80."),
            _p("threshold", "Threshold", 2, (0, 64), "Contrast below it is not drawn; raise it for quiet areas.", *_A),
        ),
    ),
    AnnotatorInfo(
        "softedge_dog",
        "softedge_dog (classical)",
        ("softedge",),
        "line",
        "grey",
        "Soft white edges on black, from colour gradients that hold at three scales: a classical map, no HED.",
        (
            _p("sigma", "Softness", 2.0, (0.5, 16), "Width of the edges, for a picture of 512 px; good: 1 to 4."),
            _p("gain", "Strength", 1.0, (0.1, 8), "Brightness of weak edges; good: 0.5 to 2."),
        ),
    ),
    AnnotatorInfo(
        "scribble_canny",
        "scribble_canny (classical)",
        ("scribble",),
        "line",
        "binary",
        "Thick white strokes on black along the clear outlines, as if scribbled: Canny on a blurred picture.",
        (
            _p("threshold", "Threshold", 80, (1, 255), "Lower scribbles weaker outlines too; good: 40 to 150.", *_A),
            _p(
                "softness", "Softness", 3, (0.5, 16), "Blur before, for a picture of 512 px; higher leaves details out."
            ),
            _p("thickness", "Thickness", 6, (1, 32), "Width of the strokes, for a picture of 512 px; good: 4 to 10."),
        ),
    ),
    AnnotatorInfo(
        "scribble_xdog",
        "scribble_xdog",
        (),
        "line",
        "binary",
        "White strokes on black where it is much darker than around (A1111's formula): for drawings and photos.",
        (_p("threshold", "XDoG threshold", 32, (1, 64), "Lower scribbles more; good: 16 to 48.", *_A),),
    ),
    AnnotatorInfo(
        "mlsd_lsd",
        "mlsd_lsd (classical)",
        ("lsd", "straight lines"),
        "line",
        "binary",
        "Straight lines only, white on black, by the LSD line segment detector: for buildings and rooms; no M-LSD.",
        (
            _p("min_length", "Shortest line", 0.05, (0, 1), "Share of the shorter side; raise it to lose small lines."),
            _p("thickness_px", "Thickness", 1, (1, 16), "Width of the drawn lines in pixels."),
        ),
    ),
    AnnotatorInfo(
        "tile_resample",
        "tile_resample",
        ("tile",),
        "detail",
        "color",
        "The picture made coarser, in colour: the painter invents new detail over it.",
        (_p("down_sampling_rate", "Down-sampling rate", 1.0, (1, 8), "1 keeps everything; 4 leaves a lot free.", *_A),),
    ),
    AnnotatorInfo(
        "blur_gaussian",
        "blur_gaussian",
        ("blur",),
        "detail",
        "color",
        "The picture blurred: keeps colours and composition, frees the detail.",
        (_p("sigma_px", "Sigma", 9.0, (0.01, 64), "Radius of the blur in pixels; good: 3 to 20.", "sigma", *_A),),
    ),
    AnnotatorInfo(
        "grayscale",
        "grayscale",
        ("greyscale", "recolor_luminance"),
        "detail",
        "grey",
        "Brightness only: for colouring an old photo.",
        (_p("gamma", "Gamma", 1.0, (0.1, 2), "Below 1 brightens, above 1 darkens.", *_A),),
    ),
    AnnotatorInfo(
        "t2ia_color_grid",
        "t2ia_color_grid",
        ("color", "color grid"),
        "detail",
        "flat",
        "A mosaic of flat colours: where which colour goes, and nothing else.",
        (_p("cell_px", "Cell", 64, (2, 512), "Side of a cell in pixels; the finest useful is 16."),),
    ),
    AnnotatorInfo(
        "shuffle",
        "shuffle",
        ("content shuffle",),
        "other",
        "color",
        "The picture warped at random: its colours and textures stay, its shapes go. The seed chooses the warp.",
        (_p("grain", "Grain", 0.5, (0.05, 1), "Size of the swirls as a share of the shorter side; small mixes more."),),
        seeded=True,
    ),
    AnnotatorInfo(
        "threshold",
        "threshold",
        ("binary",),
        "line",
        "binary",
        "White where all three colours are above the threshold, black elsewhere.",
        (_p("threshold", "Threshold", 127, (0, 255), "Brightness where white begins.", "binarization_threshold", *_A),),
    ),
    AnnotatorInfo(
        "seg_superpixels",
        "seg_superpixels (classical)",
        ("superpixels",),
        "block",
        "flat",
        "Flat regions of like colour (superpixels, merged): a classical map that knows no names of things. "
        "The colours of the ADE20K palette are drawn by the seed and mean nothing but 'another region'.",
        (
            _p("superpixels", "Superpixels", 400, (16, 2000), "Pieces before merging; more follow finer shapes."),
            _p("merge_distance", "Merge distance", 12, (0, 100), "Colours nearer than this (ΔE) become one region."),
            ParameterInfo(
                "colors",
                "Colours",
                "palette",
                hint="palette: colours of the ADE20K list; mean: each region's own mean colour.",
                choices=("palette", "mean"),
            ),
        ),
        seeded=True,
    ),
    AnnotatorInfo(
        "depth_relief",
        "depth_relief (classical guess)",
        ("relief",),
        "block",
        "grey",
        "Near is white: the silhouette blown up like a balloon (Poisson inflation). A guess from the outline alone, "
        "not a measured or learned depth; the picture must have transparency or a plain background.",
        (
            _p("base", "Base", 0.3, (0, 1), "How far the whole shape stands before the background, 0 to 1."),
            _p("tolerance", "Tolerance", 10, (0, 100), "How different (ΔE) from the background the shape must be."),
        ),
    ),
    AnnotatorInfo(
        "normal_relief",
        "normal_relief (classical guess)",
        (),
        "block",
        "normal",
        "Normals of the same balloon as depth_relief: blue faces you, red left, green up. A guess from the outline.",
        (
            _p("strength", "Strength", 1.0, (0.05, 4), "Height of the balloon; 1 makes a disc a ball."),
            _p("tolerance", "Tolerance", 10, (0, 100), "How different (ΔE) from the background the shape must be."),
        ),
    ),
    AnnotatorInfo(
        "normal_from_depth",
        "normal_from_depth (computed)",
        (),
        "block",
        "normal",
        "Normals computed from a depth map you give it (near = white): blue faces you, red left, green up.",
        (
            _p("strength", "Strength", 1.0, (0.05, 8), "Depth from black to white, in halves of the shorter side."),
            _p("smooth_px", "Smoothing", 1.0, (0, 16), "Blur of the depth first, against steps in 8-bit maps."),
        ),
    ),
)


def _aux(key: str, aliases: tuple[str, ...], kind: MapKind, files: tuple[str, ...], hint: str) -> AnnotatorInfo:
    """A network that controlnet-aux runs; class and stand-in follow from the name."""
    start = key.split("_", maxsplit=1)[0]
    classes: dict[str, tuple[ControlClass, str | None]] = {
        "softedge": ("line", "softedge_dog"),
        "scribble": ("line", "scribble_xdog"),
        "lineart": ("line", "lineart_xdog"),
        "mlsd": ("line", "mlsd_lsd"),
        "depth": ("block", "depth_relief"),
        "normal": ("block", "normal_relief"),
        "openpose": ("pose", key.replace("openpose", "mediapipe_pose")),
    }
    control_class, instead = classes[start]
    weights = WeightsInfo("controlnet-aux", "controlnet_aux", files, _AUX_WEIGHTS)
    parameters = _MLSD if key == "mlsd" else ()
    return AnnotatorInfo(key, key, aliases, control_class, kind, hint, parameters, weights, instead=instead)


_MLSD = (
    _p("value_threshold", "MLSD value threshold", 0.1, (0.01, 2), "Lower finds fainter lines; good: 0.05 to 0.3.", *_A),
    _p("distance_threshold", "MLSD distance threshold", 0.1, (0.01, 20), "Higher loses short lines.", *_B),
)
_HED, _PIDI, _POSE = (
    ("ControlNetHED.pth",),
    ("table5_pidinet.pth",),
    ("body_pose_model.pth", "hand_pose_model.pth", "facenet.pth"),
)
_SKETCH = ("sk_model.pth", "sk_model2.pth")

LEARNED: tuple[AnnotatorInfo, ...] = (
    _aux("softedge_hed", ("hed",), "grey", _HED, "Soft white edges by the HED network."),
    _aux("softedge_hedsafe", ("hed_safe",), "grey", _HED, "HED in a few grey steps, so that no picture hides in it."),
    _aux("softedge_pidinet", ("pidinet",), "grey", _PIDI, "Soft white edges by the PiDiNet network."),
    _aux("softedge_pidisafe", ("pidinet_safe", "softedge_pidsafe"), "grey", _PIDI, "PiDiNet in a few grey steps."),
    _aux("scribble_hed", (), "binary", _HED, "Thick strokes from HED's edges."),
    _aux("scribble_pidinet", ("pidinet_scribble",), "binary", _PIDI, "Thick strokes from PiDiNet's edges."),
    _aux("lineart_realistic", ("lineart",), "grey", _SKETCH, "A fine pencil drawing, white on black, by a network."),
    _aux("lineart_coarse", (), "grey", _SKETCH, "A coarse pencil drawing, white on black, by a network."),
    _aux("lineart_anime", (), "grey", ("netG.pth",), "Anime line art, white on black, by a network."),
    _aux("mlsd", (), "binary", ("mlsd_large_512_fp32.pth",), "Straight lines by the M-LSD network."),
    _aux("depth_midas", ("depth",), "grey", ("dpt_hybrid-midas-501f0c75.pt",), "Near is white: depth by MiDaS."),
    _aux("normal_bae", (), "normal", ("scannet.pt",), "Normals by the NormalBae network: red left, green up."),
    _aux("openpose", (), "color", _POSE, "The body's joints and limbs, 18 points, by OpenPose."),
    _aux("openpose_hand", (), "color", _POSE, "Body and fingers by OpenPose."),
    _aux("openpose_face", (), "color", _POSE, "Body and face points by OpenPose."),
    _aux("openpose_faceonly", (), "color", _POSE, "Face points only, by OpenPose."),
    _aux("openpose_full", (), "color", _POSE, "Body, fingers and face by OpenPose."),
    AnnotatorInfo(
        "depth_anything",
        "depth_anything",
        ("depth_anything_v2",),
        "block",
        "grey",
        "Near is white: depth by Depth Anything or DPT, from a model folder in transformers' layout.",
        weights=WeightsInfo(
            "transformers",
            "transformers",
            ("depth_anything",),
            "the model repository depth-anything/Depth-Anything-V2-Small-hf (config.json and model.safetensors)",
        ),
        instead="depth_relief",
    ),
    AnnotatorInfo(
        "seg_upernet_ade20k",
        "seg_upernet_ade20k",
        ("segmentation",),
        "block",
        "flat",
        "What is where, in the 150 colours of ADE20K, by UperNet, from a model folder in transformers' layout.",
        weights=WeightsInfo(
            "transformers",
            "transformers",
            ("seg_upernet_ade20k",),
            "the model repository openmmlab/upernet-convnext-small (config.json and model.safetensors)",
        ),
        instead="seg_superpixels",
    ),
    *CARRIED,
)

ANNOTATORS: tuple[AnnotatorInfo, ...] = (*CLASSICAL, *LEARNED)


def find_annotator(name: str) -> AnnotatorInfo:
    """The annotator of this key, label or alias, in any case.

    Raises:
        InvalidRequestError: If there is none; it names the nearest.

    >>> find_annotator("Softedge-HED").key
    'softedge_hed'
    """
    info = match(ANNOTATORS, name)
    if info is None:
        raise unknown(ANNOTATORS, name, field="annotator", what="annotator")
    return info


def resolve_parameters(info: AnnotatorInfo, given: Mapping[str, object]) -> dict[str, ParameterValue]:
    """Every setting of an annotator, checked, with defaults for those not given.

    Raises:
        InvalidRequestError: A setting that it does not have, has twice, or that has a wrong value.

    >>> resolve_parameters(find_annotator("canny"), {"threshold_a": "50"})
    {'low_threshold': 50.0, 'high_threshold': 200}
    """
    values: dict[str, ParameterValue] = {item.key: item.default for item in info.parameters}
    seen: set[str] = set()
    for key, value in given.items():
        found = next((item for item in info.parameters if key in {item.key, *item.aliases}), None)
        if found is None or found.key in seen:
            raise InvalidRequestError(
                f"{info.key} has no such setting" if found is None else f"{found.name} is given twice",
                field=f"params.{key}",
                value=value,
                allowed=", ".join(item.key for item in info.parameters) or "no settings at all",
                next_step="leave it out",
            )
        seen.add(found.key)
        values[found.key] = found.check(value)
    return values
