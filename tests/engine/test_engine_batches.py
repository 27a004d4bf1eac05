"""How large batches become, by simulated devices: throughput near the best fixed batch, nobody hurt by company."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count

import pytest
import torch
from engine_sessions import KEY, Log, many_steps
from hypothesis import given, settings
from hypothesis import strategies as st

from danqing.engine import Engine, EngineOptions, Finished, SessionEvent
from danqing.engine.calls import Decode, Denoise, EncodeText, Exclusive, ModelCall, Session
from danqing.engine.fake import FakeExecutor, context_of
from danqing.pipelines.txt2img import txt2img
from danqing.spec.errors import OutOfMemoryError
from easel import Easel, into

Curve = Callable[[int], float]
LATENT, WORDS = torch.zeros(1, 4, 2, 2), (context_of("prompt"), context_of("negative"))
MEASURED = {2: 32, 4: 55, 6: 79, 8: 106, 10: 131, 12: 157, 16: 200, 24: 290, 32: 389, 64: 780}
"""Milliseconds of the built-in model's step at 128 px on one core, by rows."""


def measured(rows: int) -> float:
    """Straight lines through what was measured."""
    low = max(n for n in MEASURED if n <= rows)
    high = min(n for n in MEASURED if n >= rows)
    return MEASURED[low] + (MEASURED[high] - MEASURED[low]) * (rows - low) / max(high - low, 1)


CURVES: dict[str, Curve] = {
    "flat": lambda rows: 1.0,
    "linear": lambda rows: 0.1 * rows,
    "affine": lambda rows: 1.0 + 0.1 * rows,
    "measured": measured,
    "u-shaped": lambda rows: 1.0 + 0.1 * rows if rows <= 8 else 1.8 + 0.6 * (rows - 8),
    "steps of eight": lambda rows: float(math.ceil(rows / 8)),
}
"""Seconds by rows."""


class Idle(FakeExecutor):
    """Answers nothing: what is simulated is when, not what."""

    def run(self, calls):
        self.on_batch(calls)
        self.batches.append((type(calls[0]).__name__, sum(self.rows(call) for call in calls)))
        return [None] * len(calls)


@dataclass
class Device:
    """An executor whose batches take what a curve says, on a clock of its own."""

    curve: Curve
    batch_rows: int = 64
    now_s: float = 0.0
    ended_s: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.fake: FakeExecutor = Idle(half_rows=16, on_batch=self._pass)

    def _pass(self, calls: Sequence[ModelCall]) -> None:
        self.now_s += self.curve(sum(self.fake.rows(call) for call in calls))

    def engine(self, *, rows: int | None = None) -> Engine:
        """As people get it, or with batches of so many rows whatever they cost."""
        self.fake.batch_rows = rows or self.batch_rows
        return Engine(self.fake, EngineOptions(measured=rows is None), clock=lambda: self.now_s)

    def note(self, event: SessionEvent) -> None:
        if isinstance(event, Finished):
            assert event.error is None
            self.ended_s[event.key] = self.now_s


def steps_of(many: int) -> Session:
    for _ in range(many):
        yield Denoise(KEY, LATENT, 1.0, WORDS)


def crowd_s(device: Device, users: int, *, rows: int | None = None, steps: int = 60, each: int = 1) -> float:
    """Seconds until pictures of so many users are painted that come together."""
    started_s, engine = device.now_s, device.engine(rows=rows)
    for user in range(users):
        for picture in range(each):
            key = f"{user}.{picture}"
            engine.submit(key, steps_of(steps), device.note, user=f"{user}", expected_calls=steps)
    engine.run_until_idle()
    return device.now_s - started_s


# --- throughput -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("curve", CURVES.values(), ids=CURVES)
@pytest.mark.parametrize(("users", "each"), [(8, 1), (16, 1), (3, 1), (1, 8), (4, 4)])
def test_throughput_comes_within_five_percent_of_the_best_fixed_batch(curve: Curve, users: int, each: int):
    best_s = min(crowd_s(Device(curve), users, rows=rows, each=each) for rows in (2, 4, 6, 8, 10, 12, 16, 24, 32))
    device = Device(curve)
    learning_s = crowd_s(device, users, each=each)
    assert crowd_s(device, users, each=each) <= 1.05 * best_s
    assert learning_s <= 1.15 * best_s, "finding out costs a few batches once"


