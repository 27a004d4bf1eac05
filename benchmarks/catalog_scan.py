"""Scanning 10,000 model files, cold and again (bars: at most 20 s; at most 1 s).

The files have the published layouts' real tensor names and shapes in an A1111 folder: LoRAs of SD 1.5 and SDXL (6
ranks, 3 number formats, with and without text encoder) with kohya's metadata, embeddings, checkpoints; the weights are
holes. Cold means nothing remembered; the operating system's file cache is warm.
"""

from __future__ import annotations

import itertools
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import _layouts as layouts
from benchmarks._report import Options, Outcome, median, run
from danqing.models.scan import Scanner

BAR_COLD_S = 20.0
BAR_WARM_S = 1.0
# Of a hundred files: (folder, how many, name).
MIX = (
    ("Lora/sd15", 50, "lora15"),
    ("Lora/sdxl", 22, "loraxl"),
    ("embeddings", 18, "word"),
    ("Stable-diffusion", 6, "sd15"),
    ("Stable-diffusion/xl", 2, "sdxl"),
    ("VAE", 2, "vae"),
)
_TAGS = {"10_subject": {f"a tag of the training set {number}": 1 + number % 40 for number in range(150)}}


RANKS = (4, 8, 16, 32, 64, 128)
FORMATS = ("F16", "BF16", "F32")


def _variants(kind: str) -> Iterator[tuple[layouts.Shapes, str]]:
    """(tensors, number format) of the kinds of files that people have: LoRAs of 36 makes, checkpoints of three."""
    if kind in {"lora15", "loraxl"}:
        unet, xl = (layouts.SD1, False) if kind == "lora15" else (layouts.SDXL, True)
        modules = layouts.lora_modules(unet, xl=xl)
        bare = {name: shape for name, shape in modules.items() if name.startswith("lora_unet_")}
        for rank, dtype, some in itertools.product(RANKS, FORMATS, (modules, bare)):
            yield layouts.kohya_lora(some, rank), dtype
        return
    one = {
        "word": {"emb_params": (4, 768)},
        "sd15": layouts.sd1_checkpoint(),
        "sdxl": layouts.sdxl_checkpoint(),
        "vae": layouts.ldm_vae(""),
    }
    for dtype in FORMATS:
        yield one[kind], dtype


def fill(folder: Path, count: int) -> int:
    """Write the files; how many they are."""
    written = 0
    for place, share, kind in MIX:
        metadata = {"ss_network_dim": "8", "ss_tag_frequency": json.dumps(_TAGS)} if "lora" in kind else None
        headers = [layouts.header_bytes(shapes, metadata, dtype) for shapes, dtype in _variants(kind)]
        (folder / place).mkdir(parents=True, exist_ok=True)
        for number in range(max(1, share * count // 100)):
            header, size = headers[number % len(headers)]
            with (folder / place / f"{kind}-{number:05}.safetensors").open("wb") as file:
                file.write(header)
                file.truncate(size)
            if number % 3 == 0:
                (folder / place / f"{kind}-{number:05}.preview.png").touch()
            written += 1
    return written


@dataclass
class Times:
    """Seconds of one kind of scan, by the clock and of this process alone."""

    wall_s: list[float] = field(default_factory=list[float])
    processor_s: list[float] = field(default_factory=list[float])

    def scan(self, root: Path, store: Path) -> Counter[str]:
        """Scan once; how many files of each kind there were."""
        wall, busy = time.perf_counter(), time.process_time()
        files = Scanner(store).scan([root])
        self.wall_s.append(time.perf_counter() - wall)
        self.processor_s.append(time.process_time() - busy)
        return Counter(file.identity.kind if file.identity else "unreadable" for file in files)


def measure(options: Options) -> Outcome:
    """Cold and warm, each time with a new memory."""
    cold, warm, kinds = Times(), Times(), Counter[str]()
    with tempfile.TemporaryDirectory(prefix="danqing-scan-") as folder:
        root = Path(folder) / "models"
        count = fill(root, 100 if options.quick else 10_000)
        options.say(f"{count} files written")
        for number in range(options.times(full=3, quick=1)):
            store = Path(folder) / f"scan-{number}.sqlite"
            kinds = cold.scan(root, store)
            warm.scan(root, store)
    figures = {
        "files": float(count),
        "cold_s": median(cold.wall_s),
        "warm_s": median(warm.wall_s),
        "cold_processor_s": median(cold.processor_s),
        "warm_processor_s": median(warm.processor_s),
    }
    passed = figures["cold_s"] <= BAR_COLD_S and figures["warm_s"] <= BAR_WARM_S
    details = {"kinds": dict(kinds), "cold_s": cold.wall_s, "warm_s": warm.wall_s}
    details["mix_percent"] = {name: share for _, share, name in MIX}
    return Outcome(figures, f"cold ≤ {BAR_COLD_S:g} s, warm ≤ {BAR_WARM_S:g} s", passed, details)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    return run("catalog_scan", __doc__ or "", measure, argv)


if __name__ == "__main__":
    sys.exit(main())
