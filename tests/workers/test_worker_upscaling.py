"""Upscaling by a painter: a command in, a picture in the blob store and a message out."""

from __future__ import annotations

import io
import queue
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import save_file

from danqing.models.catalog import Catalog
from danqing.planning.upscaling import plan_upscale
from danqing.spec.painting import Output
from danqing.spec.upscale import UpscaleRequest
from danqing.store.blobs import BlobStore
from danqing.store.metadata import encode_picture, read_metadata
from danqing.training.builtin.upscaler_net import CompactUpscaler
from danqing.workers.painter import Painter, PainterOptions
from danqing.workers.protocol import ShutdownCommand, TaskFailedMessage, UpscaleCommand, UpscaledMessage


@pytest.fixture
def models(tmp_path: Path) -> Path:
    folder = tmp_path / "models" / "ESRGAN"
    folder.mkdir(parents=True)
    save_file(CompactUpscaler(4, 1).state_dict(), folder / "nearest.safetensors")
    (folder / "broken.pth").write_bytes(b"no weights")
    return tmp_path / "models"


def ask(tmp_path: Path, models: Path, data: bytes, size: tuple[int, int], **fields: Any) -> Any:
    blobs = BlobStore(tmp_path / "data")
    request = UpscaleRequest(image=f"sha256:{blobs.put(data)}", **fields)
    plan = plan_upscale(request, Catalog(models), size)
    commands: queue.SimpleQueue[Any] = queue.SimpleQueue()
    heard: list[Any] = []

    def send(message: Any) -> None:
        heard.append(message)
        commands.put(ShutdownCommand())

    painter = Painter(PainterOptions(data_dir=tmp_path / "data", models_dir=models, device="cpu"), send)
    commands.put(UpscaleCommand(task_id="t", plan=plan))
    painter.run(commands)
    (message,) = heard
    return message


@pytest.mark.parametrize("name", ["nearest", "Nearest"])
def test_a_picture_comes_back_larger_with_its_words(tmp_path: Path, models: Path, name: str):
    pixels = np.random.default_rng(0).integers(0, 256, (12, 20, 4)).astype(np.uint8)
    source = encode_picture(Image.fromarray(pixels), Output(), infotext="a cat\nSteps: 4, Seed: 7")
    message = ask(tmp_path, models, source.data, (20, 12), upscaler=name)
    assert isinstance(message, UpscaledMessage)
    assert (message.width_px, message.height_px, message.media_type) == (80, 48, "image/png")
    data = BlobStore(tmp_path / "data").read(message.picture)
    with Image.open(io.BytesIO(data)) as image:
        large = np.asarray(image)
    visible = pixels[..., 3] > 0
    wanted = pixels.repeat(4, 0).repeat(4, 1)
    assert np.array_equal(large[visible.repeat(4, 0).repeat(4, 1)], wanted[visible.repeat(4, 0).repeat(4, 1)])
    words = read_metadata(data).infotext
    assert words.startswith("a cat\nSteps: 4, Seed: 7, Postprocess upscale by: 4, Postprocess upscaler: nearest")


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path, models: Path):
    source = encode_picture(Image.new("RGB", (20, 12)), Output())
    message = ask(tmp_path, models, source.data, (20, 12), upscaler="broken")
    assert isinstance(message, TaskFailedMessage)
    assert message.error["code"] == "bad_file"
    assert "broken.pth" in message.error["message"]
