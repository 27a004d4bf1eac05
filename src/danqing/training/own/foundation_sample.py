"""Painting with a model that was trained from nothing: `danqing train sample RUN -n 64 -o grid.png`."""

from __future__ import annotations

import argparse
import json
import sys
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from diffusers import UNet2DModel
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file

from danqing.models.loader import pick_device
from danqing.spec.errors import BadFileError, InvalidRequestError, NotFoundError
from danqing.training.commands import exit_code
from danqing.training.own.foundation_data import to_pixels
from danqing.training.own.foundation_diffusion import STEPS, Process, ancestral, ddim
from danqing.training.own.foundation_figures import picture_grid
from danqing.training.own.foundation_gan import paint
from danqing.training.own.foundation_nets import Generator
from danqing.training.own.seeds import torch_of

MOST = 4096
DEFAULT_STEPS = 50
_AT_ONCE = 32
_LARGEST = 4096
_NEXT = "name the folder of a finished run of dcgan, wgan or ddpm, or its `model` folder"


def find_product(run: Path) -> Path:
    """The generator's `.json`, or the folder of the diffusers pipeline, of a run or of its `model` folder.

    Raises:
        NotFoundError: There is none.
    """
    for folder in (run / "model", run):
        if (folder / "model_index.json").is_file():
            return folder
        own = _name_of(run)
        for name in [own] if own is not None else []:
            for path in (folder / f"{name}.json", folder / name / "model_index.json"):
                if path.is_file():
                    return path if path.suffix == ".json" and path.stem == name else path.parent
        found = [*folder.glob("*/model_index.json"), *(one for one in folder.glob("*.json") if _is_generator(one))]
        if found:
            first = min(found, key=lambda one: (one.stem.endswith("-best"), str(one)))
            return first.parent if first.name == "model_index.json" else first
    raise NotFoundError("this run has made nothing that paints (yet)", field="run", value=str(run), next_step=_NEXT)


def _name_of(run: Path) -> str | None:
    """The name of the product, as the run's request has it."""
    try:
        return str(json.loads((run / "request.json").read_text(encoding="utf-8"))["name"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _is_generator(path: Path) -> bool:
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(said, dict) and cast("dict[str, Any]", said).get("kind") == "danqing-generator"


def open_generator(about: Path, device: torch.device) -> Generator:
    """A generator that `export` wrote.

    Raises:
        BadFileError: It is damaged, or no generator.
    """
    try:
        said = json.loads(about.read_text(encoding="utf-8"))
        generator = Generator(*_shape(said))
        generator.load_state_dict(load_file(about.with_suffix(".safetensors")))
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise BadFileError(f"the generator cannot be opened: {error}", value=str(about), next_step=_NEXT) from error
    return generator.to(device).eval().requires_grad_(requires_grad=False)


def _shape(said: dict[str, Any]) -> tuple[int, int, int]:
    """Noise, width and size of a generator; ValueError for what nobody would have made."""
    latent_dim, width, size_px = (int(said[key]) for key in ("latent_dim", "width", "size_px"))
    if not 0 < latent_dim <= _LARGEST or not 0 < width <= _LARGEST or size_px not in (32, 64):
        raise ValueError(f"it says {latent_dim}, {width}, {size_px}")
    return latent_dim, width, size_px


def open_unet(folder: Path, device: torch.device) -> UNet2DModel:
    """A DDPM's network.

    Raises:
        BadFileError: It is damaged, or another pipeline.
    """
    try:
        unet = UNet2DModel.from_pretrained(
            str(folder / "unet"), use_safetensors=True, local_files_only=True, torch_dtype=torch.float32
        )
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise BadFileError(f"the DDPM cannot be opened: {error}", value=str(folder), next_step=_NEXT) from error
    return cast("UNet2DModel", unet).to(device).eval().requires_grad_(requires_grad=False)


def paint_product(run: Path, count: int, seed: int, steps: int, device: torch.device) -> NDArray[np.uint8]:
    """Unpicked pictures `[count, s, s, 3]`.

    Args:
        run: Folder of the run, or of what it made.
        count: How many.
        seed: Of the noise.
        steps: Of a DDPM: 1000 are the paper's with fresh noise, fewer are DDIM's.
        device: Where it computes.

    Raises:
        DanqingError: There is nothing to paint with, or the numbers are out of bounds.
    """
    for name, value, most in (("count", count, MOST), ("steps", steps, STEPS)):
        if not 1 <= value <= most:
            raise InvalidRequestError("this number is out of bounds", field=name, value=value, allowed=f"1 … {most}")
    product = find_product(run)
    if product.is_file():
        return paint(open_generator(product, device), count, seed)
    return _of_noise(open_unet(product, device), torch_of(seed, "fixed", 0), count, steps)


def _of_noise(unet: UNet2DModel, drawn: torch.Generator, count: int, steps: int) -> NDArray[np.uint8]:
    process, side = Process.linear(), int(unet.config["sample_size"])
    noise = torch.randn(count, 3, side, side, generator=drawn).to(unet.device)

    def denoiser(x: torch.Tensor, times: torch.Tensor) -> torch.Tensor:
        return unet(x, times).sample

    done: list[NDArray[np.uint8]] = []
    for x in noise.split(_AT_ONCE):
        whole = steps == STEPS
        painted = ancestral(process, denoiser, x, drawn) if whole else ddim(process, denoiser, x, steps)
        done.append(to_pixels(painted))
    return np.concatenate(done)


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="danqing train sample", description="Paint with a model from nothing.")
    parser.add_argument("run", type=Path, help="the run's folder, or its model folder")
    parser.add_argument("-n", "--count", type=int, default=64)
    parser.add_argument("-o", "--out", type=Path, required=True, help="the grid, a .png or .webp file")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=DEFAULT_STEPS, help="of a DDPM; 1000 paints as the paper does")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """The command; 0 when done, 2 for a mistake in what was asked for."""
    args = _arguments(argv)
    if args.threads:
        torch.set_num_threads(args.threads)
    return exit_code(partial(_run, args))


def _run(args: argparse.Namespace) -> None:
    pixels = paint_product(args.run, args.count, args.seed, args.steps, pick_device(args.device))
    _write(pixels, args.out)
    print(args.out)  # noqa: T201


def _write(pixels: NDArray[np.uint8], path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        picture_grid(pixels).save(path)
    except (OSError, ValueError) as error:
        raise InvalidRequestError(
            f"the grid cannot be written: {error}", field="out", value=str(path), allowed="a .png or .webp file"
        ) from error


if __name__ == "__main__":
    sys.exit(main())
