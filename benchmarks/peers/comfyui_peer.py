"""ComfyUI by its HTTP API: a graph goes to `/prompt`, `/history/ID` tells when it is done, `/view` gives the picture.

A graph that was answered before is answered from its cache, so every timed job has words and a seed of its own. The
history is asked every 10 ms; that is the largest error.
"""

from __future__ import annotations

import io
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image

from benchmarks.peers._http import Server, ServerPeer, all_at_once, pick
from benchmarks.peers._jobs import CONTROL_WEIGHT, LORA_WEIGHT, Checkpoint, Job, Opened, PeerOptions

POLL_S = 0.01
SAMPLERS = {"Euler": ("euler", "normal"), "DDIM": ("ddim", "ddim_uniform")}
Graph = dict[str, dict[str, Any]]


class ComfyUiPeer(ServerPeer):
    """A running server."""

    program = "ComfyUI"

    def __init__(self) -> None:
        super().__init__()
        self._names: dict[str, str] = {}
        self._uploaded: dict[str, str] = {}

    def open(self, checkpoint: Checkpoint, options: PeerOptions) -> Opened:
        """Find the checkpoint in its lists; it loads it with the first picture, as for its users."""
        self._server, self._checkpoint = Server(options.url), checkpoint
        silent = self._server.silent("/system_stats")
        if silent:
            raise RuntimeError(silent)
        self._names = {
            "model": self._find("CheckpointLoaderSimple", "ckpt_name", checkpoint.name, "models/checkpoints")
        }
        self._uploaded = {}
        system = self._server.get_json("/system_stats").get("system", {})
        return Opened("", {"comfyui": system.get("comfyui_version"), "torch": system.get("pytorch_version")})

    def _find(self, node: str, field: str, wanted: str, where: str) -> str:
        about = self._server.get_json(f"/object_info/{node}")
        return pick(wanted, list(about[node]["input"]["required"][field][0]), "file", where)

    def graph(self, job: Job) -> Graph:
        """The nodes of a job, by number."""
        checkpoint = self._checkpoint
        assert checkpoint is not None
        sampler, schedule = SAMPLERS[job.sampler]
        nodes: Graph = {"model": _node("CheckpointLoaderSimple", ckpt_name=self._names["model"])}
        model, clip = ["model", 0], ["model", 1]
        if job.lora:
            name = self._names.setdefault(
                "lora", self._find("LoraLoader", "lora_name", Path(checkpoint.lora_file).stem, "models/loras")
            )
            strengths = {"strength_model": LORA_WEIGHT, "strength_clip": LORA_WEIGHT}
            nodes["lora"] = _node("LoraLoader", model=model, clip=clip, lora_name=name, **strengths)
            model, clip = ["lora", 0], ["lora", 1]
        nodes["words"] = _node("CLIPTextEncode", text=job.prompt, clip=clip)
        nodes["negative"] = _node("CLIPTextEncode", text=job.negative, clip=clip)
        positive, negative = ["words", 0], ["negative", 0]
        if job.control:
            nodes |= self._control(checkpoint, job)
            positive, negative = ["control", 0], ["control", 1]
        nodes |= self._start(job)
        nodes["sample"] = _node(
            "KSampler",
            model=model,
            positive=positive,
            negative=negative,
            latent_image=["start", 0],
            seed=job.seed,
            # Of `steps` it does all, spread over the `denoise` share of the schedule.
            steps=job.done_steps,
            denoise=job.strength if job.init else 1.0,
            cfg=job.guidance,
            sampler_name=sampler,
            scheduler=schedule,
        )
        nodes["decode"] = _node("VAEDecode", samples=["sample", 0], vae=["model", 2])
        nodes["show"] = _node("PreviewImage", images=["decode", 0])
        return nodes

    def _control(self, checkpoint: Checkpoint, job: Job) -> Graph:
        stem = Path(checkpoint.control_file).stem
        name = self._names.setdefault(
            "control", self._find("ControlNetLoader", "control_net_name", stem, "models/controlnet")
        )
        return {
            "net": _node("ControlNetLoader", control_net_name=name),
            "map": _node("LoadImage", image=self._upload(job.control)),
            "control": _node(
                "ControlNetApplyAdvanced",
                positive=["words", 0],
                negative=["negative", 0],
                control_net=["net", 0],
                image=["map", 0],
                strength=CONTROL_WEIGHT,
                start_percent=0.0,
                end_percent=1.0,
            ),
        }

    def _start(self, job: Job) -> Graph:
        size = {"width": job.width_px, "height": job.height_px}
        if not job.init:
            return {"start": _node("EmptyLatentImage", batch_size=job.count, **size)}
        scaled = _node("ImageScale", image=["picture", 0], upscale_method="bilinear", crop="disabled", **size)
        return {
            "picture": _node("LoadImage", image=self._upload(job.init)),
            "scaled": scaled,
            "start": _node("VAEEncode", pixels=["scaled", 0], vae=["model", 2]),
        }

    def _upload(self, path: str) -> str:
        if path not in self._uploaded:
            self._uploaded[path] = self._server.upload("/upload/image", "image", Path(path))["name"]
        return self._uploaded[path]

    def paint(self, job: Job) -> list[Image.Image]:
        """Send the graph, wait for its end, fetch the pictures."""
        answer = self._server.post("/prompt", {"prompt": self.graph(job), "client_id": "danqing-benchmark"})
        key = answer["prompt_id"]
        while True:
            told = self._server.get_json(f"/history/{key}").get(key)
            if told and told.get("status", {}).get("status_str") == "error":
                raise RuntimeError(f"ComfyUI: {told['status'].get('messages')}")
            if told and told.get("outputs"):
                break
            time.sleep(POLL_S)
        found: list[Image.Image] = []
        for image in told["outputs"]["show"]["images"]:
            data = self._server.get(
                "/view", filename=image["filename"], subfolder=image.get("subfolder", ""), type=image["type"]
            )
            found.append(Image.open(io.BytesIO(data)).convert("RGB"))
        return found

    def paint_together(self, jobs: Sequence[Job]) -> list[float]:
        """Everybody's graphs lie in its queue."""
        started = time.perf_counter()

        def ask(job: Job) -> float:
            self.paint(job)
            return time.perf_counter() - started

        return all_at_once([partial(ask, job) for job in jobs], len(jobs))

    def close(self) -> None:
        """The server goes on."""


def _node(kind: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs}


PEER = ComfyUiPeer
