"""Buckets become ready one step after the other, nobody waits for them, and what fails leaves eager PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pytest
import torch
from copy_recorder import CopyRecorder
from torch import Tensor

import tiny_models
from danqing.engine.warmup import ROWS, Warmup, WarmupOptions
from danqing.models.cuda_graphs import Feeds, Work, fill, static_feeds


@dataclass(frozen=True)
class Plain:
    """A UNet's call, which may be told to go wrong."""

    def work(self, network: Any) -> Work:
        def call(feeds: Feeds) -> tuple[Tensor, ...]:
            said = {"encoder_hidden_states": feeds["context"], "return_dict": False}
            return (network(feeds["sample"], feeds["timesteps"], **said)[0],)

        return call


class Later:
    """A background that does its jobs when it is told to."""

    def __init__(self) -> None:
        self.jobs: list[Callable[[], None]] = []

    def __call__(self, job: Callable[[], None]) -> None:
        self.jobs.append(job)

    def work(self) -> None:
        while self.jobs:
            self.jobs.pop(0)()


def feeds(rows: int, dtype: torch.dtype = torch.bfloat16, tokens: int = 7) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(rows)
    return {
        "sample": torch.randn(rows, 4, 8, 8, generator=generator).to(dtype),
        "timesteps": torch.arange(rows) + 400.0,
        "context": torch.randn(rows, tokens, tiny_models.CONTEXT_WIDTH, generator=generator).to(dtype),
    }


@pytest.fixture
def unet() -> Any:
    with torch.inference_mode(False):
        return tiny_models._unet(4).eval().requires_grad_(False).to(torch.bfloat16)


@pytest.fixture
def recorder() -> CopyRecorder:
    return CopyRecorder()


@pytest.fixture
def later() -> Later:
    return Later()


@pytest.fixture(autouse=True)
def no_gradients() -> Any:
    with torch.inference_mode():
        yield


def warmup(recorder: CopyRecorder, later: Later, **options: Any) -> Warmup:
    return Warmup(recorder, WarmupOptions(**{"backend": "eager", **options}), later)


def test_a_bucket_is_eager_then_recorded_then_compiled(unet: Any, recorder: CopyRecorder, later: Later):
    torch._dynamo.reset()
    warm = warmup(recorder, later, record_after=2, compile_after=4)
    expected = Plain().work(unet)(feeds(2))[0]
    states: list[str] = []
    for turn in range(9):
        if turn == 6:
            later.work()
        torch.testing.assert_close(warm(unet, Plain(), feeds(2))[0], expected, rtol=0.05, atol=0.02)
        states.append(next(name for name, count in warm.states().items() if count))
    assert states == ["eager", "eager", *["recorded"] * 4, *["compiled"] * 3]
    assert warm.reasons == []
    # A picture that waited for the compiler would have done so here.
    assert len(recorder.recorded) == 2


def test_rows_fill_up_a_bucket_and_do_not_know_of_it(unet: Any, recorder: CopyRecorder, later: Later):
    warm = warmup(recorder, later, record_after=0, compile_after=None)
    with torch.inference_mode(False):
        unet.float()
    full = feeds(10, torch.float32)
    warm(unet, Plain(), full)
    assert recorder.recorded[0]["sample"][0] == 10
    part = {name: one[:9] for name, one in full.items()}
    (answer,) = warm(unet, Plain(), part)
    assert len(recorder.recorded) == 1
    assert len(answer) == 9
    torch.testing.assert_close(answer, Plain().work(unet)(part)[0], rtol=1e-4, atol=1e-5)
    # Numbers that stand in the other rows from before do not matter either.
    (again,) = warm(unet, Plain(), {name: one + 0 for name, one in part.items()})
    assert torch.equal(again, answer)


def test_a_bucket_is_one_of_kind_rows_and_shapes(unet: Any, recorder: CopyRecorder, later: Later):
    warm = warmup(recorder, later, record_after=0, compile_after=None)
    for rows, tokens in ((1, 7), (2, 7), (2, 14), (2, 7)):
        warm(unet, Plain(), feeds(rows, tokens=tokens))
    assert [(one["sample"][0], one["context"][1]) for one in recorder.recorded] == [(1, 7), (2, 7), (2, 14)]
    assert all(more <= 1.25 * less + 1 for less, more in pairwise(ROWS))


def test_the_bucket_that_was_used_longest_ago_goes(unet: Any, recorder: CopyRecorder, later: Later):
    warm = warmup(recorder, later, record_after=0, compile_after=None, most=2)
    for rows in (1, 2, 1, 3):
        warm(unet, Plain(), feeds(rows))
    assert warm.states()["recorded"] == 2
    held = warm.bytes_of(unet)
    assert held > 0
    warm(unet, Plain(), feeds(1))
    assert len(recorder.recorded) == 3, "1 stayed"
    warm(unet, Plain(), feeds(2))
    assert len(recorder.recorded) == 4, "2 went"


def test_more_rows_than_any_bucket_run_as_they_are(unet: Any, recorder: CopyRecorder, later: Later):
    warm = warmup(recorder, later, record_after=0)
    assert len(warm(unet, Plain(), feeds(ROWS[-1] + 1))[0]) == ROWS[-1] + 1
    assert recorder.recorded == []


