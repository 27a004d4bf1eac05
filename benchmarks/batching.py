"""How large batches become, and whom that helps (bar: 0.95 of the best fixed batch's throughput, a lone user unhurt).

The same pictures of eight users are painted by the engine as people get it, which measures what batches cost, and by
engines whose batches have a fixed size, taking turns. Then one picture alone, and a 4-step draft that arrives while
longer pictures are painted.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from benchmarks._bench import BRIEFS, NoPictures, Workbench, workbench
from benchmarks._report import Options, Outcome, run
from benchmarks._timing import Rounds, alternate
from danqing.engine import Engine, EngineOptions, Finished, SessionEvent
from danqing.engine.calls import Denoise, ModelCall, ModelKey
from danqing.engine.costs import Costs, Part
from danqing.engine.torch_executor import TorchExecutor
from danqing.pipelines import expected_calls, paint
from danqing.planning import plan
from danqing.spec.painting import Guidance, Sampling, Txt2ImgRequest
from danqing.spec.plan import Plan

BAR_THROUGHPUT, BAR_LONE, BAR_DRAFT = 0.95, 1.05, 4.0
BAR = f"throughput ≥ {BAR_THROUGHPUT} × the best fixed batch, lone user ≤ {BAR_LONE} ×, own draft ≤ {BAR_DRAFT} × alone"
USERS, DRAFT_STEPS = 8, 4
GUIDANCE = 3.0
SAMPLER = "Euler"
MEASURED, AS_EVER = "measured", "all"


@dataclass(frozen=True)
class Scale:
    """How much is painted.

    Attributes:
        sizes: Sides of the pictures in px and how many each user wants of them.
        batches: Fixed sizes of batches, in pictures.
        curve: Numbers of pictures whose step is timed alone.
        steps: Of each picture.
        long_steps: Of those that a draft comes to.
        before: Ticks until it comes.
    """

    sizes: tuple[tuple[int, int], ...] = ((128, 2), (256, 1))
    batches: tuple[int, ...] = (1, 2, 4, 8, 16)
    curve: tuple[int, ...] = (1, 2, 3, 4, 6, 8, 10, 12, 14, 16)
    steps: int = 8
    long_steps: int = 50
    before: int = 12


QUICK = Scale(sizes=((32, 1), (64, 1)), batches=(1, 4), curve=(1, 2, 4), steps=2, long_steps=8, before=4)


class Fixed:
    """An executor whose denoiser batches have at most so many pictures (of two rows each)."""

    def __init__(self, inner: TorchExecutor, pictures: int) -> None:
        self.inner = inner
        self.pictures = pictures

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def max_rows(self, call: ModelCall) -> int:
        """As told, where the real one has a say in it."""
        return 2 * self.pictures if isinstance(call, Denoise) else self.inner.max_rows(call)

    def parts(self, call: ModelCall) -> tuple[Part, ...]:
        """None, so that nothing is learnt here that the other side would profit from."""
        del call
        return ()


@dataclass(frozen=True)
class Stand:
    """Where pictures of one size are painted.

    Attributes:
        bench: The model.
        side_px: Of the pictures.
        scale: How many, how long.
    """

    bench: Workbench
    side_px: int
    scale: Scale

    def plan(self, seed: int, steps: int) -> Plan:
        """One picture."""
        request = Txt2ImgRequest(
            prompt=BRIEFS[seed % len(BRIEFS)],
            model=self.bench.model.name,
            seed=seed,
            width_px=self.side_px,
            height_px=self.side_px,
            sampling=Sampling(steps=steps, sampler=SAMPLER),
            guidance=Guidance(scale=GUIDANCE),
        )
        return plan(request, self.bench.catalog, rng_seed=seed)[0]

    def engine(self, batch: int | None) -> Engine:
        """As people get it (None), or with a fixed number of pictures in a batch."""
        executor = self.bench.executor()
        if batch is None:
            return Engine(executor)
        return Engine(Fixed(executor, batch), EngineOptions(measured=False))

    def crowd(self, batch: int | None, each: int) -> None:
        """All users' pictures, which come together."""
        engine = self.engine(batch)
        for index in range(USERS * each):
            submit(engine, f"{index}", self.plan(index, self.scale.steps), user=f"{index % USERS}")
        engine.run_until_idle()

    def draft_s(self, batch: int | None, users: Sequence[str], user: str) -> float:
        """Seconds of a draft that comes while each of some users has a long picture; the rest is not waited for."""
        engine = self.engine(batch)
        for index, name in enumerate(users):
            submit(engine, f"long{index}", self.plan(index, self.scale.long_steps), user=name)
        for _ in range(self.scale.before):
            engine.tick()
        started = time.perf_counter()
        submit(engine, "draft", self.plan(99, DRAFT_STEPS), user=user)
        while "draft" in engine:
            engine.tick()
        return time.perf_counter() - started


