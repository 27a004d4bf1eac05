"""A whole model written: a diffusers folder, and a file in the original layout where it came as one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from diffusers import DDIMScheduler
from safetensors.torch import save_file
from torch import Tensor, nn

from danqing.adapters.module_names import unet_names
from danqing.models.headers import read_header
from danqing.models.singlefile.describe import describe
from danqing.models.singlefile.facts import CLIP_TOKENIZER, UNET_PREFIX
from danqing.models.tools.stream import Entry, Source, Writer, torch_dtype
from danqing.training.own.networks.network import EXACT_BYTES
from danqing.training.own.opened import Opened

SD1_TEXT = "cond_stage_model.transformer."
_PARTS = ("text_encoder", "text_encoder_2")
_TOKENIZERS = ("tokenizer", "tokenizer_2")
_WEIGHTS = shutil.ignore_patterns("*.safetensors", "*.bin", "*.msgpack")


def export_model(opened: Opened, folder: Path, name: str, *, text: bool = False) -> list[Path]:
    """Write the model as it is now.

    Args:
        opened: The model.
        folder: The run's `model/`.
        name: Of the folder, and of the file.
        text: Whether its text encoders were changed.

    Returns:
        The folder, and the file if there is one.
    """
    target, temporary = folder / name, folder / f"{name}.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    source = Path(opened.info.weights_path)
    if source.is_dir():
        _copy_rest(source, temporary, text=text)
    else:
        _write_rest(opened, temporary)
    _save(opened.unet, temporary / "unet", "diffusion_pytorch_model.safetensors")
    if text or not source.is_dir():
        for place, (_, encoder) in zip(_places(opened), opened.texts, strict=True):
            _save_text(encoder.model, temporary / place)
    _about(opened, temporary / "danqing.json")
    shutil.rmtree(target, ignore_errors=True)
    temporary.replace(target)
    single = _single_file(opened, folder / f"{name}.safetensors", text=text)
    return [target] if single is None else [target, single]


def _places(opened: Opened) -> tuple[str, ...]:
    return _PARTS[: len(opened.texts)]


def _copy_rest(source: Path, target: Path, *, text: bool) -> None:
    """Everything of a diffusers folder that was not changed."""
    changed = {"unet", *(_PARTS if text else ())}
    for place in source.iterdir():
        if place.is_dir() and place.name in changed:
            shutil.copytree(place, target / place.name, ignore=_WEIGHTS)
        elif place.is_dir():
            shutil.copytree(place, target / place.name)
        elif place.suffix in (".json", ".txt", ".md"):
            shutil.copyfile(place, target / place.name)


def _write_rest(opened: Opened, target: Path) -> None:
    """What a diffusers folder has besides denoiser and text encoders, of a model that came as one file."""
    checkpoint = describe(Path(opened.info.weights_path))
    _save(opened.vae, target / "vae", "diffusion_pytorch_model.safetensors")
    zero = {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"} if checkpoint.zero_snr else {}
    facts = {name: value for name, value in checkpoint.scheduler.items() if not name.startswith("_")}
    scheduler = DDIMScheduler(
        **{**facts, "prediction_type": opened.info.prediction, "clip_sample": False, "steps_offset": 1, **zero}
    )
    scheduler.save_pretrained(target / "scheduler")
    index: dict[str, Any] = {
        "_class_name": "StableDiffusionXLPipeline" if opened.is_sdxl else "StableDiffusionPipeline",
        "scheduler": ["diffusers", "DDIMScheduler"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }
    for place, tokenizer, (_, encoder) in zip(_PARTS, _TOKENIZERS, opened.texts, strict=False):
        shutil.copytree(CLIP_TOKENIZER, target / tokenizer)
        index[place] = ["transformers", type(encoder.model).__name__]
        index[tokenizer] = ["transformers", "CLIPTokenizer"]
    if not opened.is_sdxl:
        index |= {"safety_checker": [None, None], "feature_extractor": [None, None], "requires_safety_checker": False}
    (target / "model_index.json").write_text(json.dumps(index, indent=2), encoding="utf-8")


def _about(opened: Opened, path: Path) -> None:
    """`danqing.json`: what the model likes goes with it."""
    said: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    said["family"] = "sd1" if opened.info.builtin else opened.info.family
    said.setdefault("defaults", opened.info.defaults.model_dump(mode="json"))
    said.pop("name", None)
    path.write_text(json.dumps(said, indent=1, ensure_ascii=False), encoding="utf-8")


def _format(module: nn.Module) -> torch.dtype:
    """float32 for what is small, float16 else."""
    size = sum(one.numel() * 4 for one in module.parameters())
    return torch.float32 if size <= EXACT_BYTES else torch.float16


def _state(module: nn.Module) -> dict[str, Tensor]:
    dtype = _format(module)
    return {
        name: (value.detach().to("cpu", dtype) if value.is_floating_point() else value.detach().cpu()).contiguous()
        for name, value in module.state_dict().items()
    }


def _save(module: Any, folder: Path, file: str) -> None:
    """A diffusers module's config and weights."""
    folder.mkdir(parents=True, exist_ok=True)
    module.save_config(folder)
    save_file(_state(module), folder / file, {"format": "pt"})


def _save_text(model: Any, folder: Path) -> None:
    model.save_pretrained(folder, state_dict=_state(model))


def _single_file(opened: Opened, target: Path, *, text: bool) -> Path | None:
    """The file the model came as, with what was learnt; None where that cannot be written.

    Text encoders other than Stable Diffusion 1's have their layers under other names there, joined together.
    """
    source = Path(opened.info.weights_path)
    if source.suffix.lower() != ".safetensors" or not source.is_file():
        return None
    if text and opened.info.family != "sd1":
        return None
    learnt = dict(_renamed(opened, text=text))
    file = Source(source)
    if sum(name.startswith(UNET_PREFIX) for name in learnt) != len(opened.unet.state_dict()):
        return None
    entries = [Entry(name, torch_dtype(file.infos[name]), file.infos[name].shape) for name in file.names()]

    def produce(name: str) -> Tensor:
        if name not in learnt:
            return file.get(name)
        return learnt[name].detach().cpu().reshape(tuple(file.infos[name].shape))

    metadata = {name: value for name, value in read_header(source).metadata.items() if name == "format"}
    Writer(target, entries, metadata, overwrite=True).write(produce)
    return target


def _renamed(opened: Opened, *, text: bool) -> Iterator[tuple[str, Tensor]]:
    """Learnt tensors by their names in the file."""
    source = Source(Path(opened.info.weights_path))
    state = dict(opened.unet.state_dict())
    paths = unet_names(path for path, _ in opened.unet.named_modules() if path).paths
    for name in source.names():
        if name.startswith(UNET_PREFIX):
            layer, _, kind = name.removeprefix(UNET_PREFIX).rpartition(".")
            path = paths.get(layer.replace(".", "_"))
            if path is not None and f"{path}.{kind}" in state:
                yield name, state[f"{path}.{kind}"]
        elif text and name.startswith(SD1_TEXT):
            own = dict(opened.texts[0][1].model.state_dict())
            bare = name.removeprefix(SD1_TEXT)
            found = own.get(bare, own.get(bare.removeprefix("text_model.")))
            if found is not None:
                yield name, found
