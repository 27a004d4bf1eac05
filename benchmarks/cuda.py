"""The table of issue 7 for one CUDA device: alone, in a crowd, against plain diffusers and the matrix-product peak.

Bars: Stable Diffusion 1.5's shape at 512², 20 steps, one picture ≤ 0.35 s and ≥ 2.5 × as fast as diffusers' defaults;
32 people at once ≥ 2.2 × our own serial queue and ≥ 5 × serial diffusers; the UNet at ≥ 45 % of the matrix-product
peak; a picture alone and in company ≥ 40 dB (bfloat16); that shape in 4 GiB, Stable Diffusion XL's at 1024² in 6 GiB.
Weights are random where only time and memory count; likeness is measured on the built-in model, which is trained.
What was measured is written after each stage, so that a run that is cut off keeps it.
"""

from __future__ import annotations

import gc
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks import _machine
from benchmarks._bench import NoPictures
from benchmarks._cuda_models import write_sdxl
from benchmarks._gemm import peak_flops
from benchmarks._report import RESULTS, Options, Outcome, median, run
from benchmarks._timing import seconds, synchronise
from benchmarks.peers import _checkpoints, diffusers_peer
from danqing.engine import Engine, Finished, SessionEvent
from danqing.engine.calls import Denoise, ModelKey
from danqing.engine.cuda_executor import CudaExecutor
from danqing.engine.executors import open_executor
from danqing.engine.torch_executor import TorchExecutor
from danqing.models.catalog import Catalog
from danqing.models.loader import Loader, pick_device
from danqing.models.memory import CONTEXT_BYTES, Limits
from danqing.pipelines import expected_calls, paint
from danqing.planning import plan
from danqing.spec.painting import Guidance, Sampling, Txt2ImgRequest
from danqing.spec.plan import Plan
from danqing.spec.registry.families import BUILTIN_MODEL

GIB = 1 << 30
PICTURE_S, SPEEDUP, QUEUE, CROWD, PEAK, DECIBELS = 0.35, 2.5, 2.2, 5.0, 0.45, 40.0
LIMITS = {"sd15": 4.0, "sdxl": 6.0}
FLOP_PER_ROW = 677e9
"""Of Stable Diffusion 1.5's UNet at 64 × 64 latents and 77 tokens, as the issue counts them."""
MINUTES, COMPILE_S = 9.0, 120.0
"""Of the whole run, since lent machines stop a command after ten; and the longest wait for what is compiled."""


@dataclass
class Table:
    """What was measured so far.

    Attributes:
        options: What a person chose.
        device: Where.
        small: Sides and counts for a quick run.
        figures: By name.
        details: What explains them.
        started_at: Of the whole run, monotonic.
    """

    options: Options
    device: torch.device
    figures: dict[str, float] = field(default_factory=dict[str, float])
    details: dict[str, Any] = field(default_factory=dict[str, Any])
    started_at: float = field(default_factory=time.monotonic)

    @property
    def small(self) -> bool:
        """Whether this only shows that the code runs."""
        return self.options.quick

    @property
    def left_s(self) -> float:
        """Seconds until a lent machine is taken away."""
        return MINUTES * 60 - (time.monotonic() - self.started_at)

    def keep(self) -> None:
        """Write what there is."""
        folder = self.options.out or (None if self.small else RESULTS)
        if folder is None:
            return
        folder.mkdir(parents=True, exist_ok=True)
        kept = {
            **self.figures,
            "details": self.details,
            "machine": _machine.machine(str(self.device)),
            "versions": _machine.versions(),
            "commit": _machine.commit(),
            "date": _machine.now(),
        }
        (folder / "cuda-partial.json").write_text(json.dumps(kept, indent=2, default=str) + "\n", encoding="utf-8")


