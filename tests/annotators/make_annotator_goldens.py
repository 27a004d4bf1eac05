"""Makes the golden maps again: `python tests/annotators/make_annotator_goldens.py`."""

from __future__ import annotations

from pathlib import Path

from annotator_pictures import still_life
from PIL import Image

from danqing.annotators import annotate
from danqing.spec.registry.annotators import CLASSICAL

FOLDER = Path(__file__).parent / "golden"
SETTINGS = {"tile_resample": {"down_sampling_rate": 4}, "t2ia_color_grid": {"cell_px": 16}, "grayscale": {"gamma": 1.5}}


def main() -> None:
    for info in CLASSICAL:
        Image.fromarray(annotate(info.key, still_life(), SETTINGS.get(info.key, {}), seed=7)).save(
            FOLDER / f"{info.key}.png", optimize=True
        )


if __name__ == "__main__":
    main()
