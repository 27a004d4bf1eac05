"""`danqing dataset builtin`: the pictures and words of the built-in family as files, with a datasheet."""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from danqing.training.builtin.config import DataConfig, parse_data, read_toml
from danqing.training.builtin.dataset import Drawing, Picture, is_held_out, list_drawings, pictures_json
from danqing.training.commands import exit_code

MASTER_PX = 256
CHUNK = 256


@dataclass(frozen=True)
class Job:
    """Where the packages lie, where the result goes, and how many processes draw."""

    packages: Path
    out: Path
    workers: int = 2


def reduce_rgba(rgba: NDArray[np.uint8], size_px: int) -> NDArray[np.uint8]:
    """`[h, w, 4]` to `[size, size, 4]`, filtered with premultiplied alpha so that edges stay clean."""
    if rgba.shape[0] == size_px:
        return rgba
    image = Image.fromarray(rgba).convert("RGBa")
    return np.asarray(image.resize((size_px, size_px), Image.Resampling.LANCZOS).convert("RGBA"))


def _draw(drawings: list[Drawing]) -> NDArray[np.uint8]:
    return np.stack([draw(MASTER_PX) for draw in drawings])


def write_pixels(drawings: list[Drawing], out: Path, sizes_px: tuple[int, ...], workers: int) -> None:
    """Draws every picture once at 256 px and writes `pictures-<size>.npy` for each size, chunk by chunk.

    The files get their names only when they are whole, so a broken run leaves nothing that looks finished.
    """
    names = {size: out / f"pictures-{size}.npy" for size in sizes_px}
    parts = {
        size: np.lib.format.open_memmap(
            path.with_suffix(".tmp"), mode="w+", dtype=np.uint8, shape=(len(drawings), size, size, 4)
        )
        for size, path in names.items()
    }
    chunks = [drawings[i : i + CHUNK] for i in range(0, len(drawings), CHUNK)]
    with ProcessPoolExecutor(max_workers=workers) as pool:
        done = 0
        for pixels in pool.map(_draw, chunks):
            for size, part in parts.items():
                part[done : done + len(pixels)] = [reduce_rgba(p, size) for p in pixels]
            done += len(pixels)
            print(f"{done} of {len(drawings)} pictures", flush=True)  # noqa: T201
    for size, path in names.items():
        parts[size].flush()
        path.with_suffix(".tmp").replace(path)


def vocabulary_json(pictures: list[Picture]) -> str:
    """Every emoji concept once, with its words in three languages: what interrogation chooses from."""
    concepts = {p.concept.hexcode: p.concept for p in pictures if not p.concept.hexcode.startswith("name:")}
    rows = [
        {"hexcode": c.hexcode, "subgroup": c.subgroup} | {locale: list(words) for locale, words in c.words.items()}
        for c in concepts.values()
    ]
    packed = (json.dumps(row, ensure_ascii=False, separators=(",", ":")) for row in rows)
    return "[\n" + ",\n".join(packed) + "\n]\n"


def datasheet(config: DataConfig, pictures: list[Picture]) -> str:
    """What the data are, in Markdown: counts by style, languages, the held-out split, licences, attributions."""
    concepts = {p.concept.hexcode: p.concept for p in pictures}
    held = sum(is_held_out(code) for code in concepts)
    styles = Counter(p.style for p in pictures)
    chinese = Counter(locale for c in concepts.values() for locale in c.words)
    lines = [
        "# Data of the built-in family",
        "",
        f"{len(pictures)} drawings of {len(concepts)} concepts in {len(styles)} styles. Labels: "
        + ", ".join(f"{locale} {chinese[locale]}" for locale in ("en", "zh", "zh-hant"))
        + ".",
        f"Held out: {held} concepts ({held / len(concepts):.1%}), in all their styles "
        f"({sum(is_held_out(p.concept.hexcode) for p in pictures)} drawings), chosen by the hash of their code points.",
        "",
        "| package | version | style | pictures | licence | attribution |",
        "|---|---|---|---|---|---|",
    ]
    for s in config.sources:
        count = "labels" if s.kind == "labels" else str(styles[s.style])
        lines.append(f"| `{s.package}` | {s.version} | {s.style} | {count} | {s.licence} | {s.attribution} |")
    lines += ["", "| group | concepts |", "|---|---|"]
    lines += [f"| {name} | {n} |" for name, n in Counter(c.subgroup for c in concepts.values()).most_common()]
    return "\n".join(lines) + "\n"


def make(config: DataConfig, job: Job, sizes_px: tuple[int, ...]) -> None:
    """Fetches, draws and writes `pictures-<size>.npy`, `pictures.json`, `vocabulary.json` and `datasheet.md`."""
    job.out.mkdir(parents=True, exist_ok=True)
    drawings = list_drawings(config, job.packages)
    pictures = [p for p, _ in drawings]
    write_pixels([draw for _, draw in drawings], job.out, sizes_px, job.workers)
    (job.out / "pictures.json").write_text(pictures_json(tuple(pictures)), encoding="utf-8")
    (job.out / "vocabulary.json").write_text(vocabulary_json(pictures), encoding="utf-8")
    (job.out / "datasheet.md").write_text(datasheet(config, pictures), encoding="utf-8")


def main(argv: list[str] | None = None) -> int:
    """The command; 0 when done, 2 for a mistake in its input."""
    parser = argparse.ArgumentParser(prog="danqing dataset builtin", description="Make the built-in family's data.")
    parser.add_argument("--config", default="data-builtin", help="a TOML file with a [data] table")
    parser.add_argument("--out", required=True, type=Path, help="folder for the pictures and the datasheet")
    parser.add_argument("--packages", type=Path, help="folder of the npm packages (default: OUT/npm)")
    parser.add_argument("--sizes", default="128,256", help="sizes in pixels, separated by commas (at most 256)")
    parser.add_argument("--workers", type=int, default=2, help="processes that draw")
    args = parser.parse_args(argv)
    try:
        sizes = tuple(int(part) for part in str(args.sizes).split(","))
        if not all(16 <= size <= MASTER_PX for size in sizes):
            parser.error(f"--sizes {args.sizes}: allowed are 16 to {MASTER_PX}")
    except ValueError:
        parser.error(f"--sizes {args.sizes}: give whole numbers separated by commas")
    job = Job(args.packages or args.out / "npm", args.out, max(1, args.workers))

    def run() -> None:
        make(parse_data(read_toml(args.config)), job, sizes)
        print((args.out / "datasheet.md").read_text(encoding="utf-8"))  # noqa: T201

    return exit_code(run)


if __name__ == "__main__":
    sys.exit(main())
