"""Loaded models, kept while they fit in a budget of bytes, the least recently used given up first."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TypeVar, cast
from weakref import WeakValueDictionary

import torch

from danqing.models import precision as precisions
from danqing.models.activations import FAMILY_WIDTHS, Work, work_bytes
from danqing.models.catalog import Catalog
from danqing.models.controlnet import LoadedControlNet, load_controlnet
from danqing.models.families import flux, foreign, sd, sd3, sdxl
from danqing.models.families.parts import Loading
from danqing.models.ip_adapter import ImageEncoder, LoadedIpAdapter, load_image_encoder, load_ip_adapter
from danqing.models.lllite import LoadedLLLite, load_lllite
from danqing.models.mapped import small_pages
from danqing.models.memory import CONTEXT_BYTES, Limits, Memory, too_little, used_bytes
from danqing.models.offloading import settle, sizes_of
from danqing.models.pipeline_sizes import part_sizes, place_pipeline
from danqing.models.precision import Precision
from danqing.models.residency import OFFLOADED, WORK_BYTES, Residency, needed_bytes, plan_residency
from danqing.models.shelf import not_installed
from danqing.models.t2i_adapter import LoadedT2IAdapter, load_t2i_adapter
from danqing.planning.controls import CONTROL_LORA
from danqing.spec.errors import BadFileError, UnsupportedError
from danqing.spec.model import ControlNetInfo, IpAdapterInfo, ModelInfo, ModelRef

TRANSFORMERS = frozenset({"sd3", "flux"})
Control = LoadedControlNet | LoadedT2IAdapter | LoadedLLLite
Resident = sd.StableDiffusion | foreign.ForeignModel | Control | LoadedIpAdapter | ImageEncoder
Loaded = TypeVar("Loaded", bound=Resident)


class Loader:
    """Loads models on demand.

    Args:
        catalog: Where they are.
        device: Where they compute.
        fast_cpu: As for `prepare.prepare_denoiser`; off where the denoiser is to be compiled.
        budget_bytes: How many bytes of weights may stay; half the machine's memory if not given.
        limits: What a person allows of main memory and of a GPU's, for everything.

    Attributes:
        memory: What there is on the device, within these limits.
        residencies: Where the weights of the loaded models stay, by name.
        beside_bytes: What an executor keeps of a model in forms of its own; counts as the model's.
        graphs_in_int8: Whether an executor computes UNets in eight bits; then their weights stay as they are.
    """

    def __init__(
        self,
        catalog: Catalog,
        device: torch.device,
        budget_bytes: int | None = None,
        *,
        fast_cpu: bool = True,
        limits: Limits | None = None,
    ) -> None:
        self.catalog = catalog
        self.device = device
        self.fast_cpu = fast_cpu
        self.memory = Memory(device, limits)
        self.budget_bytes = budget_bytes or _budget_of(self.memory)
        self._expected: dict[str, Work] = {}
        self.residencies: dict[str, Residency] = {}
        self.beside_bytes: Callable[[Resident], int] = lambda _: 0
        self.graphs_in_int8 = False
        self._painting: WeakValueDictionary[tuple[str, str | None, str], foreign.ForeignModel] = WeakValueDictionary()
        self._loaded: OrderedDict[tuple[str, str | None, str], Resident] = OrderedDict()
        self._weights_bytes: dict[tuple[str, str | None, str], int] = {}

    def get(self, model: ModelRef, vae: ModelRef | None = None, precision: str = "auto") -> sd.StableDiffusion:
        """The loaded model.

        Raises:
            NotFoundError: It is not installed (any more).
            UnsupportedError: Its family or precision cannot run here.
            BadFileError: Its files are damaged.
        """
        key = (model.sha256, vae.sha256 if vae else None, precision)
        return self._kept(key, lambda: self._load(model, vae, precision))

    def expect(self, model: ModelRef, work: Work) -> None:
        """Say how large the pictures will be before a model is loaded.

        Args:
            model: That is asked for.
            work: A picture; the largest one counts.
        """
        known = self._expected.get(model.sha256, work)
        self._expected[model.sha256] = max((known, work), key=lambda one: one.rows * one.width_px * one.height_px)

    def foreign(self, model: ModelRef, precision: str = "auto") -> foreign.ForeignModel:
        """The loaded pipeline of a model that its own pipeline paints.

        Raises:
            NotFoundError: It is not installed (any more).
            UnsupportedError: Its class or precision cannot run here.
            BadFileError: Its files are damaged, or bring code.
        """
        key = (model.sha256, None, precision)
        # One that was given up and still paints is not loaded a second time.
        found = self._kept(key, lambda: self._painting.get(key) or self._load_foreign(model, precision))
        self._painting[key] = found
        return found

    def controlnet(self, model: ModelRef, precision: str = "auto", beside: sd.StableDiffusion | None = None) -> Control:
        """The loaded ControlNet, T2I-Adapter or ControlNet-LLLite, in the precision of the model it works beside.

        Args:
            model: Which one.
            precision: `auto`, `float32`, `bfloat16` or `float16`.
            beside: The model that it works beside; a Control-LoRA is built from it, so that each model has its own.

        Raises:
            NotFoundError: It is not installed (any more).
            BadFileError: Its files are damaged.
        """
        base = beside if model.family == CONTROL_LORA and beside is not None else None
        key = (model.sha256, base.info.sha256 if base is not None else None, precision)
        return self._kept(key, lambda: self._load_controlnet(model, precision, base))

    def image_adapter(self, model: ModelRef, precision: str = "auto") -> LoadedIpAdapter:
        """The loaded image adapter, in the precision of the model it works in.

        Raises:
            NotFoundError: It is not installed (any more).
            BadFileError: Its file is damaged.
        """
        return self._kept((model.sha256, None, precision), lambda: self._load_image_adapter(model, precision))

    def image_encoder(self, model: ModelRef) -> ImageEncoder:
        """The loaded image tower, which is small and always in float32.

        Raises:
            NotFoundError: It is not installed (any more).
            BadFileError: Its files are damaged.
        """
        return self._kept((model.sha256, None, "float32"), lambda: self._load_image_encoder(model))

    def loaded(
        self, model: ModelRef, vae: ModelRef | None = None, precision: str = "auto"
    ) -> sd.StableDiffusion | None:
        """The model if it is loaded; asking does not count as use."""
        found = self._loaded.get((model.sha256, vae.sha256 if vae else None, precision))
        return found if isinstance(found, sd.StableDiffusion) else None

    def give_up(self, model: Resident) -> None:
        """Give up one model: the next who asks loads it anew."""
        for key in [key for key, one in self._loaded.items() if one is model]:
            del self._loaded[key]
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def drop_others(self, *keep: Resident | None) -> bool:
        """Give up every model but these. False if there was none to give up."""
        others = [key for key, model in self._loaded.items() if not any(model is one for one in keep)]
        for key in others:
            del self._loaded[key]
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        return bool(others)

    def _kept(self, key: tuple[str, str | None, str], load: Callable[[], Loaded]) -> Loaded:
        if key not in self._loaded:
            with small_pages():
                self._loaded[key] = load()
            # Not at every call: walking through the parameters takes longer than a small model's step.
            self._weights_bytes = {each: model.size_bytes for each, model in self._loaded.items()}
        self._loaded.move_to_end(key)
        self._trim()
        return cast("Loaded", self._loaded[key])

    def _load(self, model: ModelRef, vae: ModelRef | None, precision: str) -> sd.StableDiffusion:
        info = self._info(model)
        chosen = self._precision(precision, info.family)
        vae_path = self._vae_path(vae) if vae else None
        with _readable(f"the model {info.name}", info.path):
            residency = self._place(info, chosen)
            if residency.kind == "layerwise":
                chosen = replace(chosen, storage="float8")
            load = {"sdxl": sdxl.load, "sd3": sd3.load, "flux": flux.load}.get(info.family, sd.load)
            if residency.kind not in OFFLOADED:
                return load(Loading(info, chosen, self.device, vae_path, self.fast_cpu))
            loaded = load(Loading(info, chosen, torch.device("cpu"), vae_path, fast_cpu=False))
            settle(loaded, residency, self.device)
            return loaded

    def _precision(self, wanted: str, family: str | None = None) -> Precision:
        chosen = precisions.choose(self.device, wanted)
        if chosen.storage != "int8" or not self.graphs_in_int8 or family in TRANSFORMERS:
            return chosen
        return replace(chosen, storage=None, graph="int8")

    def _load_foreign(self, model: ModelRef, precision: str) -> foreign.ForeignModel:
        info = self._info(model)
        chosen = precisions.choose(self.device, precision)
        with _readable(f"the pipeline {info.name}", info.path):
            sizes = part_sizes(info, chosen)
            place = place_pipeline(sizes, self.memory.free(), self.device.type)
            if place and self.drop_others():
                place = place_pipeline(sizes, self.memory.free(), self.device.type)
            return foreign.load(info, chosen, self.device, place)

    def _place(self, info: ModelInfo, precision: Precision) -> Residency:
        """Where its weights shall stay; other models go before it is offloaded.

        Raises:
            OutOfMemoryError: A person's limit is too low for it, wherever its weights stay.
        """
        sizes, work = sizes_of(info, precision), self.work_bytes(info, precision)
        kind, memory = self.device.type, self.memory
        found = plan_residency(sizes, memory.free(), kind, memory.host(), work)
        if (found.kind != "resident" or not found.fits) and self.drop_others():
            found = plan_residency(sizes, memory.free(), kind, memory.host(), work)
        if not found.fits and memory.allowed is not None:
            raise too_little(info.name, needed_bytes(found.kind, sizes, kind, work), memory)
        self.residencies[info.name] = found
        return found

    def work_bytes(self, info: ModelInfo, precision: Precision) -> int | None:
        """What the largest picture that is asked for needs besides weights; None where that is not known."""
        widths = FAMILY_WIDTHS.get(info.family)
        if widths is None:
            return None
        size_px = info.defaults.size_px
        own = replace(
            widths,
            denoiser=info.block_widths[0] if info.block_widths else widths.denoiser,
            denoiser_bytes=precision.denoiser.itemsize,
            vae_bytes=precision.vae.itemsize,
            scale=info.latent_scale,
        )
        return work_bytes(self._expected.get(info.sha256, Work(size_px, size_px)), own, self.device.type)

    def _vae_path(self, vae: ModelRef) -> Path:
        """A file or a diffusers folder."""
        for found in self.catalog.vaes():
            if found.sha256 == vae.sha256:
                return Path(found.path)
        place = Path(self._info(vae).weights_path)
        return place if place.is_file() else place / "vae"

    def _load_controlnet(self, model: ModelRef, precision: str, base: sd.StableDiffusion | None) -> Control:
        info = self._control_info(model)
        chosen = self._precision(precision)
        with _readable(f"the ControlNet {info.name}", info.path):
            if info.kind == "t2i_adapter":
                return load_t2i_adapter(info, chosen, self.device)
            if info.kind == "lllite":
                return load_lllite(info, chosen, self.device)
            unet = None if base is None else base.unet
            return load_controlnet(info, chosen, self.device, unet, fast_cpu=self.fast_cpu)

    def _load_image_adapter(self, model: ModelRef, precision: str) -> LoadedIpAdapter:
        info = self._image_info(model)
        with _readable(f"the image adapter {info.name}", info.path):
            return load_ip_adapter(info, self._precision(precision), self.device)

    def _load_image_encoder(self, model: ModelRef) -> ImageEncoder:
        info = self._image_info(model).encoder
        with _readable("the image encoder", info.path):
            return load_image_encoder(info, self.device)

    def _image_info(self, wanted: ModelRef) -> IpAdapterInfo:
        """The image adapter with this hash, or one whose image tower has it."""
        for info in self.catalog.image_adapters():
            if wanted.sha256 in (info.sha256, info.encoder.sha256):
                return info
        raise not_installed("the image adapter", wanted, "image_adapter")

    def _control_info(self, wanted: ModelRef) -> ControlNetInfo:
        for info in self.catalog.controlnets():
            if info.sha256 == wanted.sha256:
                return info
        raise not_installed("the ControlNet", wanted, "controls.model")

    def _info(self, wanted: ModelRef) -> ModelInfo:
        for info in self.catalog.list():
            if info.sha256 == wanted.sha256:
                return info
        raise not_installed("the model", wanted, "model")

    def _held_bytes(self) -> int:
        return sum(self._weights_bytes[key] + self.beside_bytes(model) for key, model in self._loaded.items())

    def _trim(self) -> None:
        while len(self._loaded) > 1 and self._held_bytes() > self.budget_bytes:
            self._loaded.popitem(last=False)


@contextmanager
def _readable(what: str, path: str) -> Iterator[None]:
    """Say in our own words what is wrong with a model's files."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError):
        raise
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise BadFileError(
            f"{what} cannot be loaded: {error}",
            value=path,
            next_step="copy its folder again, or choose another one",
        ) from error


def _budget_of(memory: Memory) -> int:
    """How many bytes of weights may stay: what a limit leaves besides the libraries and some work, or half of all."""
    if memory.allowed is not None:
        kind = memory.device.type
        held = CONTEXT_BYTES if kind == "cuda" else used_bytes()
        return max(memory.allowed - held - WORK_BYTES.get(kind, WORK_BYTES["cpu"]), memory.allowed // 4)
    if memory.device.type == "cuda":
        return int(torch.cuda.get_device_properties(memory.device).total_memory * 0.7)
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


def pick_device(wanted: str = "auto") -> torch.device:
    """The device to compute on.

    Raises:
        UnsupportedError: The device is not there.
    """
    if wanted == "auto":
        return torch.device(
            "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
        )
    try:
        device = torch.device(wanted)
    except RuntimeError as error:
        raise UnsupportedError(
            "there is no such device", field="device", value=wanted, allowed="auto, cpu, cuda, cuda:0, mps"
        ) from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UnsupportedError(
            "PyTorch finds no CUDA device here",
            field="device",
            value=wanted,
            allowed="auto, cpu",
            next_step="choose auto, or install the CUDA build of PyTorch and its driver",
        )
    return device