@dataclass
class Studio:
    """Models, and the executor that a person gets.

    Attributes:
        catalog: What there is.
        executor: Over it.
    """

    catalog: Catalog
    executor: TorchExecutor

    @classmethod
    def over(cls, root: Path | None, device: torch.device, limits: Limits | None = None) -> Studio:
        """Of a models folder; the built-in family alone if there is none."""
        catalog = Catalog(root)
        return cls(catalog, open_executor(Loader(catalog, device, limits=limits)))

    def plans(self, name: str, count: int, steps: int, px: int | None = None) -> list[Plan]:
        """Pictures of one model, each with words and a seed of its own."""
        size = {} if px is None else {"width_px": px, "height_px": px}
        requests = (
            Txt2ImgRequest(
                prompt=f"red apple, 3d, {index}",
                model=name,
                seed=index,
                sampling=Sampling(steps=steps, sampler="Euler"),
                guidance=Guidance(),
                **size,
            )
            for index in range(count)
        )
        return [plan(request, self.catalog, rng_seed=0)[0] for request in requests]

    def paint(self, plans: Sequence[Plan], *, together: bool = True) -> list[Image.Image]:
        """The pictures; one user each."""
        engine, found = Engine(self.executor), dict[str, Any]()

        def sink(event: SessionEvent) -> None:
            if isinstance(event, Finished):
                if event.error is not None:
                    raise event.error
                found[event.key] = event.result

        for index, one in enumerate(plans):
            key = str(index)
            engine.submit(key, paint(one, NoPictures()), sink, user=key, expected_calls=expected_calls(one))
            if not together:
                engine.run_until_idle()
        engine.run_until_idle()
        return [found[str(index)] for index in range(len(plans))]

    def warm(self, work: Callable[[], object], most_s: float, least: int = 1) -> dict[str, Any]:
        """Work until what runs in the background is ready, at least so many times; what came of it."""
        first_s = [round(seconds(work, self.executor.loader.device), 4) for _ in range(2)]
        if not isinstance(self.executor, CudaExecutor):
            return {"first_s": first_s}
        warmup, until, count = self.executor.warmup, time.monotonic() + most_s, 0
        while time.monotonic() < until:
            before = warmup.states()
            work()
            count += 1
            if count >= least and not warmup.compiling and warmup.states() == before:
                break
        return {"first_s": first_s, "buckets": warmup.states(), "reasons": [one[:400] for one in warmup.reasons]}


def measure(options: Options) -> Outcome:
    """Stage after stage; each is skipped where too little time is left."""
    device = pick_device(options.device)
    table = Table(options, device)
    with tempfile.TemporaryDirectory(prefix="danqing-cuda-") as name:
        root = Path(name)
        options.say(f"writing random weights … ({device})")
        checkpoint = _checkpoints.made(root, "sd15", options.quick, second=True)
        opened: list[Studio] = []
        stages: list[tuple[str, float, Callable[[], None]]] = [
            ("peak", 20, lambda: peak(table)),
            ("alone", 60, lambda: opened.append(alone(table, root))),
            ("diffusers", 45, lambda: plain(table, checkpoint)),
            ("unet", 20, lambda: unet(table, opened[0])),
            ("crowd", 60, lambda: crowd(table, opened[0])),
            ("likeness", 40, lambda: likeness(table, opened[0])),
            ("memory_sd15", 30, lambda: memory(table, root, "sd15", 512)),
            ("memory_sdxl", 90, lambda: memory(table, root, "sdxl", 1024)),
        ]
        for stage, least_s, work in stages:
            if stage == "memory_sd15":
                opened.clear()
            _stage(table, stage, least_s, work)
    return Outcome(table.figures, _bar(), _passed(table.figures), {**table.details, "executor": "CUDA graphs"})


def _stage(table: Table, name: str, least_s: float, work: Callable[[], None]) -> None:
    """One stage: what it finds is kept at once, and where it fails the others go on."""
    say = table.options.say
    if table.left_s < least_s:
        table.details[f"skipped_{name}"] = f"{table.left_s:.0f} s were left, {least_s:.0f} are needed"
        say(f"{name}: skipped, {table.details[f'skipped_{name}']}")
        table.keep()
        return
    started = time.monotonic()
    before = dict(table.figures)
    try:
        work()
    except Exception as error:  # noqa: BLE001  a lent machine is too dear to lose the other stages
        table.details[f"failed_{name}"] = f"{type(error).__name__}: {error}"[:2000]
        say(f"{name}: FAILED {table.details[f'failed_{name}']}")
    found = {key: f"{value:.4g}" for key, value in table.figures.items() if key not in before}
    table.details[f"stage_{name}_s"] = round(time.monotonic() - started, 1)
    say(f"{name}: {found} ({table.details[f'stage_{name}_s']} s; {table.left_s:.0f} s left)")
    table.keep()


