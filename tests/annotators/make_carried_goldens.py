"""Makes the golden maps of networks whose weights come by pip again: `python tests/annotators/make_carried_goldens.py`.

Their picture is Van Gogh's Portrait of Père Tanguy (1887, public domain) in the shared test data, 320 px wide.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from danqing.annotators import annotate
from danqing.spec.registry.annotators_carried import CARRIED
from testdata import TESTDATA

FOLDER = Path(__file__).parent / "golden" / "carried"
PICTURE = TESTDATA / "paintings" / "PortraitOfPereTanguy.jpg"
WEIGHTS = TESTDATA / "mlsd"


def portrait() -> np.ndarray:
    """`[406, 320, 3]`."""
    return np.asarray(Image.open(PICTURE).convert("RGB").resize((320, 406), Image.Resampling.BOX))


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for info in CARRIED:
        found = Image.fromarray(annotate(info.key, portrait(), weights_dir=WEIGHTS))
        small = found.convert("L") if info.map_kind in {"binary", "grey"} else found
        small.save(FOLDER / f"{info.key}.png", optimize=True)


if __name__ == "__main__":
    main()
