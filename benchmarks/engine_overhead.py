"""Engine wall time for one built-in picture over the bare sum of its model calls (bar: at most 1.03).

The bare side calls the same modules and graphs (text encoder, UNet, VAE) with the very tensors that the engine gave
them, recorded once, and does nothing else. Both are timed in turns in one process.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch

from benchmarks._bench import BRIEFS, NoPictures, Workbench, workbench
from benchmarks._report import Options, Outcome, run
from benchmarks._timing import alternate
from danqing.engine import Engine, EngineOptions, Finished, SessionEvent
from danqing.engine.executors import uses_openvino
from danqing.models.families.sd import StableDiffusion
from danqing.pipelines import expected_calls, paint
from danqing.spec.plan import Plan
from danqing.workers.painter import PREVIEW_MIN_INTERVAL_S

BAR = 1.03
Forward = Callable[[], object]


def paint_one(bench: Workbench, plan: Plan) -> Finished:
    """One picture through a new engine, previews and progress included, as the worker runs it."""
    ends: list[Finished] = []

    def sink(event: SessionEvent) -> None:
        if isinstance(event, Finished):
            ends.append(event)

    engine = Engine(bench.executor(), EngineOptions(preview_interval_s=PREVIEW_MIN_INTERVAL_S))
    engine.submit("one", paint(plan, NoPictures()), sink, expected_calls=expected_calls(plan))
    engine.run_until_idle()
    if ends[0].error is not None:
        raise ends[0].error
    return ends[0]


@dataclass
class Recorder:
    """The forwards of a model's modules, as they happened."""

    forwards: list[tuple[str, Forward]]

    def hook(self, name: str) -> Callable[..., None]:
        """A forward pre-hook that keeps module and arguments."""

        def keep(module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            self.forwards.append((name, lambda: module(*args, **kwargs)))

        return keep


@contextmanager
def recorded(model: StableDiffusion, *, graphs: bool) -> Iterator[Recorder]:
    """Record every forward of text encoder, UNet and VAE inside the block, as modules or as graphs."""
    recorder = Recorder([])
    parts: dict[str, Any] = {}
    if not graphs:
        vae: Any = model.vae
        parts = {"text": model.text.model, "unet": model.unet}
        parts |= {"vae.post_quant": vae.post_quant_conv, "vae.decoder": vae.decoder}
    handles = [
        module.register_forward_pre_hook(recorder.hook(name), with_kwargs=True)
        for name, module in parts.items()
        if module is not None
    ]
    try:
        with _recorded_graphs(recorder) if graphs else nullcontext():
            yield recorder
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _recorded_graphs(recorder: Recorder) -> Iterator[None]:
    from danqing.models.graphs.compiled import CompiledGraph

    stock = CompiledGraph.__call__

    def keep(graph: CompiledGraph, *given: Any) -> Any:
        recorder.forwards.append(("graph", lambda: stock(graph, *given)))
        return stock(graph, *given)

    CompiledGraph.__call__ = keep  # type: ignore[method-assign]
    try:
        yield
    finally:
        CompiledGraph.__call__ = stock  # type: ignore[method-assign]


def measure(options: Options) -> Outcome:
    """Both sides in turns."""
    with workbench(options) as bench:
        plan = bench.plan(BRIEFS[0], seed=1)
        model = bench.loader.get(plan.base.model, None, plan.precision)
        paint_one(bench, plan)
        with recorded(model, graphs=uses_openvino(bench.device.type)) as recorder:
            paint_one(bench, plan)
        names = [name for name, _ in recorder.forwards]

        @torch.inference_mode()
        def bare() -> None:
            for _, forward in recorder.forwards:
                forward()

        repeats = options.times(full=15, quick=3)
        rounds = alternate({"engine": lambda: paint_one(bench, plan), "bare": bare}, repeats, bench.device)
        engine_s, bare_s, ratio = rounds.median_s("engine"), rounds.median_s("bare"), rounds.ratio("engine", "bare")
        details = {
            **bench.about(),
            "steps": plan.base.sampling.steps,
            "sampler": plan.base.sampling.sampler,
            "precision": model.precision.name,
            "forwards": {name: names.count(name) for name in dict.fromkeys(names)},
            **rounds.details(),
        }
    figures = {
        "ratio_engine_to_bare": ratio,
        "ratio_of_medians": engine_s / bare_s,
        "engine_s": engine_s,
        "bare_s": bare_s,
        "overhead_per_call_ms": 1000.0 * (engine_s - bare_s) / len(names),
    }
    return Outcome(figures, f"engine ≤ {BAR} × bare model calls", ratio <= BAR, details)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    return run("engine_overhead", __doc__ or "", measure, argv)


if __name__ == "__main__":
    sys.exit(main())
