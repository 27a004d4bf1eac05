"""Paints Requests on the small models through the real engine, for tests."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageDraw

from danqing.engine import Engine, EngineOptions, Finished, SessionEvent
from danqing.engine.calls import Denoise, ModelCall, ModelKey
from danqing.engine.costs import Part
from danqing.engine.torch_executor import TorchExecutor
from danqing.models.catalog import Catalog
from danqing.models.loader import Loader
from danqing.pipelines import expected_calls, paint
from danqing.pipelines.context import Context, steps_of
from danqing.pipelines.txt2img import txt2img
from danqing.planning import plan
from danqing.spec.errors import NotFoundError
from danqing.spec.geometry import SizePx
from danqing.spec.plan import Plan
from danqing.spec.request import parse_request


class Pictures:
    """Input pictures in memory, by the hash of their pixels."""

    def __init__(self) -> None:
        self.kept: dict[str, Image.Image] = {}

    def add(self, image: Image.Image) -> str:
        buffer = io.BytesIO()
        image.save(buffer, "PNG")
        sha256 = hashlib.sha256(buffer.getvalue()).hexdigest()
        self.kept[sha256] = image
        return sha256

    def open(self, sha256: str) -> Image.Image:
        if sha256 not in self.kept:
            raise NotFoundError("no such picture", value=sha256)
        return self.kept[sha256]


class Watched(TorchExecutor):
    """The real executor, which notes what it ran."""

    def __init__(self, loader: Loader) -> None:
        super().__init__(loader)
        self.ran: list[tuple[ModelCall, ...]] = []
        self.batch_rows: int | None = None
        self.measured = False

    def max_rows(self, call: ModelCall) -> int:
        return super().max_rows(call) if self.batch_rows is None else self.batch_rows

    def parts(self, call: ModelCall) -> tuple[Part, ...]:
        """None: what these tests see of batches must not hang on how long they took."""
        return super().parts(call) if self.measured else ()

    def run(self, calls: Sequence[ModelCall]) -> list[Any]:
        self.ran.append(tuple(calls))
        return super().run(calls)

    def denoised(self) -> list[Denoise]:
        """Every Denoise that ran, in order."""
        return [call for calls in self.ran for call in calls if isinstance(call, Denoise)]


class Easel:
    """A catalogue, a loader and an executor that live as long as the test session."""

    def __init__(self, models_dir: Path, device: torch.device | None = None) -> None:
        self.models_dir = models_dir
        self.catalog = Catalog(models_dir)
        self.loader = Loader(self.catalog, device or torch.device("cpu"))
        self.executor = Watched(self.loader)
        self.pictures = Pictures()

    def key(self, name: str = "tiny") -> ModelKey:
        """Which weights a Plan on this model asks for."""
        return ModelKey(self.plans(model=name)[0].base.model, precision="float32")

    def model(self, name: str = "tiny") -> Any:
        """The loaded model."""
        key = self.key(name)
        return self.loader.get(key.model, key.vae, key.precision)

    def picture(self, image: Image.Image) -> str:
        """A reference to an input picture."""
        return f"sha256:{self.pictures.add(image)}"

    def plans(self, **fields: Any) -> tuple[Plan, ...]:
        """The Plans of a Request; float32 on `tiny` unless it says otherwise."""
        data = {"model": "tiny", "precision": "float32", "seed": 7, "prompt": "the red cat", **fields}
        request = parse_request(data)
        return plan(
            request,
            self.catalog,
            image_size=self._size(getattr(request, "image", None)),
            mask_size=self._size(getattr(request, "mask", None)),
            rng_seed=0,
        )

    def _size(self, reference: str | None) -> SizePx | None:
        if reference is None:
            return None
        image = self.pictures.open(reference.removeprefix("sha256:"))
        return SizePx(width_px=image.width, height_px=image.height)

    def paint(self, **fields: Any) -> list[Image.Image]:
        """The pictures of a Request, all painted together."""
        return self.paint_plans(self.plans(**fields))

    def one(self, **fields: Any) -> Image.Image:
        """The only picture of a Request."""
        (image,) = self.paint(**fields)
        return image

    def pixels(self, **fields: Any) -> npt.NDArray[np.int16]:
        """The only picture of a Request as numbers [h, w, 3]."""
        return numbers(self.one(**fields))

    def paint_plans(self, plans: Sequence[Plan]) -> list[Image.Image]:
        """The pictures of Plans, painted together."""
        return self.run({str(i): paint(one, self.pictures) for i, one in enumerate(plans)}, plans)

    def latents(self, plans: Sequence[Plan]) -> list[torch.Tensor]:
        """The latents of the base passes of Plans, painted together."""
        return self.run({str(i): txt2img(self.context(one)) for i, one in enumerate(plans)}, plans)

    def context(self, one: Plan) -> Context:
        return Context(one, self.pictures, total_steps=sum(steps_of(planned) for planned in one.passes))

    def run(self, sessions: dict[str, Any], plans: Sequence[Plan]) -> list[Any]:
        """The results of Sessions that run together.

        Raises:
            DanqingError: The first Session that failed.
        """
        self.executor.ran.clear()
        engine = Engine(self.executor, EngineOptions(preview_every=0))
        ended: dict[str, Finished] = {}
        for (key, session), one in zip(sessions.items(), plans, strict=True):
            engine.submit(key, session, into(ended), expected_calls=expected_calls(one))
        engine.run_until_idle()
        for event in ended.values():
            if event.error is not None:
                raise event.error
        return [ended[key].result for key in sessions]


def check_sampler(studio: Easel, fields: dict[str, Any], words: dict[str, Any]) -> None:
    """A sampler paints something, the same again, and other words give another picture."""
    picture = studio.pixels(**fields, **words)
    assert picture.std() > 1
    assert np.array_equal(picture, studio.pixels(**fields, **words))
    assert np.abs(picture - studio.pixels(**fields, prompt="a house")).mean() > 0.1


def into(ended: dict[str, Finished]) -> Callable[[SessionEvent], None]:
    """A sink that keeps the ends of Sessions and complains of a second one."""

    def sink(event: SessionEvent) -> None:
        if isinstance(event, Finished):
            if event.key in ended:
                raise AssertionError(f"{event.key} ended twice")
            ended[event.key] = event

    return sink


def numbers(image: Image.Image) -> npt.NDArray[np.int16]:
    """Pixels that can be subtracted [h, w, 3]."""
    return np.asarray(image.convert("RGB"), dtype=np.int16)


def photo(width: int = 64, height: int = 64, seed: int = 5) -> Image.Image:
    """A picture with smooth colours and sharp shapes."""
    y, x = np.mgrid[:height, :width]
    rng = np.random.default_rng(seed)
    phase = rng.uniform(0, 6, 3)
    waves = [127 + 100 * np.sin(x / 9 + phase[c]) * np.cos(y / 7 - phase[c]) for c in range(3)]
    image = Image.fromarray(np.stack(waves, -1).clip(0, 255).astype(np.uint8))
    ImageDraw.Draw(image).rectangle((width // 4, height // 4, width // 2, height // 2), fill=(230, 40, 30))
    return image


def box_mask(width: int, height: int, box: tuple[int, int, int, int]) -> Image.Image:
    """White in [left, right) × [top, bottom), black elsewhere."""
    mask = Image.new("L", (width, height), 0)
    mask.paste(255, box)
    return mask
