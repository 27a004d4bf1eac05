"""Upscaling through the engine: alone, in a hires pass, beside painting."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from danqing.engine import Engine, Finished
from danqing.engine.calls import EncodeImage, Upscale
from danqing.engine.fake import FakeExecutor
from danqing.pipelines.upscale import expected_tiles, upscale
from danqing.planning.upscaling import plan_upscale
from danqing.spec.errors import InvalidRequestError
from danqing.spec.upscale import UpscaleRequest, UpscalerFile
from danqing.training.builtin.upscaler_net import CompactUpscaler
from easel import Easel, Pictures

NAME = "4x-nearest"


class Files:
    """A catalogue of one upscaler."""

    file = UpscalerFile(name=NAME, path="", sha256="f" * 64)

    def upscalers(self) -> list[UpscalerFile]:
        return [self.file]

    def find_upscaler(self, name: str) -> UpscalerFile | None:
        return self.file if name == NAME else None


@pytest.fixture
def with_file(easel: Easel) -> Easel:
    path = Path(easel.models_dir) / "ESRGAN" / f"{NAME}.safetensors"
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        save_file(CompactUpscaler(4, 1).state_dict(), path)
    easel.executor.ran.clear()
    return easel


def noise(width: int, height: int, mode: str = "RGB") -> Image.Image:
    pixels = np.random.default_rng(1).integers(0, 256, (height, width, len(mode))).astype(np.uint8)
    return Image.fromarray(pixels)


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
@pytest.mark.parametrize("name", [NAME, "Lanczos", "nearest"])
def test_a_session_ends_with_the_planned_size(mode: str, name: str):
    pictures = Pictures()
    request = UpscaleRequest(image=f"sha256:{pictures.add(noise(250, 40, mode))}", scale=3, upscaler=name)
    plan = plan_upscale(request, Files(), (250, 40))
    fake, done = FakeExecutor(), []
    engine = Engine(fake)
    engine.submit("up", upscale(plan, pictures), done.append)
    while len(engine):
        engine.tick()
    (finished,) = [event for event in done if isinstance(event, Finished)]
    assert finished.error is None
    assert (finished.result.size, finished.result.mode) == ((750, 120), mode)
    tiles = sum(rows for kind, rows in fake.batches if kind == "Upscale")
    planes = 2 if mode == "RGBA" else 1
    assert tiles == (2 * planes if name == NAME else 0)
    assert expected_tiles(plan, pictures) == max(tiles, 1)


def test_tiles_of_two_pictures_share_a_batch():
    pictures = Pictures()
    fake, done = FakeExecutor(), []
    engine = Engine(fake)
    for key in ("one", "two"):
        request = UpscaleRequest(image=f"sha256:{pictures.add(noise(40, 30))}", upscaler=NAME)
        engine.submit(key, upscale(plan_upscale(request, Files(), (40, 30)), pictures), done.append)
    while len(engine):
        engine.tick()
    assert fake.batches == [("Upscale", 2)]
    first, second = (event.result for event in done if isinstance(event, Finished))
    assert np.array_equal(np.asarray(first), np.asarray(second))


def test_a_hires_pass_by_a_file(with_file: Easel):
    easel = with_file
    hires = {"scale": 2.0, "upscaler": NAME, "strength": 0.5, "steps": 2}
    picture = easel.one(hires=hires, sampling={"steps": 2})
    assert picture.size == (128, 128)
    calls = [call for batch in easel.executor.ran for call in batch]
    (enlarged,) = [call for call in calls if isinstance(call, Upscale)]
    (encoded,) = [call for call in calls if isinstance(call, EncodeImage)]
    # four times by the network, then Lanczos down to the size asked for
    large = torch.nn.functional.interpolate(enlarged.tile, scale_factor=4)[0].permute(1, 2, 0).numpy()
    wanted = Image.fromarray(np.rint(large * 255).astype(np.uint8)).resize((128, 128), Image.Resampling.LANCZOS)
    given = ((encoded.image[0].permute(1, 2, 0) + 1) * 127.5).round().numpy()
    assert np.abs(given - np.asarray(wanted)).max() <= 1


def test_the_same_file_by_name_or_hash_gives_the_same_plan(with_file: Easel):
    file = with_file.catalog.find_upscaler(NAME)
    assert file is not None
    (by_name,) = with_file.plans(hires={"upscaler": NAME})
    (by_hash,) = with_file.plans(hires={"upscaler": file.sha256})
    assert by_name.passes[1].upscaler_file == by_hash.passes[1].upscaler_file == file.ref
    with pytest.raises(InvalidRequestError, match="no such upscaler"):
        with_file.plans(hires={"upscaler": "4x-no"})
