"""The look: rice paper, ink, cinnabar for the one primary action, azurite for selection and links."""

from __future__ import annotations

from gradio.themes.base import Base
from gradio.themes.utils import colors, sizes
from gradio.themes.utils.fonts import Font

RICE_PAPER = "#FAF8F3"
INK = "#1E1B18"
CINNABAR = "#C8372D"
CINNABAR_DEEP = "#A92B22"
AZURITE = "#2A6F97"
AZURITE_LIGHT = "#8CC3E0"

_AZURITE = colors.Color(
    name="azurite",
    c50="#EEF5F8",
    c100="#DCEAF1",
    c200="#BBD6E4",
    c300="#8FBBD1",
    c400="#5A97B8",
    c500=AZURITE,
    c600="#245F82",
    c700="#1E506D",
    c800="#193F56",
    c900="#143243",
    c950="#0D212D",
)
_STONE = colors.Color(
    name="danqing_stone",
    c50=RICE_PAPER,
    c100="#F2EFE7",
    c200="#E3E0D5",
    c300="#CBC9BC",
    c400="#9C9C90",
    c500="#72746A",
    c600="#585A52",
    c700="#42433D",
    c800="#2C2B28",
    c900="#211F1D",
    c950="#171513",
)
FONTS = (
    "-apple-system",
    "BlinkMacSystemFont",
    "Segoe UI",
    "Noto Sans",
    "PingFang SC",
    "Microsoft YaHei",
    "Noto Sans CJK SC",
    "Noto Sans SC",
    "system-ui",
    "sans-serif",
)
MONO_FONTS = ("ui-monospace", "SFMono-Regular", "Consolas", "Noto Sans Mono CJK SC", "monospace")


class DanqingTheme(Base):
    """Light and dark, from system fonts only: nothing is fetched."""

    def __init__(self) -> None:
        super().__init__(
            primary_hue=_AZURITE,
            secondary_hue=_AZURITE,
            neutral_hue=_STONE,
            text_size=sizes.text_sm,
            spacing_size=sizes.spacing_sm,
            radius_size=sizes.radius_md,
            font=[Font(name) for name in FONTS],
            font_mono=[Font(name) for name in MONO_FONTS],
        )
        self.name = "danqing"
        self.set(**_BODY, **_BLOCKS, **_INPUTS, **_BUTTONS)


_BODY = {
    "body_background_fill": RICE_PAPER,
    "body_background_fill_dark": "#171513",
    "body_text_color": INK,
    "body_text_color_dark": "#EDE8DE",
    "body_text_color_subdued": "#5F6159",
    "body_text_color_subdued_dark": "#A9A89C",
    "background_fill_primary": "#FFFEFB",
    "background_fill_primary_dark": "#211F1D",
    "background_fill_secondary": "#F2EFE7",
    "background_fill_secondary_dark": "#2C2B28",
    "border_color_primary": "#E3E0D5",
    "border_color_primary_dark": "#3A3834",
    "border_color_accent": AZURITE,
    "border_color_accent_dark": "#5A97B8",
    "color_accent": AZURITE,
    "color_accent_soft": "#E4EEF3",
    "color_accent_soft_dark": "#1D3443",
    "link_text_color": AZURITE,
    "link_text_color_dark": AZURITE_LIGHT,
    "link_text_color_hover": "#1E506D",
    "link_text_color_hover_dark": "#B8DCEF",
}
_BLOCKS = {
    "block_background_fill": "transparent",
    "block_background_fill_dark": "transparent",
    "block_border_width": "0px",
    "block_shadow": "none",
    "block_shadow_dark": "none",
    "block_padding": "0px",
    "block_title_text_color": "#42433D",
    "block_title_text_color_dark": "#CFCBC0",
    "block_title_text_weight": "500",
    "block_title_text_size": "12px",
    "block_label_text_size": "12px",
    "block_info_text_color": "#6A6C63",
    "block_info_text_color_dark": "#A9A89C",
    "block_info_text_size": "11.5px",
    "block_radius": "6px",
    "form_gap_width": "0px",
    "layout_gap": "10px",
    "panel_border_width": "0px",
}
_INPUTS = {
    "input_background_fill": "#FFFEFB",
    "input_background_fill_dark": "#211F1D",
    "input_border_color": "#CBC9BC",
    "input_border_color_dark": "#4A4843",
    "input_border_color_focus": AZURITE,
    "input_border_color_focus_dark": "#5A97B8",
    "input_border_width": "1px",
    "input_padding": "6px 9px",
    "input_radius": "6px",
    "input_shadow": "none",
    "input_shadow_focus": "0 0 0 2px #2A6F9733",
    "input_shadow_focus_dark": "0 0 0 2px #8CC3E055",
    "input_placeholder_color": "#75776D",
    "input_placeholder_color_dark": "#918F85",
    "input_text_size": "13px",
    "slider_color": AZURITE,
    "slider_color_dark": "#5A97B8",
    "checkbox_background_color_selected": AZURITE,
    "checkbox_background_color_selected_dark": "#5A97B8",
    "checkbox_border_color_selected": AZURITE,
    "checkbox_border_color_selected_dark": "#5A97B8",
    "checkbox_label_background_fill": "#FFFEFB",
    "checkbox_label_background_fill_dark": "#211F1D",
    "checkbox_label_background_fill_hover": "#F2EFE7",
    "checkbox_label_background_fill_hover_dark": "#2C2B28",
    "checkbox_label_background_fill_selected": "#E4EEF3",
    "checkbox_label_background_fill_selected_dark": "#1D3443",
    "checkbox_label_border_color": "#CBC9BC",
    "checkbox_label_border_color_dark": "#4A4843",
    "checkbox_label_border_color_selected": AZURITE,
    "checkbox_label_border_color_selected_dark": "#5A97B8",
    "checkbox_label_border_width": "1px",
    "checkbox_label_text_color_selected": "#1E506D",
    "checkbox_label_text_color_selected_dark": "#B8DCEF",
    "checkbox_label_text_size": "12px",
    "checkbox_label_text_weight": "400",
    "checkbox_label_gap": "6px",
    "checkbox_label_padding": "3px 9px",
    "checkbox_label_shadow": "none",
}
_BUTTONS = {
    "button_primary_background_fill": CINNABAR,
    "button_primary_background_fill_dark": CINNABAR,
    "button_primary_background_fill_hover": CINNABAR_DEEP,
    "button_primary_background_fill_hover_dark": CINNABAR_DEEP,
    "button_primary_text_color": "#FFFFFF",
    "button_primary_text_color_dark": "#FFFFFF",
    "button_primary_border_color": CINNABAR,
    "button_primary_border_color_dark": CINNABAR,
    "button_secondary_background_fill": "#FFFEFB",
    "button_secondary_background_fill_dark": "#2C2B28",
    "button_secondary_background_fill_hover": "#F2EFE7",
    "button_secondary_background_fill_hover_dark": "#3A3834",
    "button_secondary_border_color": "#CBC9BC",
    "button_secondary_border_color_dark": "#4A4843",
    "button_secondary_text_color": INK,
    "button_secondary_text_color_dark": "#EDE8DE",
    "button_border_width": "1px",
    "button_large_radius": "8px",
    "button_large_text_weight": "600",
    "button_transform_active": "none",
    "button_transform_hover": "none",
}
