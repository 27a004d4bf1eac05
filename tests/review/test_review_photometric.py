"""Each check fires on a made fault and stays quiet on clean pictures: drawings, gradients, noise, soft light."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

from danqing.review import photometric
from danqing.review.photometric import FAULTS, find_faults, luma, rgb_of


def drawing(ground=(250, 250, 250), ink=(30, 60, 200), size: int = 256) -> Image.Image:
    """A disc with an outline and a bar, drawn four times as large: edges like a real drawing's."""
    large = Image.new("RGB", (size * 4, size * 4), ground)
    draw = ImageDraw.Draw(large)
    draw.ellipse((size, size, size * 3, size * 3), fill=ink, outline=(10, 10, 10), width=size // 16)
    draw.rectangle((size * 2, size // 2, size * 2 + size // 3, size * 3), fill=(220, 40, 40))
    return large.resize((size, size), Image.Resampling.LANCZOS)


def slope(size: int = 256) -> np.ndarray:
    """Soft light, brightest in the middle, as in a photograph; float `[h, w]`."""
    y, x = np.mgrid[:size, :size]
    light = 60 + 150 * np.exp(-(((x - size * 0.45) / size / 0.35) ** 2 + ((y - size * 0.5) / size / 0.35) ** 2))
    return light + np.random.default_rng(1).normal(0, 1.2, light.shape)


def grey_image(values: np.ndarray) -> Image.Image:
    return Image.fromarray(np.clip(np.round(values), 0, 255).astype(np.uint8)).convert("RGB")


CLEAN = {
    "drawing": drawing(),
    "on white": drawing((255, 255, 255)),
    "on black": drawing((0, 0, 0), (240, 200, 40)),
    "line art": drawing((255, 255, 255), (255, 255, 255)),
    "gradient": grey_image(np.tile(np.linspace(20, 235, 256), (256, 1))),
    "short gradient": grey_image(np.tile(np.linspace(20, 235, 64), (64, 1))),
    "light": grey_image(slope()),
    "noise": Image.fromarray(np.random.default_rng(0).integers(0, 256, (200, 150, 3), dtype=np.uint8)),
    "two halves": grey_image(np.repeat([[40.0] * 128 + [200.0] * 128], 256, axis=0)),
    "transparent": drawing().convert("RGBA"),
}


@pytest.mark.parametrize("name", CLEAN)
def test_clean_pictures_have_no_faults(name: str):
    # A slope has no edge at all, and of such a picture nobody can say whether it is sharp.
    assert find_faults(CLEAN[name]) == ()


@pytest.mark.parametrize("levels", [6, 10, 16])
def test_banding(levels: int):
    smooth = np.tile(np.linspace(30, 220, 256), (256, 1))
    assert photometric.banding(luma(grey_image(smooth))) == 0.0
    banded = grey_image(np.round(smooth / levels) * levels)
    assert photometric.banding(luma(banded)) >= FAULTS["banding"].limit
    assert find_faults(banded)[0].key == "banding"
    turned = banded.transpose(Image.Transpose.ROTATE_90)
    assert photometric.banding(luma(turned)) >= FAULTS["banding"].limit


@pytest.mark.parametrize("dark", [False, True])
def test_clipping(dark: bool):
    light = slope()
    assert photometric.clipping(luma(grey_image(light))) == 0.0
    burnt = np.minimum(light * 1.45, 255.0)
    picture = grey_image(255.0 - burnt if dark else burnt)
    assert photometric.clipping(luma(picture)) >= FAULTS["clipping"].limit
    assert "clipping" in [fault.key for fault in find_faults(picture)]


def test_a_white_ground_and_flat_black_are_not_clipped():
    assert photometric.clipping(luma(CLEAN["on white"])) == 0.0
    assert photometric.clipping(luma(CLEAN["on black"])) == 0.0


@pytest.mark.parametrize("size", [128, 256, 1024])
def test_blur(size: int):
    sharp = drawing(size=size)
    assert photometric.blur(luma(sharp)) < FAULTS["blur"].limit / 2
    soft = sharp.filter(ImageFilter.GaussianBlur(3.0 * max(1.0, size / 512)))
    assert photometric.blur(luma(soft)) >= FAULTS["blur"].limit
    assert "blur" in [fault.key for fault in find_faults(soft)]


def test_blur_grows_with_its_radius_and_one_sharp_edge_is_enough():
    widths = [photometric.blur(luma(drawing().filter(ImageFilter.GaussianBlur(r)))) for r in (0.5, 1, 2, 4)]
    assert widths == sorted(widths)
    half = drawing().filter(ImageFilter.GaussianBlur(6))
    half.paste(drawing().crop((0, 0, 128, 256)), (0, 0))
    assert photometric.blur(luma(half)) < FAULTS["blur"].limit


@pytest.mark.parametrize("across", [False, True])
def test_seam(across: bool):
    values = slope()
    values[:, 120:] += 9.0
    picture = grey_image(values.T if across else values)
    fault = next(fault for fault in find_faults(picture) if fault.key == "seam")
    assert fault.box is not None
    low, high = (fault.box.top_px, fault.box.bottom_px) if across else (fault.box.left_px, fault.box.right_px)
    assert low < 120 < high
    assert high - low < 40
    assert photometric.seam(luma(grey_image(slope()))) == 0.0


def test_low_contrast():
    flat = np.asarray(drawing(), np.float32)
    weak = Image.fromarray((128 + (flat - 128) * 0.12).astype(np.uint8))
    assert photometric.low_contrast(rgb_of(weak)) >= FAULTS["low_contrast"].limit
    assert "low_contrast" in [fault.key for fault in find_faults(weak)]
    assert photometric.low_contrast(rgb_of(drawing())) < 1.5
    assert [fault.key for fault in find_faults(Image.new("RGB", (64, 64), (90, 20, 20)))] == ["low_contrast"]


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (31, 33), (16, 4096), (33, 32)])
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "1", "LA", "CMYK", "I"])
def test_any_picture_can_be_checked(size: tuple[int, int], mode: str):
    image = Image.new("RGB", size, (200, 30, 30)).convert(mode) if mode != "LA" else Image.new("LA", size)
    for fault in find_faults(image):
        assert fault.amount >= fault.limit
        assert 0.25 <= fault.severity <= 1.0
