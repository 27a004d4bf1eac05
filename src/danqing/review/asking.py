"""What a vision-language model is asked, whoever runs it. No torch."""

from __future__ import annotations

from typing import Final

from PIL import Image

from danqing.review.base import MAX_BRIEF_CHARS
from danqing.review.grammar import MOST

SYSTEM: Final = (
    "You are an art director. You compare a picture with its brief and name the few changes that would help most. "
    "Answer with JSON only."
)
SHOWN_PX: Final = 1024


def question(brief: str, width_px: int, height_px: int) -> str:
    """The words that go with a picture of this size."""
    return (
        f"The brief of this picture ({width_px}×{height_px} pixels) is:\n{brief[:MAX_BRIEF_CHARS]}\n\n"
        f"List at most {min(6, MOST)} changes as a JSON array, the most important first. Each is an object:\n"
        '{"bbox_2d": [x1, y1, x2, y2] in pixels of this picture, or null for all of it, '
        '"prompt": "what should be seen there, in a few words a painter can follow", '
        '"reason": "what is wrong now", "strength": 0.0 to 1.0}\n'
        "If nothing needs to change, answer []."
    )


def shrunk(picture: Image.Image, most_px: int = SHOWN_PX) -> Image.Image:
    """The picture on white, no side longer than this."""
    image = picture
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        image = Image.new("RGB", rgba.size, (255, 255, 255))
        image.paste(rgba, mask=rgba.getchannel("A"))
    image = image.convert("RGB")
    if max(image.size) > most_px:
        image.thumbnail((most_px, most_px), Image.Resampling.LANCZOS)
    return image
