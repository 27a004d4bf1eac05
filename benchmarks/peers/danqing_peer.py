"""Danqing: Request, Plan, pipelines and engine with `open_executor(loader, "auto")`, as its worker paints."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from benchmarks.peers._jobs import CONTROL_WEIGHT, LORA_WEIGHT, Checkpoint, Job, Opened, Peer, PeerOptions


class _Pictures:
    """Input pictures by the hash of their file, as Requests name them."""

    def __init__(self) -> None:
        self._paths: dict[str, Path] = {}

    def add(self, path: str) -> str:
        """How a Request names this file."""
        sha256 = hashlib.sha256(Path(path).read_bytes()).hexdigest()
        self._paths[sha256] = Path(path)
        return f"sha256:{sha256}"

    def open(self, sha256: str) -> Image.Image:
        """The picture with this hash."""
        with Image.open(self._paths[sha256]) as picture:
            return picture.convert("RGB")


class DanqingPeer(Peer):
    """Danqing in one process; the variant is a precision, empty for its own choice."""

    def __init__(self) -> None:
        self._pictures = _Pictures()
        self._homes: dict[str, tuple[Any, Any]] = {}
        self._checkpoint: Checkpoint | None = None
        self._precision = "auto"

    def available(self) -> str | None:
        """Always there."""
        return None

    def open(self, checkpoint: Checkpoint, options: PeerOptions) -> Opened:
        """Catalogue, loader and executor of its models folder; the model is loaded and kept as the loader does."""
        import torch

        from danqing.engine.executors import open_executor
        from danqing.models.catalog import Catalog
        from danqing.models.loader import Loader
        from danqing.models.precision import choose

        torch.set_num_threads(options.threads)
        device = torch.device(options.device)
        self._precision = options.variant or "auto"
        if checkpoint.models_dir not in self._homes:
            catalog = Catalog(Path(checkpoint.models_dir) if checkpoint.models_dir else None)
            self._homes[checkpoint.models_dir] = (catalog, open_executor(Loader(catalog, device), "auto"))
        self._checkpoint = checkpoint
        _, executor = self._homes[checkpoint.models_dir]
        precision = choose(device, self._precision).name
        return Opened(precision, {"executor": type(executor).__name__})

    def _plans(self, job: Job) -> tuple[Any, ...]:
        from danqing.planning import plan
        from danqing.spec.geometry import SizePx
        from danqing.spec.request import parse_request

        checkpoint = self._checkpoint
        assert checkpoint is not None
        tag = f" <lora:{Path(checkpoint.lora_file).stem}:{LORA_WEIGHT}>" if job.lora else ""
        request: dict[str, Any] = {
            "kind": "img2img" if job.init else "txt2img",
            "prompt": job.prompt + tag,
            "negative_prompt": job.negative,
            "model": checkpoint.name,
            "seed": job.seed,
            "count": job.count,
            "width_px": job.width_px,
            "height_px": job.height_px,
            "sampling": {"sampler": job.sampler, "steps": job.steps},
            "guidance": {"scale": job.guidance},
            "precision": self._precision,
        }
        if job.init:
            request |= {"image": self._pictures.add(job.init), "strength": job.strength}
        if job.control:
            unit = {"model": Path(checkpoint.control_file).stem, "weight": CONTROL_WEIGHT}
            request["controls"] = [unit | {"image": self._pictures.add(job.control)}]
        catalog, _ = self._homes[checkpoint.models_dir]
        size = SizePx(width_px=job.width_px, height_px=job.height_px) if job.init else None
        return tuple(plan(parse_request(request), catalog, image_size=size))

    def _run(self, jobs: Sequence[Job]) -> tuple[list[list[Image.Image]], list[float]]:
        """Pictures of each job and seconds until its last one was there; all enter the engine at once."""
        from danqing.engine import Engine, EngineOptions, Finished, SessionEvent
        from danqing.pipelines import expected_calls, paint
        from danqing.workers.painter import PREVIEW_MIN_INTERVAL_S

        assert self._checkpoint is not None
        _, executor = self._homes[self._checkpoint.models_dir]
        started = time.perf_counter()
        engine = Engine(executor, EngineOptions(preview_interval_s=PREVIEW_MIN_INTERVAL_S))
        ended: dict[str, tuple[Any, float]] = {}

        def sink(event: SessionEvent) -> None:
            if isinstance(event, Finished):
                if event.error is not None:
                    raise event.error
                ended[event.key] = event.result, time.perf_counter() - started

        counts: list[int] = []
        for user, job in enumerate(jobs):
            plans = self._plans(job)
            counts.append(len(plans))
            for at, one in enumerate(plans):
                session = paint(one, self._pictures)
                engine.submit(f"{user}.{at}", session, sink, user=f"user {user}", expected_calls=expected_calls(one))
        engine.run_until_idle()
        found = [[ended[f"{user}.{at}"] for at in range(count)] for user, count in enumerate(counts)]
        return [[picture for picture, _ in one] for one in found], [max(when for _, when in one) for one in found]

    def paint(self, job: Job) -> list[Image.Image]:
        """Through the engine; several pictures share its batches."""
        return self._run([job])[0][0]

    def paint_together(self, jobs: Sequence[Job]) -> list[float]:
        """All users' jobs are live at once: steps of any of them share batches, short ones finish first."""
        return self._run(jobs)[1]

    def close(self) -> None:
        """Drop the models."""
        self._homes.clear()


PEER = DanqingPeer