def submit(engine: Engine, key: str, one: Plan, *, user: str) -> None:
    """Let a picture come; an error ends the benchmark."""

    def sink(event: SessionEvent) -> None:
        if isinstance(event, Finished) and event.error is not None:
            raise event.error

    engine.submit(key, paint(one, NoPictures()), sink, user=user, expected_calls=expected_calls(one))


def curve(stand: Stand, repeats: int, options: Options) -> Rounds:
    """Seconds of one denoiser batch by pictures in it, in turns."""
    executor, one = stand.bench.executor(), stand.plan(0, 1)
    key = ModelKey(one.base.model, None, one.precision)
    unet = stand.bench.loader.get(key.model, key.vae, key.precision).unet
    side, width = stand.side_px // 8, unet.config.cross_attention_dim
    latent, words = torch.randn(1, unet.config.in_channels, side, side), torch.randn(77, width)
    call = Denoise(key, latent, 1.0, (words, words))
    sides = {f"{n}": _batch(executor, [call] * n) for n in stand.scale.curve}
    rounds = alternate(sides, repeats, stand.bench.device, warm_up=2)
    for name in sides:
        options.say(f"{stand.side_px} px: {name:>2} pictures {1000 * rounds.median_s(name):8.1f} ms")
    return rounds


def _batch(executor: TorchExecutor, calls: Sequence[ModelCall]) -> Callable[[], object]:
    return lambda: executor.run(calls)


def throughput(stand: Stand, each: int, repeats: int, options: Options) -> tuple[Rounds, dict[str, float]]:
    """All users' pictures, by the measured costs and in batches of fixed sizes; and seconds while costs are learnt."""
    many = USERS * each
    batches = [batch for batch in stand.scale.batches if batch <= many]
    stand.crowd(max(batches), each)
    executor = stand.bench.executor()
    executor.costs = Costs()
    started = time.perf_counter()
    stand.crowd(None, each)
    learning_s = time.perf_counter() - started
    sides: dict[str, Callable[[], object]] = {MEASURED: lambda: stand.crowd(None, each)}
    for batch in batches:
        sides[f"batch {batch}"] = _crowd(stand, batch, each)
    rounds = alternate(sides, repeats, stand.bench.device)
    for name in sides:
        options.say(f"{stand.side_px} px: {name:9} {many / rounds.median_s(name):7.3f} pictures a second")
    best = min((name for name in sides if name != MEASURED), key=rounds.median_s)
    options.say(f"{stand.side_px} px: {MEASURED} is {rounds.ratio(best, MEASURED):.3f} of the best ({best})")
    return rounds, {
        "ratio_throughput": rounds.ratio(best, MEASURED),
        "ratio_throughput_to_single": rounds.ratio("batch 1", MEASURED),
        "ratio_throughput_to_largest": rounds.ratio(f"batch {max(batches)}", MEASURED),
        "ratio_learning": learning_s / rounds.median_s(MEASURED),
    }


