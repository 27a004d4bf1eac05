"""The judge of a revision: it is not the reviewer. Scores in, verdict out; arithmetic on pixels is here too. No torch.

The prompt score asks one question of the whole picture and the whole brief; a reviewer asks of parts and of pixels.
Where a CLIP is installed beside an aesthetic predictor (`review.aesthetic`), both scores are its own, and no network of
the built-in reviewer has a say.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from danqing.review.photometric import blur, find_faults, luma, rgb_of
from danqing.spec.refine import RefineRules, RoundOutcome, Scores

PHOTOMETRIC = "photometric"
_COMPARED_PX = 64
_SIGMA = 1.5
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2  # Wang et al. 2004, equation 13
_COLOURFUL = 110.0  # "extremely colourful" in Hasler and Süsstrunk 2003, table 2
_FAULT = 0.3


@dataclass(frozen=True)
class Verdict:
    """Whether a revision becomes a version.

    Attributes:
        outcome: Why, in a word.
        reason: Why, in a sentence.
    """

    outcome: RoundOutcome
    reason: str

    @property
    def accepted(self) -> bool:
        """It does."""
        return self.outcome == "gain"


def decide(before: Scores, after: Scores, rules: RefineRules) -> Verdict:
    """Accept what gains in one score, loses little in the other, and is still the same picture."""
    prompt, aesthetic = after.prompt - before.prompt, after.aesthetic - before.aesthetic
    said = f"prompt {before.prompt:.3f} → {after.prompt:.3f}, aesthetic {before.aesthetic:.3f} → {after.aesthetic:.3f}"
    if after.similarity < rules.similarity_floor:
        return Verdict("unlike", f"too unlike the picture before ({after.similarity:.2f}); {said}")
    if prompt >= rules.prompt_gain and aesthetic >= -rules.aesthetic_loss:
        return Verdict("gain", said)
    if aesthetic >= rules.aesthetic_gain and prompt >= -rules.prompt_loss:
        return Verdict("gain", said)
    if prompt >= rules.prompt_gain or aesthetic >= rules.aesthetic_gain:
        return Verdict("loss", f"one gain, but too great a loss; {said}")
    return Verdict("no_gain", f"no gain; {said}")


def photometric_beauty(picture: Image.Image) -> float:
    """A stated stand-in for taste, 0 to 1: a third each of colourfulness, contrast and sharpness, less 0.3 a fault.

    Colourfulness: Hasler and Süsstrunk 2003, over 110. Contrast: standard deviation of brightness over 64. Sharpness: 1
    for edges of 1 px, 0 for edges of 6. Faults: `review.photometric`, by their severity.
    """
    rgb = rgb_of(picture)
    contrast = min(1.0, float((rgb @ np.array((0.299, 0.587, 0.114), np.float32)).std()) / 64.0)
    width = blur(luma(picture))
    sharp = 0.0 if width == 0.0 else float(np.clip((6.0 - width) / 5.0, 0.0, 1.0))
    good = (min(1.0, colourfulness(rgb) / _COLOURFUL) + contrast + sharp) / 3.0
    return float(np.clip(good - sum(_FAULT * fault.severity for fault in find_faults(picture)), 0.0, 1.0))


def colourfulness(rgb: NDArray[np.float32]) -> float:
    """M³ of Hasler and Süsstrunk 2003 for colours `[h, w, 3]`, 0 to 255; 0 for grey."""
    red_green = rgb[..., 0] - rgb[..., 1]
    yellow_blue = (rgb[..., 0] + rgb[..., 1]) / 2.0 - rgb[..., 2]
    spread = float(np.hypot(red_green.std(), yellow_blue.std()))
    return spread + 0.3 * float(np.hypot(red_green.mean(), yellow_blue.mean()))


def similarity(one: Image.Image, other: Image.Image) -> float:
    """Mean SSIM (Wang et al. 2004) of both pictures in colour at 64 px, Gaussian window of 1.5 px; 1 for equal ones."""
    size = (_COMPARED_PX, _COMPARED_PX)
    x, y = (rgb_of(image, 4096) for image in (_resized(one, size), _resized(other, size)))
    mean_x, mean_y = _smooth(x), _smooth(y)
    var_x, var_y = _smooth(x * x) - mean_x**2, _smooth(y * y) - mean_y**2
    both = _smooth(x * y) - mean_x * mean_y
    above = (2 * mean_x * mean_y + _C1) * (2 * both + _C2)
    below = (mean_x**2 + mean_y**2 + _C1) * (var_x + var_y + _C2)
    return float(np.clip((above / below).mean(), -1.0, 1.0))


def _resized(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    return image.convert("RGBA" if image.has_transparency_data else "RGB").resize(size, Image.Resampling.BOX)


def _smooth(x: NDArray[np.float32]) -> NDArray[np.float64]:
    return ndimage.gaussian_filter(x.astype(np.float64), (_SIGMA, _SIGMA, 0.0), mode="reflect")
