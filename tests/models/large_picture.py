"""A picture of 4096 x 4096 within a memory limit, in a process of its own: `python large_picture.py decode|upscale`."""

from __future__ import annotations

import io
import json
import queue
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from danqing.engine.calls import Decode, EncodeImage, ModelKey
from danqing.engine.executors import open_executor
from danqing.models.catalog import Catalog
from danqing.models.loader import Loader
from danqing.models.memory import Limits
from danqing.pipelines import pixels
from danqing.planning.upscaling import plan_upscale
from danqing.spec.model import ModelRef
from danqing.spec.painting import Output
from danqing.spec.upscale import UpscaleRequest
from danqing.store.blobs import BlobStore
from danqing.store.metadata import encode_picture
from danqing.workers.painter import Painter, PainterOptions
from danqing.workers.protocol import ShutdownCommand, UpscaleCommand

LIMIT_GIB = 3.0
SIDE_PX = 4096


def decode() -> Image.Image:
    """Latents of 512 x 512 through the autoencoder, and a quarter of the picture back again."""
    loader = Loader(Catalog(None), torch.device("cpu"), limits=Limits.of(LIMIT_GIB, None))
    executor = open_executor(loader)
    info = loader.catalog.find("danqing-mini")
    key = ModelKey(ModelRef(name=info.name, sha256=info.sha256, family=info.family))
    side = SIDE_PX // info.latent_scale
    small = torch.randn(1, info.latent_channels, 16, 16, generator=torch.Generator().manual_seed(1))
    (picture,) = executor.run([Decode(key, torch.nn.functional.interpolate(small, size=(side, side)))])
    executor.run([EncodeImage(key, picture[..., : SIDE_PX // 2, : SIDE_PX // 2].contiguous())])
    return pixels.to_image(picture)


def upscale() -> Image.Image:
    """What `POST /upscale` asks of a worker: 1024 px by the built-in network."""
    with tempfile.TemporaryDirectory() as name:
        blobs, models = BlobStore(Path(name)), Path(name) / "models"
        colours = np.random.default_rng(0).integers(0, 256, (16, 16, 3)).astype(np.uint8)
        begun = Image.fromarray(colours).resize((SIDE_PX // 4, SIDE_PX // 4), Image.Resampling.BICUBIC)
        source = blobs.put(encode_picture(begun, Output(), infotext="").data)
        request = UpscaleRequest(image=f"sha256:{source}", upscaler="danqing-draw-x4", scale=4)
        commands: queue.SimpleQueue[Any] = queue.SimpleQueue()
        heard: list[Any] = []

        def send(message: Any) -> None:
            heard.append(message)
            commands.put(ShutdownCommand())

        options = PainterOptions(
            data_dir=Path(name), models_dir=models, device="cpu", limits=Limits.of(LIMIT_GIB, None)
        )
        painter = Painter(options, send)
        commands.put(UpscaleCommand(task_id="t", plan=plan_upscale(request, Catalog(models), begun.size)))
        painter.run(commands)
        with Image.open(io.BytesIO(blobs.read(heard[0].picture))) as image:
            image.load()
            return image


def main() -> None:
    """Do it and tell what it took."""
    torch.set_num_threads(1)
    started = time.perf_counter()
    image = {"decode": decode, "upscale": upscale}[sys.argv[1]]()
    seconds = time.perf_counter() - started
    status = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    peak = int(next(line for line in status if line.startswith("VmHWM:")).split()[1]) * 1024
    spread = float(np.asarray(image.resize((64, 64))).std())
    told = {
        "size": image.size,
        "peak_bytes": peak,
        "limit_bytes": int(LIMIT_GIB * (1 << 30)),
        "seconds": round(seconds, 1),
        "spread": spread,
    }
    sys.stdout.write(json.dumps(told) + "\n")


if __name__ == "__main__":
    main()
