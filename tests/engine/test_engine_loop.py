"""The event loop on the fake executor: batching, progress, cancellation, memory, failures."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from engine_sessions import KEY, Log, denoise_only, many_steps, run_all
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from danqing.engine import Engine, EngineOptions, Finished, Previewed, Progressed
from danqing.engine.calls import Denoise, EncodeText, Exclusive, ModelCall, Report
from danqing.engine.fake import FakeExecutor, context_of
from danqing.spec.errors import CancelledError, ConflictError, InvalidRequestError, OutOfMemoryError, WorkerError


def alone(seed: int, steps: int, fake: FakeExecutor | None = None) -> Tensor:
    log = Log()
    engine = Engine(fake or FakeExecutor())
    engine.submit("alone", many_steps(seed, steps), log)
    engine.run_until_idle()
    return log.result("alone")


# --- batching ---------------------------------------------------------------------------------------------------------


def test_calls_of_all_sessions_share_batches():
    fake = FakeExecutor()
    run_all(fake, {f"s{i}": many_steps(i, 5) for i in range(4)})
    assert [rows for kind, rows in fake.batches if kind == "Denoise"] == [8] * 5  # prompt and negative of four
    assert [rows for kind, rows in fake.batches if kind == "EncodeText"] == [4]


def test_a_newcomer_joins_at_the_next_step():
    fake, log = FakeExecutor(), Log()
    engine = Engine(fake)
    engine.submit("first", denoise_only(1, 6), log)
    engine.tick()
    engine.tick()
    engine.submit("second", denoise_only(2, 2), log)
    engine.run_until_idle()
    assert [rows for _, rows in fake.batches] == [1, 1, 2, 2, 1, 1]
    assert log.ends() == ["second", "first"], "the short one is not stuck behind the long one"


def test_a_batch_keeps_within_max_rows():
    fake = FakeExecutor(batch_rows=3)
    run_all(fake, {f"s{i}": denoise_only(i, 3) for i in range(5)})
    assert max(rows for _, rows in fake.batches) == 3
    assert sum(rows for _, rows in fake.batches) == 15


def test_shapes_and_models_do_not_mix():
    fake = FakeExecutor()
    run_all(fake, {"small": denoise_only(1, 2, side=4), "large": denoise_only(2, 2, side=8)})
    assert {rows for _, rows in fake.batches} == {1}


def test_exclusive_calls_run_alone():
    def exclusive(name: str):
        return (yield Exclusive(KEY, "gradients", lambda _: name))

    fake = FakeExecutor()
    log = run_all(fake, {"a": exclusive("a"), "b": exclusive("b"), "c": denoise_only(3, 1)})
    assert sorted(fake.batches) == [("Denoise", 1), ("Exclusive", 1), ("Exclusive", 1)]
    assert (log.result("a"), log.result("b")) == ("a", "b")


@dataclass(frozen=True)
class Arrival:
    tick: int
    seed: int
    steps: int
    cancel_after: int | None
    user: str


ARRIVALS = st.lists(
    st.builds(
        Arrival,
        tick=st.integers(0, 12),
        seed=st.integers(0, 5),
        steps=st.integers(1, 9),
        cancel_after=st.none() | st.integers(0, 6),
        user=st.sampled_from(["ann", "bo"]),
    ),
    min_size=1,
    max_size=8,
)


@settings(max_examples=200, deadline=None)
@given(arrivals=ARRIVALS, fits=st.integers(2, 20), batch_rows=st.integers(2, 20))
def test_a_result_depends_on_nobody_else(arrivals: list[Arrival], fits: int, batch_rows: int):
    """Whatever comes, goes, is cancelled or has to be halved: each result is exactly that of a lone run."""
    fake, log = FakeExecutor(fits_rows=fits, batch_rows=batch_rows), Log()
    engine = Engine(fake, EngineOptions(patience=5))
    cancelled: set[str] = set()
    for tick in itertools.count():
        for index, one in enumerate(arrivals):
            key = f"s{index}"
            if one.tick == tick:
                engine.submit(key, many_steps(one.seed, one.steps), log, user=one.user, expected_calls=one.steps)
            if one.cancel_after is not None and one.tick + one.cancel_after == tick and engine.cancel(key):
                cancelled.add(key)
        if not engine.tick() and tick > 20:
            break
    for index, one in enumerate(arrivals):
        key = f"s{index}"
        if key in cancelled:
            assert isinstance(log.end(key).error, CancelledError)
        else:
            assert torch.equal(log.result(key), alone(one.seed, one.steps)), key
    assert len(engine) == 0


# --- cancellation -----------------------------------------------------------------------------------------------------


def test_cancel_takes_effect_within_one_step():
    closed: list[str] = []

    def session():
        try:
            yield from denoise_only(1, 100)
        finally:
            closed.append("closed")

    fake, log = FakeExecutor(), Log()
    engine = Engine(fake)
    engine.submit("s", session(), log)
    engine.tick()
    assert engine.cancel("s")
    assert closed == ["closed"]
    assert isinstance(log.end("s").error, CancelledError)
    assert not engine.tick()
    assert len(fake.batches) == 1
    assert not engine.cancel("s"), "a second cancel finds nothing"


def test_a_sink_may_cancel_a_neighbour_in_the_same_batch():
    """As the painter does: the first failed picture of a job stops the others, which share its batch."""
    fake, log = FakeExecutor(), Log()
    engine = Engine(fake)

    def fails():
        yield from denoise_only(1, 2)
        raise InvalidRequestError("no")

    def sink(event: Any) -> None:
        log(event)
        if isinstance(event, Finished) and event.key == "bad":
            engine.cancel("good")

    engine.submit("bad", fails(), sink)
    engine.submit("good", denoise_only(2, 5), log)
    engine.run_until_idle()
    assert isinstance(log.end("bad").error, InvalidRequestError)
    assert isinstance(log.end("good").error, CancelledError)
    assert log.ends() == ["bad", "good"]


def test_a_sink_may_cancel_its_own_session():
    log = Log()
    engine = Engine(FakeExecutor())

    def sink(event: Any) -> None:
        log(event)
        if isinstance(event, Progressed) and event.step == 2:
            engine.cancel("s")

    engine.submit("s", many_steps(1, 5), sink)
    engine.run_until_idle()
    assert log.ends() == ["s"]
    assert isinstance(log.end("s").error, CancelledError)


def test_clean_up_that_fails_is_no_danger():
    def session():
        try:
            yield from denoise_only(1, 5)
        finally:
            raise RuntimeError("bug in clean-up")

    log = Log()
    engine = Engine(FakeExecutor())
    engine.submit("s", session(), log)
    engine.tick()
    assert engine.cancel("s")
    assert isinstance(log.end("s").error, CancelledError)


# --- progress and previews --------------------------------------------------------------------------------------------


@dataclass
class Clock:
    now_s: float = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_progress_and_previews_are_monotone_with_an_eta():
    clock = Clock()

    def second_passes(_: Sequence[ModelCall]) -> None:
        clock.now_s += 1.0

    log = Log()
    engine = Engine(FakeExecutor(on_batch=second_passes), clock=clock)
    engine.submit("s", many_steps(1, 10), log)
    engine.run_until_idle()
    progress = [event for event in log.events if isinstance(event, Progressed)]
    fractions = [event.fraction for event in progress]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    assert progress[0].eta_s is None
    etas = [event.eta_s for event in progress[1:]]
    assert etas == pytest.approx([float(10 - event.step) for event in progress[1:]])
    previews = [event for event in log.events if isinstance(event, Previewed)]
    assert [event.step for event in previews] == list(range(1, 11))
    assert previews[0].image.dtype == np.uint8
    assert previews[0].image.shape == (4, 4, 3)
    end = log.end("s")
    assert end.total_s == 11.0
    assert end.by_call_s == pytest.approx({"Denoise": 10.0, "EncodeText": 1.0})


def test_previews_every_so_many_steps_and_decoded_ones():
    @dataclass
    class Painter(FakeExecutor):
        decoded: list[bool] = field(default_factory=list)

        def preview(self, model: Any, denoised: Tensor, *, decode: bool):
            self.decoded.append(decode)
            return super().preview(model, denoised, decode=decode)

    fake, log = Painter(), Log()
    engine = Engine(fake, EngineOptions(preview_every=2, decoded_every=3))
    engine.submit("s", many_steps(1, 6), log)
    engine.run_until_idle()
    assert [event.step for event in log.events if isinstance(event, Previewed)] == [2, 3, 4, 6]
    assert fake.decoded == [False, True, False, True]


def test_a_failing_preview_does_not_fail_the_picture():
    class Broken(FakeExecutor):
        def preview(self, model: Any, denoised: Tensor, *, decode: bool):
            raise RuntimeError("no memory for a preview")

    log = Log()
    engine = Engine(Broken())
    engine.submit("s", many_steps(1, 3), log)
    engine.run_until_idle()
    assert torch.equal(log.result("s"), alone(1, 3))


# --- memory -----------------------------------------------------------------------------------------------------------


def test_a_group_that_does_not_fit_is_halved_and_results_are_the_same():
    fake = FakeExecutor(fits_rows=3)
    log = run_all(fake, {f"s{i}": many_steps(i, 4) for i in range(5)})
    assert max(rows for _, rows in fake.batches) <= 3
    for i in range(5):
        assert torch.equal(log.result(f"s{i}"), alone(i, 4))


def test_only_the_session_that_fits_nowhere_fails():
    def wide():
        x = torch.zeros(1, 4, 4, 4)
        return (yield Denoise(KEY, x, 1.0, tuple(context_of(str(i)) for i in range(9))))

    log = run_all(FakeExecutor(fits_rows=6), {"wide": wide(), "s1": denoise_only(1, 3), "s2": denoise_only(2, 3)})
    assert isinstance(log.end("wide").error, OutOfMemoryError)
    assert log.end("s1").error is None
    assert log.end("s2").error is None


def test_room_is_made_for_a_lone_call_before_it_fails():
    @dataclass
    class Offloading(FakeExecutor):
        relieved: int = 0

        def relieve(self, call: ModelCall) -> bool:
            self.relieved += 1
            self.fits_rows += 1
            return self.relieved <= 3

    fake = Offloading(fits_rows=0)
    log = run_all(fake, {"s": denoise_only(1, 2)})
    assert log.end("s").error is None
    assert fake.relieved == 1


# --- failures ---------------------------------------------------------------------------------------------------------


def test_a_bug_in_one_pipeline_leaves_the_others_alone():
    def buggy():
        yield from denoise_only(1, 2)
        raise ZeroDivisionError("a bug")

    log = run_all(FakeExecutor(), {"buggy": buggy(), "good": many_steps(2, 5)})
    error = log.end("buggy").error
    assert isinstance(error, WorkerError)
    assert isinstance(error.__cause__, ZeroDivisionError)
    assert torch.equal(log.result("good"), alone(2, 5))


@pytest.mark.parametrize("raised", [RuntimeError("the device hiccuped"), InvalidRequestError("clip_skip too large")])
def test_a_batch_that_fails_is_tried_one_by_one(raised: Exception):
    class Picky(FakeExecutor):
        def run(self, calls: Sequence[ModelCall]) -> list[Any]:
            if any(isinstance(call, EncodeText) and "poison" in call.texts for call in calls):
                raise raised
            return super().run(calls)

    def poisoned():
        yield EncodeText(KEY, ("poison",))

    def bystander():
        (words,) = yield EncodeText(KEY, ("apple",))
        return words.states

    log = run_all(Picky(), {"bad": poisoned(), "good": bystander()})
    assert isinstance(log.end("bad").error, WorkerError if isinstance(raised, RuntimeError) else InvalidRequestError)
    assert torch.equal(log.result("good"), context_of("apple"))


def test_a_pipeline_may_handle_an_error_and_go_on():
    class Picky(FakeExecutor):
        def run(self, calls: Sequence[ModelCall]) -> list[Any]:
            answers = super().run(calls)
            if any(isinstance(call, EncodeText) for call in calls):
                raise RuntimeError("no text")
            return answers

    def handles():
        try:
            yield EncodeText(KEY, ("x",))
        except WorkerError:
            yield Report(1, 1, 1.0)
            return "handled"

    def turns_it_into_a_bug():
        try:
            yield EncodeText(KEY, ("x",))
        except WorkerError:
            raise KeyError("bug in the handler") from None

    log = run_all(Picky(), {"handles": handles(), "worse": turns_it_into_a_bug(), "good": denoise_only(1, 3)})
    assert log.result("handles") == "handled"
    assert isinstance(log.end("worse").error, WorkerError)
    assert log.end("good").error is None


def test_a_session_that_ends_or_fails_at_once():
    def empty():
        return "nothing to do"
        yield

    def fails():
        raise InvalidRequestError("bad plan")
        yield

    log = run_all(FakeExecutor(), {"empty": empty(), "fails": fails()})
    assert log.result("empty") == "nothing to do"
    assert isinstance(log.end("fails").error, InvalidRequestError)


def test_a_key_is_used_once_at_a_time():
    engine = Engine(FakeExecutor())
    engine.submit("s", denoise_only(1, 2), Log())
    assert "s" in engine
    with pytest.raises(ConflictError, match="running"):
        engine.submit("s", denoise_only(1, 2), Log())
    engine.run_until_idle()
    assert len(engine) == 0
    engine.submit("s", denoise_only(1, 2), Log())


def test_the_ideal_denoiser_ends_on_the_closed_form():
    """N(μ, s²): x(σ) = μ + (x₀ − μ)·√((s² + σ²)/(s² + σ₀²)); Euler with 400 steps comes within a percent."""
    fake = FakeExecutor()
    mu = float(context_of("words 1").mean())
    x0 = torch.randn(1, 4, 4, 4, generator=torch.Generator().manual_seed(1)) * 10.0
    exact = mu + (x0 - mu) * (0.25 / (0.25 + 100.0)) ** 0.5
    assert torch.allclose(alone(1, 400, fake), exact, atol=0.02)
