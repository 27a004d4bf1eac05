"""optimum-intel: the checkpoint exported to OpenVINO once, then compiled for each size and batch, as Intel advises.

Settings: optimum-intel's documentation, "Optimize inference": `reshape` to a static size before `compile`, and weights
in 8 bits (`int8`). On a CPU that multiplies bfloat16 OpenVINO computes in it unless told otherwise.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from PIL import Image

from benchmarks.peers._jobs import Checkpoint, Job, Opened, Peer, PeerOptions, open_picture
from benchmarks.peers.diffusers_peer import load, scheduler_of

DONE = "exported"


class OptimumPeer(Peer):
    """OVStableDiffusionPipeline; from a picture OVStableDiffusionImg2ImgPipeline over the same graphs' files."""

    def __init__(self) -> None:
        self._pipes: dict[bool, Any] = {}
        self._shapes: dict[bool, tuple[int, ...]] = {}
        self._folder = Path()
        self._options = PeerOptions()

    def available(self) -> str | None:
        """Whether its packages are there; torchvision must fit torch or be absent."""
        if any(importlib.util.find_spec(name) is None for name in ("optimum", "openvino", "torch")):
            return "not installed (pip install optimum-intel openvino nncf in an environment of its own)"
        try:
            from optimum.intel import OVStableDiffusionPipeline  # noqa: F401
        except Exception as error:  # noqa: BLE001 - whatever an environment breaks in is what a person must be told
            return f"installed, but it does not import: {error}"
        return None

    def refuses(self, checkpoint: Checkpoint, job: Job) -> str | None:
        """What its pipelines lack."""
        if job.control:
            return "optimum-intel has no ControlNet pipeline"
        if job.lora:
            return "optimum-intel cannot load a LoRA into an exported model"
        if checkpoint.fused_lora and importlib.util.find_spec("peft") is None:
            return "this model is a LoRA on another: exporting it needs peft"
        return None

    def _exported(self, checkpoint: Checkpoint, options: PeerOptions) -> Path:
        return Path(options.work_dir) / f"{checkpoint.name}{'-int8' if options.variant == 'int8' else ''}"

    def prepare(self, checkpoint: Checkpoint, options: PeerOptions) -> None:
        """Export it: through a diffusers folder, since the exporter reads no single file."""
        import torch
        from optimum.intel import OVStableDiffusionPipeline, OVWeightQuantizationConfig

        target = self._exported(checkpoint, options)
        if (target / DONE).exists():
            return
        source = Path(options.work_dir) / f"{checkpoint.name}-diffusers"
        if not (source / DONE).exists():
            load(checkpoint, torch.float32).save_pretrained(source)
            (source / DONE).touch()
        config = OVWeightQuantizationConfig(bits=8) if options.variant == "int8" else None
        pipe = OVStableDiffusionPipeline.from_pretrained(
            source, export=True, compile=False, quantization_config=config, load_in_8bit=None if config else False
        )
        pipe.save_pretrained(target)
        (target / DONE).touch()

    def open(self, checkpoint: Checkpoint, options: PeerOptions) -> Opened:
        """Read the exported graphs; they are compiled by the first picture of a size."""
        from importlib import metadata

        import openvino

        self._pipes, self._shapes = {}, {}
        self._folder, self._options = self._exported(checkpoint, options), options
        pipe = self._pipe(from_picture=False)
        core = openvino.Core()
        native = "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        precision = "bfloat16" if native else "float32"
        about = {
            "openvino": openvino.get_version(),
            "optimum_intel": metadata.version("optimum-intel"),
            "computes_in": precision,
        }
        del pipe
        return Opened("int8" if options.variant == "int8" else precision, about)

    def _pipe(self, *, from_picture: bool) -> Any:
        from optimum.intel import OVStableDiffusionImg2ImgPipeline, OVStableDiffusionPipeline

        if from_picture not in self._pipes:
            kind = OVStableDiffusionImg2ImgPipeline if from_picture else OVStableDiffusionPipeline
            pipe = kind.from_pretrained(
                self._folder,
                compile=False,
                safety_checker=None,
                ov_config={"INFERENCE_NUM_THREADS": str(self._options.threads), "PERFORMANCE_HINT": "LATENCY"},
            )
            pipe.scheduler = scheduler_of(pipe, self._options.sampler)
            pipe.set_progress_bar_config(disable=True)
            self._pipes[from_picture] = pipe
        return self._pipes[from_picture]

    def paint(self, job: Job) -> list[Image.Image]:
        """One call; a size or batch that was not there before is compiled first (in a round that is not timed)."""
        import torch

        pipe = self._pipe(from_picture=bool(job.init))
        # reshape() takes guidance above 1 for granted; without it the graphs stay dynamic.
        fixed = job.guidance > 1
        shape = (job.height_px, job.width_px, job.count) if fixed else (-1, -1, -1)
        if self._shapes.get(bool(job.init)) != shape:
            if fixed:
                pipe.reshape(batch_size=1, height=shape[0], width=shape[1], num_images_per_prompt=shape[2])
            elif bool(job.init) in self._shapes:
                del self._pipes[bool(job.init)]
                pipe = self._pipe(from_picture=bool(job.init))
            pipe.compile()
            self._shapes[bool(job.init)] = shape
        picture = {"image": open_picture(job.init, job), "strength": job.strength} if job.init else {}
        size = {} if job.init else {"width": job.width_px, "height": job.height_px}
        return pipe(
            prompt=job.prompt,
            negative_prompt=job.negative,
            num_inference_steps=job.steps,
            guidance_scale=job.guidance,
            num_images_per_prompt=job.count,
            generator=torch.Generator("cpu").manual_seed(job.seed),
            **picture,
            **size,
        ).images

    def close(self) -> None:
        """Drop the graphs."""
        self._pipes, self._shapes = {}, {}


PEER = OptimumPeer