def test_where_batches_gain_nothing_nobody_joins():
    device = Device(CURVES["linear"])
    crowd_s(device, 8)
    device.fake.batches.clear()
    crowd_s(device, 8)
    alone = [rows for _, rows in device.fake.batches if rows == 2]
    assert len(alone) >= 0.95 * len(device.fake.batches), "now and then larger ones are tried again"


def test_where_a_batch_takes_no_longer_everybody_joins():
    device = Device(CURVES["flat"])
    crowd_s(device, 8)
    device.fake.batches.clear()
    crowd_s(device, 8)
    assert {rows for _, rows in device.fake.batches} == {16}


def test_a_size_that_fell_out_of_favour_is_tried_again():
    """Sixteen rows were slow for a while (another program); later they are as fast as any."""
    slow = True
    device = Device(lambda rows: 9.0 if slow and rows > 8 else 1.0)
    crowd_s(device, 8)
    assert device.fake.batches[-1][1] <= 8
    slow = False
    crowd_s(device, 8, steps=300)
    device.fake.batches.clear()
    crowd_s(device, 8)
    assert {rows for _, rows in device.fake.batches} == {16}


def test_a_batch_that_does_not_fit_is_not_asked_for_at_every_step():
    @dataclass
    class Small(FakeExecutor):
        refused: list[int] = field(default_factory=list)

        def run(self, calls):
            try:
                return super().run(calls)
            except OutOfMemoryError:
                self.refused.append(sum(self.rows(call) for call in calls))
                raise

    device = Device(CURVES["flat"])
    device.fake = Small(half_rows=16, on_batch=device._pass, fits_rows=10)
    crowd_s(device, 8, steps=100)
    assert 1 <= len(device.fake.refused) <= 4
    assert max(rows for _, rows in device.fake.batches) == 10


# --- latency ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("curve", CURVES.values(), ids=CURVES)
def test_a_lone_picture_takes_what_it_takes_alone(curve: Curve):
    device = Device(curve)
    assert crowd_s(device, 1, steps=20) == pytest.approx(20 * curve(2))
    crowd_s(device, 8)
    assert crowd_s(device, 1, steps=20) == pytest.approx(20 * curve(2))


def draft_s(curve: Curve, arrival: int, *, users: bool, user: str) -> float:
    """Seconds of a 4-step draft that comes after so many ticks to eight pictures of 50 steps."""
    device = Device(curve)
    engine = device.engine()
    for index in range(8):
        owner = f"{index}" if users else "ann"
        engine.submit(f"long{index}", steps_of(50), device.note, user=owner, expected_calls=50)
    for _ in range(arrival):
        engine.tick()
    came_s = device.now_s
    engine.submit("draft", steps_of(4), device.note, user=user, expected_calls=4)
    engine.run_until_idle()
    return device.ended_s["draft"] - came_s


@pytest.mark.parametrize("curve", CURVES.values(), ids=CURVES)
def test_a_draft_among_ones_own_long_pictures_takes_at_most_four_times_as_long_as_alone(curve: Curve):
    """SLOWDOWN for its own steps; the batch under way, and those passed over for too long, come before it."""
    times_s = [draft_s(curve, arrival, users=False, user="ann") for arrival in range(0, 60, 7)]
    assert max(times_s) <= 4.0 * 4 * curve(2)
    assert sum(times_s) / len(times_s) <= 2.5 * 4 * curve(2)


@pytest.mark.parametrize("curve", CURVES.values(), ids=CURVES)
@pytest.mark.parametrize("user", ["0", "newcomer"])
def test_a_draft_among_eight_other_peoples_pictures_gets_its_equal_share(curve: Curve, user: str):
    """Nine users take turns at worst; two more turns for the batch under way and for those passed over."""
    times_s = [draft_s(curve, arrival, users=True, user=user) for arrival in range(0, 60, 7)]
    assert max(times_s) <= (9 + 2) * 4 * curve(2)


def test_the_first_of_ones_own_pictures_does_not_wait_for_the_last_where_batches_gain_nothing():
    device = Device(CURVES["linear"])
    engine = device.engine()
    for index in range(4):
        engine.submit(f"{index}", steps_of(20), device.note, user="ann", expected_calls=20)
    engine.run_until_idle()
    assert min(device.ended_s.values()) <= 0.4 * max(device.ended_s.values())