def peak(table: Table) -> None:
    """Matrix products alone."""
    dtype = torch.bfloat16 if table.device.type == "cuda" else torch.float32
    table.figures["gemm_peak_tflops"] = (
        peak_flops(table.device, dtype, repeats=1 if table.small else 5, quick=table.small) / 1e12
    )


def alone(table: Table, root: Path) -> Studio:
    """One person, one picture at a time."""
    studio = Studio.over(root, table.device)
    px, steps = (64, 3) if table.small else (512, 20)
    (one,) = studio.plans("sd15", 1, steps, px)

    def work() -> object:
        return studio.paint([one])

    table.details["alone"] = studio.warm(work, 5 if table.small else COMPILE_S)
    times = [seconds(work, table.device) for _ in range(table.options.times(full=9, quick=1))]
    table.figures["picture_s"] = median(times)
    table.figures["first_picture_s"] = table.details["alone"]["first_s"][0]
    table.details["alone"]["times_s"] = [round(one, 4) for one in times]
    return studio


def plain(table: Table, checkpoint: Any) -> None:
    """Plain diffusers with nothing changed (float32), and in bfloat16 for comparison."""
    px, steps = (64, 3) if table.small else (512, 20)
    formats = {"diffusers_s": torch.float32, "diffusers_bf16_s": torch.bfloat16}
    if table.small:
        del formats["diffusers_bf16_s"]
    for name, dtype in formats.items():
        pipe = diffusers_peer.load(checkpoint, dtype).to(table.device)

        def work(pipe: Any = pipe) -> object:
            words = {"num_inference_steps": steps, "guidance_scale": 7.5, "height": px, "width": px}
            return pipe("red apple, 3d", **words).images[0]

        work()
        times = [seconds(work, table.device) for _ in range(table.options.times(full=5, quick=1))]
        table.figures[name] = median(times)
        del pipe, work
        _empty(table.device)
    if "picture_s" in table.figures:
        for name in formats:
            table.figures[f"ratio_to_{name[:-2]}"] = table.figures[name] / table.figures["picture_s"]


def unet(table: Table, studio: Studio) -> None:
    """The UNet's share of the peak, in the largest batch of a crowd: transfers included."""
    side, count = (8, 2) if table.small else (64, 16)
    info = studio.catalog.find("sd15")
    key = ModelKey(info.ref)
    model = studio.executor.loader.get(key.model)
    width = int(model.unet.config["cross_attention_dim"])
    generator = torch.Generator().manual_seed(1)
    calls = [
        Denoise(
            key,
            torch.randn(1, info.latent_channels, side, side, generator=generator) * 7.0,
            7.0,
            tuple(torch.randn(2, 77, width, generator=generator)),
        )
        for _ in range(count)
    ]

    def work() -> object:
        return studio.executor.run(calls)

    table.details["unet"] = studio.warm(work, 3 if table.small else min(COMPILE_S, max(table.left_s - 200, 10)), 16)
    taken = median([seconds(work, table.device) for _ in range(table.options.times(full=9, quick=1))])
    rate = 2 * count * FLOP_PER_ROW * (side / 64) ** 2 / taken
    table.figures["unet_batch_s"] = taken
    table.figures["unet_tflops"] = rate / 1e12
    if "gemm_peak_tflops" in table.figures:
        table.figures["share_of_peak"] = rate / 1e12 / table.figures["gemm_peak_tflops"]


def crowd(table: Table, studio: Studio) -> None:
    """Many people at once, against the same pictures one after the other."""
    px, steps, count = (64, 3, 3) if table.small else (512, 20, 32)
    plans = studio.plans("sd15", count, steps, px)
    studio.paint(plans)
    studio.warm(lambda: studio.paint(plans[:16]), 1 if table.small else min(30.0, max(table.left_s - 160, 1)))
    rounds = table.options.times(full=2, quick=1)
    together, serial = list[float](), list[float]()
    for _ in range(rounds):
        together.append(seconds(lambda: studio.paint(plans), table.device))
        serial.append(seconds(lambda: studio.paint(plans, together=False), table.device))
    table.figures["crowd_s"], table.figures["queue_s"] = median(together), median(serial)
    table.figures["crowd_pictures_per_s"] = count / table.figures["crowd_s"]
    table.figures["ratio_to_queue"] = table.figures["queue_s"] / table.figures["crowd_s"]
    if "diffusers_s" in table.figures:
        table.figures["ratio_crowd_to_diffusers"] = table.figures["diffusers_s"] * count / table.figures["crowd_s"]
    table.details["crowd"] = {"people": count, "crowd_s": together, "queue_s": serial}


