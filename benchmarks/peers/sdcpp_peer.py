"""stable-diffusion.cpp through `stable-diffusion-cpp-python`: weights as the file has them (f16), or in q8_0.

Flash attention in the denoiser, which its documentation names for speed, is on for a GPU only: on a CPU a step of
Stable Diffusion 1.5's shape at 256² took 14 s with it and 6.7 s without.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from PIL import Image

from benchmarks.peers._jobs import CONTROL_WEIGHT, LORA_WEIGHT, Checkpoint, Job, Opened, Peer, PeerOptions, open_picture

SAMPLERS = {"Euler": "euler", "DDIM": "ddim_trailing"}


class SdCppPeer(Peer):
    """One context of the library, with a ControlNet where a job asks for one: it is chosen when the context is made."""

    def __init__(self) -> None:
        self._model: Any = None
        self._with_control = False
        self._checkpoint: Checkpoint | None = None
        self._options = PeerOptions()

    def available(self) -> str | None:
        """Whether its package is there."""
        if importlib.util.find_spec("stable_diffusion_cpp") is None:
            return "not installed (pip install stable-diffusion-cpp-python; it is compiled: cmake and a C++ compiler)"
        return None

    def refuses(self, checkpoint: Checkpoint, job: Job) -> str | None:  # noqa: ARG002
        """It knows the published shapes only, in one file."""
        if not checkpoint.single_file:
            return "stable-diffusion.cpp is given single files only"
        if not checkpoint.published_shape:
            return "stable-diffusion.cpp knows the published shapes of Stable Diffusion only"
        return None

    def open(self, checkpoint: Checkpoint, options: PeerOptions) -> Opened:
        """Read the file; in q8_0 it is quantised while it is read."""
        import importlib.metadata

        self._checkpoint, self._options = checkpoint, options
        self._make(with_control=False)
        about = {"stable_diffusion_cpp_python": importlib.metadata.version("stable-diffusion-cpp-python")}
        return Opened(
            "q8_0" if options.variant == "q8_0" else "float16", about | {"flash_attention": options.device != "cpu"}
        )

    def _make(self, *, with_control: bool) -> None:
        from stable_diffusion_cpp import StableDiffusion

        checkpoint = self._checkpoint
        assert checkpoint is not None
        self.close()
        self._model = StableDiffusion(
            model_path=checkpoint.path,
            control_net_path=checkpoint.control_file if with_control else "",
            lora_model_dir=str(Path(checkpoint.lora_file).parent) if checkpoint.lora_file else "",
            wtype="q8_0" if self._options.variant == "q8_0" else "f16",
            n_threads=self._options.threads,
            diffusion_flash_attn=self._options.device != "cpu",
            verbose=False,
        )
        self._with_control = with_control

    def paint(self, job: Job) -> list[Image.Image]:
        """One call; the first with a ControlNet makes the context anew (in a round that is not timed)."""
        if bool(job.control) != self._with_control:
            self._make(with_control=bool(job.control))
        checkpoint = self._checkpoint
        assert checkpoint is not None
        tag = f" <lora:{Path(checkpoint.lora_file).stem}:{LORA_WEIGHT}>" if job.lora else ""
        more: dict[str, Any] = {}
        if job.init:
            more |= {"init_image": open_picture(job.init, job), "strength": job.strength}
        if job.control:
            more |= {"control_image": open_picture(job.control, job), "control_strength": CONTROL_WEIGHT}
        return self._model.generate_image(
            prompt=job.prompt + tag,
            negative_prompt=job.negative,
            width=job.width_px,
            height=job.height_px,
            cfg_scale=job.guidance,
            sample_method=SAMPLERS[job.sampler],
            sample_steps=job.steps,
            seed=job.seed,
            batch_count=job.count,
            **more,
        )

    def close(self) -> None:
        """Free the context."""
        if self._model is not None:
            self._model.close()
        self._model = None


PEER = SdCppPeer