# --- pictures ---------------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    steps=st.lists(st.integers(1, 9), min_size=1, max_size=7),
    seconds=st.lists(st.floats(1e-6, 1e3), min_size=1, max_size=40),
    fits=st.integers(2, 20),
)
def test_no_times_whatever_change_a_result(steps: list[int], seconds: list[float], fits: int):
    """Whatever batches seem to take, and so whoever shares them: each result is exactly that of a lone run."""
    ticks = count()
    device = Device(lambda rows: seconds[next(ticks) % len(seconds)])
    device.fake, log = FakeExecutor(half_rows=16, on_batch=device._pass, fits_rows=fits), Log()
    engine = device.engine()
    for index, many in enumerate(steps):
        engine.submit(str(index), many_steps(index, many), log, user="ab"[index % 2], expected_calls=many)
    engine.run_until_idle()
    for index, many in enumerate(steps):
        lone, alone = Log(), Engine(FakeExecutor())
        alone.submit("alone", many_steps(index, many), lone)
        alone.run_until_idle()
        assert torch.equal(log.result(str(index)), lone.result("alone")), index


def test_what_is_chosen_by_times_changes_no_picture_of_a_real_model(easel: Easel):
    """The real executor, timed by the real clock, so that batches are whatever they happen to be."""
    words = ("the red cat", "blue dog", "a (cat:1.4) AND a dog", "[red:blue:3] " + "cat, " * 45)
    plans = [
        easel.plans(prompt=one, seed=100 + i, sampling={"sampler": "euler", "steps": 4})[0]
        for i, one in enumerate(words)
    ]
    lone = [easel.latents([one])[0] for one in plans]
    easel.executor.measured = True
    try:
        engine, ended = Engine(easel.executor, EngineOptions(preview_every=0)), {}
        for index, one in enumerate(plans):
            engine.submit(str(index), txt2img(easel.context(one)), into(ended), user=str(index))
        engine.run_until_idle()
    finally:
        easel.executor.measured = False
    for index, alone in enumerate(lone):
        together = ended[str(index)].result
        assert float((together - alone).abs().max()) <= 1e-5 * max(1.0, float(alone.abs().max())), index


# --- what executors say of their Calls --------------------------------------------------------------------------------


def test_parts_are_the_batches_that_the_denoiser_is_given(easel: Easel, monkeypatch: pytest.MonkeyPatch):
    """Contexts of two lengths, perturbed rows: as many forwards as there are parts, each of as many rows."""
    given_rows: list[int] = []
    unet = easel.model().unet
    real = unet.forward

    def counted(sample, *rest, **named):
        given_rows.append(len(sample))
        return real(sample, *rest, **named)

    key, width = easel.key(), unet.config.cross_attention_dim
    short, long = torch.randn(77, width), torch.randn(154, width)
    x = torch.randn(1, 4, 4, 4)
    calls = [
        Denoise(key, x, 1.0, (short, short)),
        Denoise(key, x, 1.0, (long, short)),
        Denoise(key, x, 1.0, (short, short, short), perturbed=1),
    ]
    easel.executor.measured = True
    try:
        parts = [part for call in calls for part in easel.executor.parts(call)]
        monkeypatch.setattr(unet, "forward", counted)
        easel.executor.run(calls)
    finally:
        easel.executor.measured = False
    rows: dict[object, int] = {}
    for part in parts:
        rows[part.key] = rows.get(part.key, 0) + part.rows
    assert sorted(rows.values()) == sorted(given_rows) == [1, 1, 5]


def test_what_is_no_batch_of_pictures_has_no_parts_and_bounds_stand(easel: Easel):
    easel.executor.measured = True
    try:
        key = easel.key()
        assert easel.executor.parts(EncodeText(key, ("a cat",))) == ()
        assert easel.executor.parts(Exclusive(key, "gradients", lambda model: model)) == ()
        small, large = (Decode(key, torch.zeros(1, 4, side, side)) for side in (8, 64))
        (part,) = easel.executor.parts(small)
        assert part.rows == 1
        assert easel.executor.parts(large)[0].half_rows == pytest.approx(part.half_rows / 64)
        assert easel.executor.max_rows(small) >= easel.executor.max_rows(large) >= 1
        assert easel.executor.max_rows(Exclusive(key, "gradients", lambda model: model)) == 1
    finally:
        easel.executor.measured = False
