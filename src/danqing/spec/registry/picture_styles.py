"""Words for the styles that the built-in family draws in: what the interrogator can call a picture's style."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PictureStyle:
    """A style and its word in each language, as the captions of the training say it (a test holds them together).

    Attributes:
        key: The style's name in `danqing.json` and in Requests.
        en: English.
        zh_hans: Simplified Chinese.
        zh_hant: Traditional Chinese.
    """

    key: str
    en: str
    zh_hans: str
    zh_hant: str

    def name(self, locale: str) -> str:
        """The word in `en`, `zh` (Simplified) or `zh-hant`."""
        return {"en": self.en, "zh": self.zh_hans, "zh-hant": self.zh_hant}[locale]


PICTURE_STYLES: dict[str, PictureStyle] = {
    style.key: style
    for style in (
        PictureStyle("3d", "3d", "3d", "3d"),
        PictureStyle("flat", "flat", "扁平", "扁平"),
        PictureStyle("line", "line art", "线稿", "線稿"),
        PictureStyle("gradient", "gradient style", "渐变风格", "漸變風格"),
        PictureStyle("cartoon", "cartoon", "卡通", "卡通"),
        PictureStyle("icon", "icon", "图标", "圖示"),
        *(PictureStyle(name, name, name, name) for name in ("noto", "blob", "twemoji", "emojione", "fxemoji")),
    )
}
"""Every style by its key."""
