"""OpenAPI descriptions of the bodies that are read by hand, with an example for every kind."""

from __future__ import annotations

from typing import Any

_SHA = "sha256:" + "0" * 64

PAINT_EXAMPLES: dict[str, Any] = {
    "txt2img": {
        "summary": "Words to four pictures",
        "value": {"kind": "txt2img", "prompt": "a red apple, 3d", "count": 4, "seed": 7},
    },
    "txt2img_hires": {
        "summary": "Words to a picture twice the size",
        "value": {
            "kind": "txt2img",
            "prompt": "(orange cat:1.2), flat",
            "negative_prompt": "text",
            "width_px": 128,
            "height_px": 128,
            "sampling": {"sampler": "DPM++ 2M", "schedule": "karras", "steps": 20},
            "guidance": {"scale": 5.5},
            "hires": {"scale": 2, "upscaler": "latent", "strength": 0.6},
        },
    },
    "img2img": {
        "summary": "Words and an uploaded picture",
        "value": {"kind": "img2img", "prompt": "a green apple", "image": _SHA, "strength": 0.6},
    },
    "inpaint": {
        "summary": "Repaint what the mask shows white",
        "value": {"kind": "inpaint", "prompt": "a hat", "image": _SHA, "mask": _SHA, "mask_blur_px": 4},
    },
    "outpaint": {
        "summary": "Extend a painted picture to both sides",
        "value": {
            "kind": "outpaint",
            "prompt": "a meadow",
            "image": "record:01J00000000000000000000000",
            "margins": {"left_px": 64, "right_px": 64},
        },
    },
    "drag": {
        "summary": "Drag two points of a painted picture",
        "value": {
            "kind": "drag",
            "prompt": "a red apple, 3d",
            "image": "record:01J00000000000000000000000",
            "points": [
                {"from_x_px": 40, "from_y_px": 22, "to_x_px": 60, "to_y_px": 18},
                {"from_x_px": 64, "from_y_px": 100, "to_x_px": 64, "to_y_px": 100},
            ],
            "mode": "fast",
        },
    },
    "words": {
        "summary": "Exchange a word of a painted picture; its Plan says what it showed",
        "value": {
            "kind": "words",
            "image": "record:01J00000000000000000000000",
            "prompt": "a green apple, 3d",
            "weights": [{"word": "green", "weight": 1.5}],
            "local": [{"source": "apple", "target": "apple"}],
        },
    },
    "retouch": {
        "summary": "Paint an apple again, make the picture larger, cut it out",
        "value": {
            "kind": "retouch",
            "prompt": "a red apple, 3d",
            "image": "record:01J00000000000000000000000",
            "steps": [
                {"kind": "detail", "detect": "apple", "strength": 0.4},
                {"kind": "upscale", "scale": 2},
                {"kind": "cutout"},
            ],
        },
    },
}

_PAINT_KINDS = (
    "Txt2ImgRequest",
    "Img2ImgRequest",
    "InpaintRequest",
    "OutpaintRequest",
    "DragRequest",
    "RetouchRequest",
    "WordsRequest",
)


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


PAINT_BODY: dict[str, Any] = {
    "required": True,
    "content": {
        "application/json": {
            "schema": {"anyOf": [_ref(name) for name in _PAINT_KINDS]},
            "examples": PAINT_EXAMPLES,
        }
    },
}
FILE_BODY: dict[str, Any] = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["file"],
                "properties": {"file": {"type": "string", "format": "binary", "description": "PNG, JPEG or WebP"}},
            }
        }
    },
}
REPRODUCE_BODY: dict[str, Any] = {
    "required": True,
    "content": {
        "application/json": {
            "schema": _ref("ReproduceBody"),
            "examples": {"record": {"summary": "A Record", "value": {"record": "01J00000000000000000000000"}}},
        }
    },
}
_RECORD = "record:01J00000000000000000000000"


def _json_body(schema: str, **examples: dict[str, Any]) -> dict[str, Any]:
    return {"required": True, "content": {"application/json": {"schema": _ref(schema), "examples": examples}}}


LOOK_BODY = _json_body("LookBody", record={"summary": "A Record", "value": {"image": _RECORD}})
SCORE_BODY = _json_body(
    "ScoreBody", record={"summary": "A Record", "value": {"image": _RECORD, "prompt": "a red apple, 3d"}}
)
SEARCH_BODY = _json_body(
    "SearchBody",
    words={"summary": "By words", "value": {"search": "a red apple", "limit": 20}},
    picture={"summary": "By a picture like it", "value": {"like": _RECORD}},
)
EXPLAIN_BODY: dict[str, Any] = {
    "required": True,
    "content": {
        "application/json": {
            "schema": _ref("ExplainBody"),
            "examples": {"schedule": {"summary": "Editing", "value": {"prompt": "a [cat:dog:0.5]", "steps": 20}}},
        }
    },
}
