"""A font for words drawn into pictures: contact sheets, comparisons."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from PIL import ImageFont
from PIL.ImageFont import FreeTypeFont

# The first that is installed; all of them have Latin and Chinese.
CHINESE_FONTS = (
    "/usr/share/fonts/opentype/noto/NotoSansCJK-Regular.ttc",
    "/usr/share/fonts/google-noto-sans-cjk-fonts/NotoSansCJK-Regular.ttc",
    "/usr/share/fonts/noto-cjk/NotoSansCJK-Regular.ttc",
    "/usr/share/fonts/truetype/wqy/wqy-microhei.ttc",
    "/usr/share/fonts/truetype/wqy/wqy-zenhei.ttc",
    "/System/Library/Fonts/PingFang.ttc",
    "/System/Library/Fonts/Hiragino Sans GB.ttc",
    "C:/Windows/Fonts/msyh.ttc",
)


@lru_cache(maxsize=16)
def sheet_font(size_px: int) -> tuple[FreeTypeFont, bool]:
    """A font of this size, and whether it has Chinese; Pillow's own Latin one where none is installed."""
    for name in CHINESE_FONTS:
        if Path(name).is_file():
            return ImageFont.truetype(name, size_px), True
    found = ImageFont.load_default(size_px)
    if not isinstance(found, FreeTypeFont):
        raise TypeError("Pillow was built without FreeType")
    return found, False
