"""diffusers: its defaults (float32), its documented settings (`best`: bfloat16, channels-last), and compiled.

Settings: diffusers' documentation, "Accelerate inference" and "Reduce memory usage": lower precision, scaled dot
product attention (already the default with PyTorch 2), channels-last memory, `torch.compile` of the denoiser.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from PIL import Image

from benchmarks.peers._jobs import (
    CONTROL_WEIGHT,
    LORA_WEIGHT,
    Checkpoint,
    Job,
    Opened,
    Peer,
    PeerOptions,
    open_picture,
)


def scheduler_of(pipe: Any, sampler: str) -> Any:
    """The pipeline's scheduler of that name, with its checkpoint's own noise schedule."""
    from diffusers import DDIMScheduler, EulerDiscreteScheduler

    kind = {"Euler": EulerDiscreteScheduler, "DDIM": DDIMScheduler}[sampler]
    return kind.from_config(pipe.scheduler.config)


def load(checkpoint: Checkpoint, dtype: Any) -> Any:
    """A StableDiffusionPipeline of a checkpoint; nothing is downloaded."""
    from diffusers import StableDiffusionPipeline

    # What the built-in model's 4-step form is: the model with a LoRA merged into it.
    settings: dict[str, Any] = {"torch_dtype": dtype, "local_files_only": True, "safety_checker": None}
    if checkpoint.single_file:
        pipe = StableDiffusionPipeline.from_single_file(checkpoint.path, config=checkpoint.parts, **settings)
    else:
        pipe = StableDiffusionPipeline.from_pretrained(checkpoint.path, **settings)
        _read_words(pipe, Path(checkpoint.path) / "text_encoder" / "model.safetensors")
    if checkpoint.fused_lora:
        lora = Path(checkpoint.fused_lora)
        pipe.load_lora_weights(str(lora.parent), weight_name=lora.name)
        pipe.fuse_lora()
        pipe.unload_lora_weights()
    pipe.set_progress_bar_config(disable=True)
    return pipe


def _read_words(pipe: Any, file: Path) -> None:
    """Load the text encoder's tensors by either of their names: transformers put them below `text_model.` until 5.6.

    Another version warns, leaves the encoder random, and paints something else.
    """
    from safetensors.torch import load_file

    found = {name.removeprefix("text_model."): tensor for name, tensor in load_file(file).items()}
    wanted = pipe.text_encoder.state_dict()
    pipe.text_encoder.load_state_dict({name: found[name.removeprefix("text_model.")] for name in wanted})


class DiffusersPeer(Peer):
    """StableDiffusionPipeline and its relatives over the same modules."""

    def __init__(self) -> None:
        self._pipe: Any = None
        self._others: dict[str, Any] = {}
        self._checkpoint: Checkpoint | None = None
        self._options = PeerOptions()

    def available(self) -> str | None:
        """Whether its packages are there."""
        missing = [name for name in ("torch", "diffusers", "transformers") if importlib.util.find_spec(name) is None]
        return f"not installed: {', '.join(missing)} (pip install diffusers transformers torch)" if missing else None

    def open(self, checkpoint: Checkpoint, options: PeerOptions) -> Opened:
        """Load it, and drop the one before, as there is memory for one."""
        import diffusers
        import torch

        self._pipe, self._others = None, {}
        torch.set_num_threads(options.threads)
        plain = options.variant == ""
        dtype = torch.float32 if plain else torch.bfloat16
        pipe = load(checkpoint, dtype).to(options.device)
        pipe.scheduler = scheduler_of(pipe, options.sampler)
        if not plain:
            pipe.unet.to(memory_format=torch.channels_last)
            pipe.vae.to(memory_format=torch.channels_last)
        if options.variant == "compiled":
            pipe.unet = torch.compile(pipe.unet)
        self._pipe, self._checkpoint, self._options = pipe, checkpoint, options
        about = {"diffusers": diffusers.__version__, "torch": torch.__version__, "channels_last": not plain}
        return Opened(str(dtype).removeprefix("torch."), about | {"compiled": options.variant == "compiled"})

    def refuses(self, checkpoint: Checkpoint, job: Job) -> str | None:
        """A LoRA needs PEFT."""
        needs_peft = job.lora or bool(checkpoint.fused_lora)
        return "LoRAs need peft (pip install peft)" if needs_peft and not importlib.util.find_spec("peft") else None

    def _ready(self, job: Job) -> Any:
        """The pipeline for a job: text to image, from a picture, or with a ControlNet; modules are shared."""
        from diffusers import StableDiffusionControlNetPipeline, StableDiffusionImg2ImgPipeline

        checkpoint = self._checkpoint
        assert checkpoint is not None
        if job.lora and not self._pipe.get_active_adapters():
            lora = Path(checkpoint.lora_file)
            self._pipe.load_lora_weights(str(lora.parent), weight_name=lora.name, adapter_name="bench")
            self._pipe.set_adapters("bench", LORA_WEIGHT)
        elif not job.lora and self._pipe.get_active_adapters():
            self._pipe.unload_lora_weights()
        if job.init:
            return self._other("img2img", lambda: StableDiffusionImg2ImgPipeline(**self._pipe.components))
        if job.control:
            return self._other(
                "control",
                lambda: StableDiffusionControlNetPipeline(**self._pipe.components, controlnet=self._net(checkpoint)),
            )
        return self._pipe

    def _other(self, name: str, make: Any) -> Any:
        if name not in self._others:
            pipe = make()
            pipe.set_progress_bar_config(disable=True)
            self._others[name] = pipe
        return self._others[name]

    def _net(self, checkpoint: Checkpoint) -> Any:
        import torch
        from diffusers import ControlNetModel

        plain = self._options.variant == ""
        dtype = torch.float32 if plain else torch.bfloat16
        net = ControlNetModel.from_pretrained(checkpoint.control_folder, torch_dtype=dtype).to(self._options.device)
        return net if plain else net.to(memory_format=torch.channels_last)

    def paint(self, job: Job) -> list[Image.Image]:
        """One call of the pipeline."""
        import torch

        pipe = self._ready(job)
        more: dict[str, Any] = {}
        if job.init:
            more = {"image": open_picture(job.init, job), "strength": job.strength}
        else:
            more = {"width": job.width_px, "height": job.height_px}
        if job.control:
            more |= {"image": open_picture(job.control, job), "controlnet_conditioning_scale": CONTROL_WEIGHT}
        return pipe(
            prompt=job.prompt,
            negative_prompt=job.negative,
            num_inference_steps=job.steps,
            guidance_scale=job.guidance,
            num_images_per_prompt=job.count,
            generator=torch.Generator("cpu").manual_seed(job.seed),
            **more,
        ).images

    def close(self) -> None:
        """Drop the models."""
        self._pipe, self._others = None, {}


PEER = DiffusersPeer
