"""What is painted around a drawing: background, mirror, another hue, copies. A Scene is words and pixels alike."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from danqing.models.colors import hue_saturation_value, measure_colors, shift_hue
from danqing.spec.registry.colors import CHROMATIC, COLORS
from danqing.training.builtin.config import SceneConfig
from danqing.training.builtin.dataset import Picture

CHECKER_PX = 8
CHECKER_RGB = ((255, 255, 255), (204, 204, 204))
BACKGROUNDS = tuple(key for key in COLORS if key != "white")
# Where the copies stand: left, top and size as shares of the picture.
PLACES: dict[int, tuple[tuple[float, float, float], ...]] = {
    2: ((0.01, 0.25, 0.48), (0.51, 0.25, 0.48)),
    3: ((0.26, 0.02, 0.48), (0.01, 0.5, 0.48), (0.51, 0.5, 0.48)),
    4: ((0.01, 0.01, 0.48), (0.51, 0.01, 0.48), (0.01, 0.51, 0.48), (0.51, 0.51, 0.48)),
}


@dataclass(frozen=True)
class Scene:
    """How one training picture is made of one drawing.

    Attributes:
        mirrored: Flipped left to right.
        background: `white`, a key of `COLORS`, `transparent` (drawn as a chequerboard), or two keys for a gradient.
        vertical: The gradient runs downwards, not to the right.
        hue: The colour that the drawing's commonest hue was turned to, or None for its own colours.
        turn_deg: By how many degrees of hue.
        count: How many copies, 1 to 4.
        scale: Size of the drawing as a share of the picture, for one copy.
    """

    mirrored: bool = False
    background: tuple[str, ...] = ("white",)
    vertical: bool = True
    hue: str | None = None
    turn_deg: float = 0.0
    count: int = 1
    scale: float = 1.0


def names_color(picture: Picture) -> bool:
    """Whether the English label already says a colour, as `red apple` does."""
    words = set(picture.concept.words["en"][0].lower().replace("-", " ").split())
    return bool(words & {key for key, color in COLORS.items() if color.measured} | words & {"grey", "golden"})


def _turn(rgba: NDArray[np.uint8], target: str) -> float | None:
    """Degrees from the drawing's commonest hue to the colour's; None if no hue of its own is common enough."""
    found = [(name, share) for name, share in measure_colors(rgba) if name in (*CHROMATIC, "brown")]
    if not found or found[0][1] < 0.4:
        return None
    hue, saturation, value = hue_saturation_value(rgba[..., :3])
    weight = saturation * value * (rgba[..., 3] > 127)
    angle = np.deg2rad(hue)
    own = np.rad2deg(np.arctan2((np.sin(angle) * weight).sum(), (np.cos(angle) * weight).sum()))
    goal = hue_saturation_value(np.array(COLORS[target].rgb, np.uint8))[0]
    return float((goal - own) % 360.0)


def _background(config: SceneConfig, rng: np.random.Generator) -> tuple[str, ...]:
    draw = rng.random()
    for share, kind in ((config.flat, "flat"), (config.gradient, "gradient"), (config.transparent, "transparent")):
        if draw < share:
            count = {"flat": 1, "gradient": 2, "transparent": 0}[kind]
            return tuple(str(c) for c in rng.choice(BACKGROUNDS, count, replace=False)) or ("transparent",)
        draw -= share
    return ("white",)


def draw_scene(picture: Picture, rgba: NDArray[np.uint8], config: SceneConfig, rng: np.random.Generator) -> Scene:
    """A random scene; the same generator state gives the same one."""
    background = _background(config, rng)
    hue, turn = None, 0.0
    if rng.random() < config.recolor and picture.style != "line" and not names_color(picture):
        target = str(rng.choice(CHROMATIC))
        found = _turn(rgba, target)
        if found is not None and (measure_colors(shift_hue(rgba, found))[0][0] == target):
            hue, turn = target, found
    count = int(rng.integers(2, 5)) if rng.random() < config.several else 1
    scale = 1.0 if background == ("white",) else config.inset
    return Scene(bool(rng.random() < 0.5), background, bool(rng.random() < 0.5), hue, turn, count, scale)


def paint_background(scene: Scene, size_px: int) -> NDArray[np.float32]:
    """The empty background, float32 `[size, size, 3]`, 0 to 255."""
    if scene.background == ("transparent",):
        y, x = np.indices((size_px, size_px)) // max(1, CHECKER_PX * size_px // 128)
        return np.asarray(CHECKER_RGB, np.float32)[(y + x) % 2]
    colors = [np.asarray(COLORS[key].rgb, np.float32) for key in scene.background]
    ramp = np.linspace(0.0, 1.0, size_px, dtype=np.float32)[:, None]
    line = colors[0] * (1.0 - ramp) + colors[-1] * ramp
    if scene.vertical:
        return np.repeat(line[:, None], size_px, 1)
    return np.repeat(line[None], size_px, 0)


def place_drawing(rgba: NDArray[np.uint8], scene: Scene, size_px: int) -> NDArray[np.uint8]:
    """The drawing as it stands in the scene, on transparency: RGBA uint8 `[size, size, 4]`."""
    if scene.hue is not None:
        rgba = shift_hue(rgba, scene.turn_deg)
    if scene.mirrored:
        rgba = rgba[:, ::-1]
    margin = (1.0 - scene.scale) / 2.0
    places = PLACES.get(scene.count, ((margin, margin, scene.scale),))
    out = np.zeros((size_px, size_px, 4), np.uint8)
    for left, top, share in places:
        side = round(share * size_px)
        x, y = round(left * size_px), round(top * size_px)
        small = (
            rgba
            if side == rgba.shape[0]
            else np.asarray(
                Image.fromarray(rgba).convert("RGBa").resize((side, side), Image.Resampling.LANCZOS).convert("RGBA")
            )
        )
        out[y : y + side, x : x + side] = small
    return out


def paint_scene(rgba: NDArray[np.uint8], scene: Scene, size_px: int) -> NDArray[np.uint8]:
    """The finished training picture: RGB uint8 `[size, size, 3]`.

    Args:
        rgba: The drawing, `[h, h, 4]`, straight alpha.
        scene: How to paint it.
        size_px: Size of the result.
    """
    placed = place_drawing(rgba, scene, size_px).astype(np.float32)
    alpha = placed[..., 3:] / 255.0
    mixed = placed[..., :3] * alpha + paint_background(scene, size_px) * (1.0 - alpha)
    return np.rint(mixed).astype(np.uint8)