@pytest.mark.parametrize("error", [RuntimeError("operation not permitted"), torch.OutOfMemoryError("no room")])
def test_what_cannot_be_recorded_stays_eager(unet: Any, recorder: CopyRecorder, later: Later, error: Exception):
    recorder.fails = error
    warm = warmup(recorder, later, record_after=0, patience=2)
    expected = Plain().work(unet)(feeds(2))[0]
    for _ in range(4):
        assert torch.allclose(warm(unet, Plain(), feeds(2))[0].float(), expected.float(), atol=0.05)
    assert len(warm.reasons) == 1, "a bucket that failed is not tried again"
    warm(unet, Plain(), feeds(3))
    assert warm.resting
    recorder.fails = None
    warm(unet, Plain(), feeds(4))
    assert recorder.recorded == [], "after so many failures nothing is recorded any more"


def test_nothing_is_recorded_where_memory_is_short(unet: Any, later: Later):
    recorder = CopyRecorder(free=1 << 29)
    warm = warmup(recorder, later, record_after=0)
    warm(unet, Plain(), feeds(2))
    assert recorder.recorded == []
    assert "memory" in warm.reasons[0]
    assert not warm.resting


def test_a_recording_that_says_something_else_is_not_used(unet: Any, later: Later):
    class Wrong(CopyRecorder):
        def record(self, work: Work, static: dict[str, Tensor], pool: Any) -> Any:
            return super().record(lambda feeds: tuple(one * 1.2 for one in work(feeds)), static, pool)

    warm = warmup(Wrong(), later, record_after=0)
    expected = Plain().work(unet)(feeds(2))[0]
    for _ in range(3):
        assert torch.allclose(warm(unet, Plain(), feeds(2))[0].float(), expected.float(), atol=0.05)
    assert "differed" in warm.reasons[0]


def test_blocks_that_cannot_be_compiled_stay_as_they_are(unet: Any, recorder: CopyRecorder, later: Later):
    warm = warmup(recorder, later, record_after=0, compile_after=0, backend="no such backend")
    warm(unet, Plain(), feeds(2))
    later.work()
    assert "cannot be compiled" in warm.reasons[0]
    warm(unet, Plain(), feeds(2))
    later.work()
    assert warm.states() == {"eager": 0, "recorded": 1, "compiled": 0}
    assert len(warm.reasons) == 1


def test_nothing_is_recorded_while_something_compiles(unet: Any, recorder: CopyRecorder, later: Later):
    warm = warmup(recorder, later, record_after=0, compile_after=0, backend="no such backend")
    warm(unet, Plain(), feeds(2))
    assert warm.compiling
    warm(unet, Plain(), feeds(3))
    assert len(recorder.recorded) == 1
    later.work()
    assert not warm.compiling
    warm(unet, Plain(), feeds(3))
    assert len(recorder.recorded) == 2


def test_float32_is_never_compiled(unet: Any, recorder: CopyRecorder, later: Later):
    warm = warmup(recorder, later, record_after=0, compile_after=0)
    with torch.inference_mode(False):
        unet.float()
    for _ in range(3):
        warm(unet, Plain(), feeds(2, torch.float32))
    assert later.jobs == []
    assert warm.states()["recorded"] == 1


def test_memory_that_is_asked_back_is_given(unet: Any, recorder: CopyRecorder, later: Later):
    warm = warmup(recorder, later, record_after=0, compile_after=None, patience=2)
    assert not warm.drop()
    for _ in range(2):
        warm(unet, Plain(), feeds(2))
        assert warm.bytes_of(unet) > 0
        assert warm.drop()
        assert warm.bytes_of(unet) == 0
    assert warm.resting, "a machine that is always short of memory is left in peace"


def test_a_network_that_was_moved_is_recorded_anew(unet: Any, recorder: CopyRecorder, later: Later):
    warm = warmup(recorder, later, record_after=0, compile_after=None)
    warm(unet, Plain(), feeds(2))
    for one in unet.parameters():
        one.data = one.data.clone() * 0.5
    expected = Plain().work(unet)(feeds(2))[0]
    assert torch.allclose(warm(unet, Plain(), feeds(2))[0].float(), expected.float(), atol=0.05)
    assert len(recorder.recorded) == 2


def test_gradients_still_pass_through_a_network_that_has_a_twin(unet: Any, recorder: CopyRecorder, later: Later):
    warm = warmup(recorder, later, record_after=0, compile_after=None)
    warm(unet, Plain(), feeds(2))
    with torch.inference_mode(False):
        given = {name: one.clone() for name, one in feeds(2).items()}
        given["sample"].requires_grad_()
        Plain().work(unet)(given)[0].float().square().sum().backward()
        assert given["sample"].grad is not None
        assert float(given["sample"].grad.abs().sum()) > 0
        assert not any(one.is_inference() for one in unet.parameters())


def test_a_network_that_is_gone_takes_its_recordings_with_it(recorder: CopyRecorder, later: Later):
    warm = warmup(recorder, later, record_after=0, compile_after=None)
    with torch.inference_mode(False):
        unet = tiny_models._unet(4).eval().requires_grad_(False).to(torch.bfloat16)
    warm(unet, Plain(), feeds(2))
    assert sum(warm.states().values()) == 1
    del unet
    import gc

    gc.collect()
    assert sum(warm.states().values()) == 0


def test_buffers_keep_the_layout_of_what_they_are_fed():
    last = torch.randn(2, 4, 8, 8).contiguous(memory_format=torch.channels_last)
    buffers = static_feeds({"x": last, "t": torch.ones(2)}, 3)
    assert buffers["x"].is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(buffers["x"][:2], last)
    assert buffers["t"].tolist() == [1, 1, 0]
    assert fill(buffers, {"x": last[:1], "t": torch.zeros(1)}) == 1
    with pytest.raises(RuntimeError, match="was fed"):
        fill(buffers, {"x": last})
    with pytest.raises(RuntimeError, match="rows"):
        fill(buffers, {"x": last, "t": torch.zeros(1)})
