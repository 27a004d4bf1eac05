"""Names of colours in three languages: what captions, the interrogator and the evaluation call a colour."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ColorName:
    """One colour word: English, Simplified and Traditional Chinese, and the sRGB value it is painted with.

    Attributes:
        key: The English word, also the identifier.
        zh_hans: Simplified Chinese.
        zh_hant: Traditional Chinese.
        rgb: sRGB, 0 to 255.
        measured: Whether `danqing.models.colors` can give this name to a pixel; shades (dark blue) are only painted.
    """

    key: str
    zh_hans: str
    zh_hant: str
    rgb: tuple[int, int, int]
    measured: bool = True

    def name(self, locale: str) -> str:
        """The word in `en`, `zh` (Simplified) or `zh-hant`."""
        return {"en": self.key, "zh": self.zh_hans, "zh-hant": self.zh_hant}[locale]


_BASIC = (
    ColorName("red", "红色", "紅色", (226, 58, 54)),
    ColorName("orange", "橙色", "橙色", (247, 140, 36)),
    ColorName("yellow", "黄色", "黃色", (252, 214, 60)),
    ColorName("green", "绿色", "綠色", (76, 178, 88)),
    ColorName("cyan", "青色", "青色", (60, 196, 206)),
    ColorName("blue", "蓝色", "藍色", (54, 118, 220)),
    ColorName("purple", "紫色", "紫色", (136, 82, 200)),
    ColorName("pink", "粉色", "粉色", (250, 152, 196)),
    ColorName("brown", "棕色", "棕色", (136, 88, 58)),
    ColorName("gray", "灰色", "灰色", (150, 150, 150)),
    ColorName("black", "黑色", "黑色", (24, 24, 24)),
    ColorName("white", "白色", "白色", (255, 255, 255)),
)
_SHADES = (
    ColorName("dark red", "深红色", "深紅色", (128, 22, 28), measured=False),
    ColorName("dark green", "深绿色", "深綠色", (20, 88, 44), measured=False),
    ColorName("dark blue", "深蓝色", "深藍色", (22, 42, 118), measured=False),
    ColorName("dark purple", "深紫色", "深紫色", (72, 30, 116), measured=False),
    ColorName("light green", "浅绿色", "淺綠色", (186, 232, 180), measured=False),
    ColorName("light blue", "浅蓝色", "淺藍色", (176, 216, 250), measured=False),
    ColorName("light purple", "浅紫色", "淺紫色", (212, 190, 244), measured=False),
    ColorName("light yellow", "浅黄色", "淺黃色", (255, 244, 186), measured=False),
)

COLORS: dict[str, ColorName] = {c.key: c for c in (*_BASIC, *_SHADES)}
"""Every colour word by its English name."""

CHROMATIC = ("red", "orange", "yellow", "green", "cyan", "blue", "purple", "pink")
"""The measured colours that have a hue of their own: what a picture can be recoloured to."""