def _crowd(stand: Stand, batch: int, each: int) -> Callable[[], object]:
    return lambda: stand.crowd(batch, each)


def latency(stand: Stand, repeats: int, options: Options) -> tuple[Rounds, dict[str, float]]:
    """One picture alone, and a draft: alone, among one's own longer pictures, among other people's."""
    largest = max(stand.scale.batches)
    companies = {"own": ["me"] * USERS, "others": [f"user {index}" for index in range(USERS)]}
    found: dict[str, list[float]] = {}
    sides: dict[str, Callable[[], object]] = {}
    for name, batch in ((MEASURED, None), (AS_EVER, largest)):
        sides[f"lone, {name}"] = _lone(stand, batch)
        sides[f"draft alone, {name}"] = _draft(stand, batch, [], found.setdefault(f"draft alone, {name}", []))
        for company, users in companies.items():
            key = f"draft among {company}, {name}"
            sides[key] = _draft(stand, batch, users, found.setdefault(key, []))
    rounds = alternate(sides, repeats, stand.bench.device)
    # A draft is timed from its arrival, not with the ticks before it.
    rounds.times |= {name: times[-repeats:] for name, times in found.items()}
    for name in sides:
        options.say(f"{stand.side_px} px: {name:28} {rounds.median_s(name):7.3f} s")
    figures = {"ratio_lone": rounds.ratio(f"lone, {MEASURED}", f"lone, {AS_EVER}")}
    for company in companies:
        for name, label in ((MEASURED, ""), (AS_EVER, "_all")):
            ratio = rounds.ratio(f"draft among {company}, {name}", f"draft alone, {AS_EVER}")
            figures[f"ratio_draft_{company}{label}"] = ratio
    return rounds, figures


def _lone(stand: Stand, batch: int | None) -> Callable[[], object]:
    def paint_one() -> None:
        engine = stand.engine(batch)
        submit(engine, "lone", stand.plan(0, 2 * stand.scale.steps), user="me")
        engine.run_until_idle()

    return paint_one


def _draft(stand: Stand, batch: int | None, users: Sequence[str], found: list[float]) -> Callable[[], object]:
    return lambda: found.append(stand.draft_s(batch, users, "me"))


def measure(options: Options) -> Outcome:
    """Both sizes."""
    scale = QUICK if options.quick else Scale()
    figures: dict[str, float] = {}
    details: dict[str, Any] = {"users": USERS, "steps": scale.steps, "draft_steps": DRAFT_STEPS}
    with workbench(options) as bench:
        details |= bench.about()
        for (side_px, each), name in zip(scale.sizes, ("small", "large"), strict=True):
            stand = Stand(bench, side_px, scale)
            timed = curve(stand, options.times(full=3, quick=1), options)
            crowd, rates = throughput(stand, each, options.times(full=3, quick=1), options)
            waits, delays = latency(stand, options.times(full=3, quick=1), options)
            figures |= {f"{key}_{name}": value for key, value in (rates | delays).items()}
            details[name] = {
                "size_px": side_px,
                "pictures": USERS * each,
                "batch_s_by_pictures": {key: round(timed.median_s(key), 4) for key in timed.times},
                "throughput": crowd.details(),
                "latency": waits.details(),
            }
    return Outcome(figures, BAR, _passed(figures), details)


def _passed(figures: dict[str, float]) -> bool:
    return (
        min(value for key, value in figures.items() if key in ("ratio_throughput_small", "ratio_throughput_large"))
        >= BAR_THROUGHPUT
        and max(value for key, value in figures.items() if key.startswith("ratio_lone")) <= BAR_LONE
        and max(figures["ratio_draft_own_small"], figures["ratio_draft_own_large"]) <= BAR_DRAFT
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    return run("batching", __doc__ or "", measure, argv)


if __name__ == "__main__":
    sys.exit(main())