def likeness(table: Table, opened: Studio) -> None:
    """Pictures of the built-in model alone and among others, as PSNR; the worst counts."""
    studio = opened if table.small else Studio.over(None, table.device)
    steps, count = (2, 2) if table.small else (20, 16)
    plans = studio.plans("sd15" if table.small else BUILTIN_MODEL, count, steps, 64 if table.small else None)
    alone = [studio.paint([one])[0] for one in plans[: max(2, count // 2)]]
    together = studio.paint(plans)
    found = [decibels(a, b) for a, b in zip(alone, together, strict=False)]
    table.figures["company_decibels"] = min(found)
    table.details["likeness"] = [round(one, 1) for one in found]


def decibels(a: Image.Image, b: Image.Image) -> float:
    """PSNR of two pictures; 99 where they are the same."""
    error = float(((np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64)) ** 2).mean())
    return min(99.0, 10 * np.log10(255**2 / error)) if error > 0 else 99.0


def memory(table: Table, root: Path, name: str, px: int) -> None:
    """A picture within a limit, which PyTorch is held to: more than that fails."""
    if table.device.type != "cuda":
        table.details[f"memory_{name}"] = "no GPU"
        return
    if name == "sdxl":
        table.options.say("writing random weights of SDXL's shape …")
        write_sdxl(root, name)
    _empty(table.device)
    torch.cuda.reset_peak_memory_stats(table.device)
    steps = 4 if name == "sdxl" else 20
    try:
        taken, residency = _within(table.device, root, (name, px, steps))
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, table.device)
    peak_bytes = torch.cuda.max_memory_reserved(table.device) + CONTEXT_BYTES
    table.figures[f"memory_{name}_gib"] = peak_bytes / GIB
    table.figures[f"memory_{name}_s"] = taken
    table.details[f"memory_{name}"] = {"px": px, "steps": steps, "residency": residency}
    _empty(table.device)


def _within(device: torch.device, root: Path, wanted: tuple[str, int, int]) -> tuple[float, str]:
    """Seconds of a picture within its limit, and where the weights stayed."""
    name, px, steps = wanted
    studio = Studio.over(root, device, Limits.of(None, LIMITS[name]))
    (one,) = studio.plans(name, 1, steps, px)
    taken = seconds(lambda: studio.paint([one]), device)
    return taken, str(studio.executor.loader.residencies.get(name))


def _empty(device: torch.device) -> None:
    gc.collect()
    if device.type == "cuda":
        synchronise(device)
        torch.cuda.empty_cache()


def _bar() -> str:
    return (
        f"≤ {PICTURE_S} s, ≥ {SPEEDUP} × diffusers; 32 people ≥ {QUEUE} × a queue, ≥ {CROWD} × diffusers; "
        f"UNet ≥ {PEAK:.0%} of the peak; company ≥ {DECIBELS:.0f} dB; SD1.5 in 4 GiB, SDXL in 6 GiB"
    )


def _passed(figures: dict[str, float]) -> bool:
    at_least = {
        "ratio_to_diffusers": SPEEDUP,
        "ratio_to_queue": QUEUE,
        "ratio_crowd_to_diffusers": CROWD,
        "share_of_peak": PEAK,
        "company_decibels": DECIBELS,
    }
    at_most = {"picture_s": PICTURE_S, "memory_sd15_gib": LIMITS["sd15"], "memory_sdxl_gib": LIMITS["sdxl"]}
    return all(figures.get(name, 0.0) >= bar for name, bar in at_least.items()) and all(
        figures.get(name, float("inf")) <= bar for name, bar in at_most.items()
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; on a GPU unless `--device` says otherwise."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not any(word.startswith("--device") for word in words):
        words += ["--device", "cuda" if torch.cuda.is_available() or "--quick" not in words else "cpu"]
    return run("cuda", __doc__ or "", measure, words)


if __name__ == "__main__":
    sys.exit(main())
