"""How far a picture's latents move when seven companions join its batches (bar: at most 1e-5, float32).

The companions have other prompts, seeds and lengths and join at different steps; in a second run one of them is
cancelled midway. Measured for a deterministic, an ancestral and a second-order sampler.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

import torch

from benchmarks._bench import BRIEFS, NoPictures, Workbench, workbench
from benchmarks._report import Options, Outcome, run
from danqing.engine import Engine, EngineOptions, Finished, SessionEvent
from danqing.engine.calls import Call, Denoise, ModelCall, Session
from danqing.engine.torch_executor import TorchExecutor
from danqing.pipelines.context import Context
from danqing.pipelines.txt2img import txt2img
from danqing.spec.plan import Plan

BAR = 1e-5
COMPANIONS = 7
SAMPLERS = ("Euler", "Euler a", "DPM++ 2M")
PRECISION = "float32"
CANCEL_AFTER = 3


class CountingExecutor:
    """The executor that a person gets; keeps what each denoiser batch was made of."""

    def __init__(self, inner: TorchExecutor) -> None:
        self.inner = inner
        self.batches: list[tuple[ModelCall, ...]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def run(self, calls: Sequence[ModelCall]) -> list[Any]:
        """As the real one."""
        if isinstance(calls[0], Denoise):
            self.batches.append(tuple(calls))
        return self.inner.run(calls)

    def rows_beside(self, own: Sequence[Call]) -> list[int]:
        """Rows of each batch that one of these Calls was in."""
        wanted = {id(call) for call in own}
        return [sum(self.rows(call) for call in calls) for calls in self.batches if wanted & {id(c) for c in calls}]


def overheard(session: Session, own: list[Call]) -> Session:
    """The same Session, its Calls noted in `own`."""
    answer: Any = None
    while True:
        try:
            call = session.send(answer)
        except StopIteration as stop:
            return stop.value
        own.append(call)
        answer = yield call


def latents(
    bench: Workbench, plan: Plan, companions: Sequence[Plan] = (), *, cancelled: int | None = None
) -> tuple[torch.Tensor, list[int]]:
    """The first Plan's latents [1, c, h, w], and the rows of each denoiser batch that it was in.

    Args:
        bench: Where.
        plan: Whose latents.
        companions: One joins after each tick of the loop, from the first denoiser call on.
        cancelled: Which companion is stopped halfway.
    """
    executor = CountingExecutor(bench.executor())
    # The largest company there can be, whether it pays or not.
    engine = Engine(executor, EngineOptions(measured=False))
    results: dict[str, Any] = {}
    own: list[Call] = []

    def sink(event: SessionEvent) -> None:
        if isinstance(event, Finished) and event.result is not None:
            results[event.key] = event.result

    def session(one: Plan) -> Session:
        return txt2img(Context(one, NoPictures(), total_steps=one.base.sampling.steps))

    # Each companion is more urgent than those before it, so that the scheduler lets it in at once.
    engine.submit("measured", overheard(session(plan), own), sink)
    joined = 0
    while engine.tick():
        if len(executor.batches) > joined and joined < len(companions):
            engine.submit(f"companion{joined}", session(companions[joined]), sink, priority=1 + joined)
            joined += 1
        if cancelled is not None and len(executor.batches) >= len(companions) + CANCEL_AFTER:
            engine.cancel(f"companion{cancelled}")
    return results["measured"], executor.rows_beside(own)


def _case(bench: Workbench, sampler: str, options: Options, say: Callable[[str], None]) -> dict[str, Any]:
    steps = 14 if options.quick else 20
    plan = bench.plan(BRIEFS[0], seed=1, steps=steps, precision=PRECISION, sampler=sampler)
    companions = [
        bench.plan(BRIEFS[i % len(BRIEFS)], seed=100 + i, steps=steps + i, precision=PRECISION, sampler=sampler)
        for i in range(COMPANIONS)
    ]
    alone, _ = latents(bench, plan)
    again, _ = latents(bench, plan)
    joined, rows = latents(bench, plan, companions)
    stopped, rows_stopped = latents(bench, plan, companions, cancelled=COMPANIONS // 2)
    case = {
        "sampler": sampler,
        "latent_max": float(alone.abs().max()),
        "repeated": float((again - alone).abs().max()),
        "joined": float((joined - alone).abs().max()),
        "cancelled": float((stopped - alone).abs().max()),
        "batch_rows": [min(rows), max(rows)],
        "batch_rows_cancelled": [min(rows_stopped), max(rows_stopped)],
    }
    say(f"{sampler:10} joined {case['joined']:.2e}  cancelled {case['cancelled']:.2e}  rows {case['batch_rows']}")
    return case


def measure(options: Options) -> Outcome:
    """Every sampler alone, in company, and with a neighbour cancelled."""
    with workbench(options) as bench:
        cases = [_case(bench, sampler, options, options.say) for sampler in SAMPLERS]
        details = {**bench.about(), "precision": PRECISION, "companions": COMPANIONS, "cases": cases}
    figures = {
        "max_difference": max(max(case["joined"], case["cancelled"]) for case in cases),
        "max_difference_repeated": max(case["repeated"] for case in cases),
        "max_batch_rows": max(case["batch_rows"][1] for case in cases),
    }
    return Outcome(figures, f"latents equal to {BAR:g}", figures["max_difference"] <= BAR, details)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    return run("batch_parity", __doc__ or "", measure, argv)


if __name__ == "__main__":
    sys.exit(main())
