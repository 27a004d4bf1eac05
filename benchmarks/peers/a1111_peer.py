"""A1111's web UI, or Forge, by their HTTP API (`--api`): `/sdapi/v1/txt2img` and `/sdapi/v1/img2img`."""

from __future__ import annotations

import base64
import io
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image

from benchmarks.peers._http import Server, ServerPeer, all_at_once, pick
from benchmarks.peers._jobs import CONTROL_WEIGHT, LORA_WEIGHT, Checkpoint, Job, Opened, PeerOptions


class A1111Peer(ServerPeer):
    """A running server."""

    program = "A1111"

    def __init__(self) -> None:
        super().__init__()
        self._title = ""
        self._control = ""

    def open(self, checkpoint: Checkpoint, options: PeerOptions) -> Opened:
        """Find the checkpoint in its list; it loads it with the first picture, as for its users."""
        self._server, self._checkpoint = Server(options.url), checkpoint
        silent = self._server.silent("/sdapi/v1/sd-models")
        if silent:
            raise RuntimeError(f"{silent} (is it started with --api?)")
        self._server.post("/sdapi/v1/refresh-checkpoints", {})
        titles = [str(one["title"]) for one in self._server.get_json("/sdapi/v1/sd-models")]
        self._title = pick(checkpoint.name, titles, "checkpoint", "models/Stable-diffusion")
        self._control = ""
        return Opened("", {"server": options.url})

    def body(self, job: Job) -> dict[str, Any]:
        """What is sent for a job."""
        checkpoint = self._checkpoint
        assert checkpoint is not None
        tag = f" <lora:{Path(checkpoint.lora_file).stem}:{LORA_WEIGHT}>" if job.lora else ""
        body: dict[str, Any] = {
            "prompt": job.prompt + tag,
            "negative_prompt": job.negative,
            "seed": job.seed,
            "steps": job.steps,
            "cfg_scale": job.guidance,
            "width": job.width_px,
            "height": job.height_px,
            "batch_size": job.count,
            "n_iter": 1,
            "sampler_name": job.sampler,
            "save_images": False,
            "send_images": True,
            "override_settings": {"sd_model_checkpoint": self._title},
            "override_settings_restore_afterwards": False,
        }
        if job.init:
            body |= {"init_images": [_encoded(job.init)], "denoising_strength": job.strength}
        if job.control:
            unit = {"enabled": True, "module": "none", "model": self._net(), "weight": CONTROL_WEIGHT}
            body["alwayson_scripts"] = {"controlnet": {"args": [unit | {"image": _encoded(job.control)}]}}
        return body

    def _net(self) -> str:
        if not self._control:
            assert self._checkpoint is not None
            names = [str(one) for one in self._server.get_json("/controlnet/model_list")["model_list"]]
            self._control = pick(Path(self._checkpoint.control_file).stem, names, "ControlNet", "models/ControlNet")
        return self._control

    def paint(self, job: Job) -> list[Image.Image]:
        """One request; a ControlNet's map that comes back behind the pictures is left out."""
        path = "/sdapi/v1/img2img" if job.init else "/sdapi/v1/txt2img"
        images = self._server.post(path, self.body(job))["images"][: job.count]
        return [Image.open(io.BytesIO(base64.b64decode(one.partition(",")[2] or one))).convert("RGB") for one in images]

    def paint_together(self, jobs: Sequence[Job]) -> list[float]:
        """Everybody's requests wait for its lock."""
        started = time.perf_counter()

        def ask(job: Job) -> float:
            self.paint(job)
            return time.perf_counter() - started

        return all_at_once([partial(ask, job) for job in jobs], len(jobs))

    def peak_bytes(self) -> int | None:
        """What the server holds now, as it says."""
        try:
            return int(self._server.get_json("/sdapi/v1/memory")["ram"]["used"])
        except (OSError, RuntimeError, KeyError, TypeError, ValueError):
            return None

    def close(self) -> None:
        """The server goes on."""


def _encoded(path: str) -> str:
    return base64.b64encode(Path(path).read_bytes()).decode()


PEER = A1111Peer
