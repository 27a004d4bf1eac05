"""On a CUDA device: the invariant in float32, half precision, recorded graphs, compiled blocks, locked memory."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from danqing.engine.cuda_executor import CudaExecutor
from danqing.engine.warmup import Warmup, WarmupOptions
from danqing.models.compiling import why_not_compiled
from danqing.models.cuda_graphs import CudaRecorder
from danqing.models.loader import Loader
from danqing.models.transfers import Transfers
from easel import Easel, numbers

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module")
def gpu_easel(tiny_sd: Path) -> Easel:
    torch.backends.cudnn.allow_tf32 = False
    return Easel(tiny_sd, torch.device("cuda"))


def test_a_picture_does_not_depend_on_its_companions(gpu_easel: Easel):
    plans = [*gpu_easel.plans(count=4), *gpu_easel.plans(prompt="blue dog", sampling={"sampler": "heun", "steps": 4})]
    together = gpu_easel.latents(plans)
    for ours, one in zip(together, plans, strict=True):
        alone = gpu_easel.latents([one])[0]
        assert float((ours - alone).abs().max() / alone.abs().max()) <= 1e-5


@pytest.mark.parametrize("precision", ["float16", "bfloat16", "auto"])
def test_half_precision_paints_nearly_the_same(gpu_easel: Easel, precision: str):
    calm = {"model": "tiny-v", "guidance": {"scale": 2.0}, "sampling": {"steps": 4}}
    exact = gpu_easel.pixels(**calm)
    half = numbers(gpu_easel.one(**{**calm, "precision": precision}))
    assert np.abs(exact - half).mean() < 8


def test_the_device_agrees_with_the_cpu(gpu_easel: Easel, easel: Easel):
    calm = {"model": "tiny-v", "guidance": {"scale": 2.0}, "sampling": {"steps": 4}}
    assert np.abs(gpu_easel.pixels(**calm) - easel.pixels(**calm)).max() <= 2


# --- recorded graphs --------------------------------------------------------------------------------------------------


def decibels(a: np.ndarray, b: np.ndarray) -> float:
    error = float(((a.astype(np.float64) - b.astype(np.float64)) ** 2).mean())
    return 99.0 if error == 0 else 10 * np.log10(255**2 / error)


def opened(models_dir: Path, **options: Any) -> Any:
    """An easel over CUDA's executor, with a warm-up of its own."""
    easel: Any = Easel(models_dir, torch.device("cuda"))
    recorder = CudaRecorder(easel.loader.device, easel.loader.memory.free)
    easel.executor = Graphs(easel.loader, Warmup(recorder, WarmupOptions(record_after=1, **options)))
    return easel


class Graphs(CudaExecutor):
    def __init__(self, loader: Loader, warmup: Warmup) -> None:
        super().__init__(loader, warmup)
        self.ran: list[Any] = []


CALM = {"model": "tiny-v", "guidance": {"scale": 2.0}, "sampling": {"sampler": "euler", "steps": 8}}


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_a_recorded_graph_paints_what_pytorch_paints(gpu_easel: Easel, tiny_sd: Path, precision: str):
    graphs = opened(tiny_sd, compile_after=None)
    for fields in ({}, {"width_px": 128}, {"shortcuts": {"cache_interval": 2, "cache_branch": 0}}):
        wanted = gpu_easel.pixels(**{**CALM, "precision": precision, **fields})
        assert decibels(wanted, graphs.pixels(**{**CALM, "precision": precision, **fields})) >= 40
    warmup = graphs.executor.warmup
    assert warmup.reasons == []
    assert warmup.states()["recorded"] >= 3
    assert graphs.loader.beside_bytes(graphs.model("tiny-v")) >= 0


@pytest.mark.filterwarnings("ignore")
def test_compiled_blocks_paint_what_pytorch_paints(gpu_easel: Easel, tiny_sd: Path):
    if (lacking := why_not_compiled(torch.device("cuda"))) is not None:
        pytest.skip(f"blocks cannot be compiled here: {lacking}")
    graphs = opened(tiny_sd, compile_after=2)
    fields = {**CALM, "precision": "bfloat16"}
    wanted = gpu_easel.pixels(**fields)
    until = time.monotonic() + 240
    while graphs.executor.warmup.states()["compiled"] == 0 and time.monotonic() < until:
        assert decibels(wanted, graphs.pixels(**fields)) >= 40
        assert graphs.executor.warmup.reasons == []
    assert graphs.executor.warmup.states()["compiled"] == 1
    assert decibels(wanted, graphs.pixels(**fields)) >= 40


def test_a_picture_alone_and_in_company_by_graphs(tiny_sd: Path):
    graphs = opened(tiny_sd, compile_after=None)
    fields = {**CALM, "precision": "bfloat16"}
    plans = [one for seed in range(6) for one in graphs.plans(**{**fields, "seed": seed})]
    alone = [numbers(graphs.paint_plans([one])[0]) for one in plans]
    together = [numbers(one) for one in graphs.paint_plans(plans)]
    assert graphs.executor.warmup.reasons == []
    assert min(map(decibels, alone, together)) >= 40


def test_what_is_recorded_counts_and_can_be_given_up(tiny_sd: Path):
    graphs = opened(tiny_sd, compile_after=None)
    graphs.pixels(**CALM)
    assert graphs.executor.warmup.states()["recorded"] >= 1
    before = torch.cuda.memory_reserved()
    assert graphs.executor.warmup.drop()
    torch.cuda.empty_cache()
    assert torch.cuda.memory_reserved() <= before
    assert graphs.pixels(**CALM).shape == (64, 64, 3)


def test_numbers_travel_through_locked_memory():
    transfers = Transfers(torch.device("cuda"))
    assert transfers.pinned
    rows = [torch.randn(1, 4, 8, 8) for _ in range(3)]
    for batch in (rows, rows[:1], rows):
        sent = transfers.send(batch)
        assert sent.device.type == "cuda"
        assert torch.equal(transfers.fetch(sent), torch.cat(batch))
    kept = transfers.keep(rows[0], torch.bfloat16)
    assert transfers.keep(rows[0], torch.bfloat16) is kept
