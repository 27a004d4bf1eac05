"""The maps are those that were looked at once."""

from __future__ import annotations

import numpy as np
import pytest
from annotator_pictures import still_life
from make_annotator_goldens import FOLDER, SETTINGS
from PIL import Image

from danqing.annotators import annotate
from danqing.spec.registry.annotators import CLASSICAL


@pytest.mark.parametrize("info", CLASSICAL, ids=lambda info: info.key)
def test_the_map_is_the_golden_one(info):
    golden = np.asarray(Image.open(FOLDER / f"{info.key}.png").convert("RGB"))
    found = annotate(info.key, still_life(), SETTINGS.get(info.key, {}), seed=7)
    assert found.shape == golden.shape
    if info.map_kind in {"binary", "flat"}:
        assert np.any(found != golden, axis=2).mean() <= 0.02
    else:
        error = np.mean((found.astype(float) - golden) ** 2)
        assert 10 * np.log10(255**2 / max(error, 1e-9)) >= 40


def test_every_golden_has_its_annotator():
    assert {path.stem for path in FOLDER.glob("*.png")} == {info.key for info in CLASSICAL}
