"""CUDA's executor over recordings that need no GPU: what is recorded, what is not, and that the pictures stay."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from copy_recorder import CopyRecorder
from engine_sessions import distance
from watched import Watched, models_with_networks

from danqing.engine import executors
from danqing.engine.calls import Decode, Denoise
from danqing.engine.cuda_executor import CudaExecutor
from danqing.engine.room import widths_of
from danqing.engine.torch_executor import TorchExecutor
from danqing.engine.warmup import Warmup, WarmupOptions
from danqing.models.catalog import Catalog
from danqing.models.loader import Loader
from danqing.models.transfers import KEPT, Transfers
from easel import Easel, photo

CLOSE = 1e-4
"""Joined projections round differently in the last bit; a few steps amplify that."""


class Routed(Watched, CudaExecutor):
    """The real executor over a recorder for tests, which notes what ran each row."""

    OWN, ELSE = "recorded", "eager"

    def __init__(self, loader: Loader) -> None:
        self.recorder = CopyRecorder()
        super().__init__(loader, Warmup(self.recorder, WarmupOptions(record_after=1, compile_after=None)))


@pytest.fixture(scope="module")
def models_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return models_with_networks(tmp_path_factory.mktemp("cuda"), "ink")


@pytest.fixture
def by_cuda(models_dir: Path) -> Any:
    easel: Any = Easel(models_dir)
    easel.executor = Routed(easel.loader)
    return easel


def check(by_torch: Easel, by_cuda: Any, ways: set[str], **fields: Any) -> None:
    """The same latents, by the ways that are named."""
    words = {"sampling": {"sampler": "euler", "steps": 6}, **fields}
    wanted = by_torch.latents(by_torch.plans(**words))
    found = by_cuda.latents(by_cuda.plans(**words))
    assert set(by_cuda.executor.ways) == ways
    assert all(distance(a, b) < CLOSE for a, b in zip(found, wanted, strict=True))


def test_plain_pictures_are_recorded(by_torch, by_cuda):
    check(by_torch, by_cuda, {"recorded"})
    assert by_cuda.executor.recorder.replayed >= 5
    check(by_torch, by_cuda, {"recorded"}, width_px=128, height_px=64, prompt="blue dog, " + "cat, " * 90)


def test_features_are_kept_and_used_by_recordings(by_torch, by_cuda):
    steps = {"sampling": {"sampler": "euler", "steps": 8}}
    for branch in (0, 1):
        shortcuts = {"cache_interval": 2, "cache_branch": branch}
        check(by_torch, by_cuda, {"recorded"}, **steps, shortcuts=shortcuts)
    assert any("feature" in one for one in by_cuda.executor.recorder.recorded)


def test_controlnets_are_recorded_beside_the_unet(by_torch, by_cuda):
    shown = by_torch.picture(photo(64, 64))
    by_cuda.picture(photo(64, 64))
    unit = {"model": "live", "annotator": "none", "weight": 0.8, "end": 0.6, "image": shown}
    check(by_torch, by_cuda, {"recorded"}, controls=[unit])
    recorded = by_cuda.executor.recorder.recorded
    assert any("hint" in one for one in recorded)
    assert any("mid" in one for one in recorded)
    assert any("mid" not in one and "hint" not in one for one in recorded), "the last steps have no ControlNet"


@pytest.mark.parametrize(
    ("ways", "fields"),
    [
        ({"eager"}, {"prompt": "the red cat<lora:ink:0.8>"}),
        ({"recorded", "eager"}, {"guidance": {"scale": 5.0, "pag_scale": 2.0}}),
        ({"eager"}, {"shortcuts": {"token_merging": 0.5}}),
    ],
    ids=["network", "perturbed rows", "merged tokens"],
)
def test_what_acts_inside_the_denoiser_is_eager(by_torch, by_cuda, ways, fields):
    check(by_torch, by_cuda, ways, **fields)


def test_a_picture_does_not_depend_on_its_company(by_cuda):
    prompts = ("the red cat", "the red cat<lora:ink:0.8>", "blue dog", "a dog AND a cat", "a bowl", "a hat", "fog")
    plans = [
        one
        for seed, prompt in enumerate(prompts)
        for one in by_cuda.plans(prompt=prompt, seed=seed, sampling={"sampler": "euler", "steps": 5})
    ]
    alone = [by_cuda.latents([one])[0] for one in plans]
    together = by_cuda.latents(plans)
    rows = {one["sample"][0] for one in by_cuda.executor.recorder.recorded}
    assert max(rows) > 3, "they must have shared batches"
    assert all(distance(a, b) < 1e-5 for a, b in zip(alone, together, strict=True))


def test_weights_kept_small_are_eager(by_cuda):
    by_cuda.one(precision="float8", sampling={"sampler": "euler", "steps": 3})
    assert set(by_cuda.executor.ways) == {"eager"}


def test_recordings_count_as_memory_and_are_given_up_first(by_cuda):
    by_cuda.latents(by_cuda.plans())
    model = by_cuda.model()
    assert by_cuda.loader.beside_bytes(model) == by_cuda.executor.warmup.bytes_of(model.unet) > 0
    call = next(call for calls in by_cuda.executor.ran for call in calls if isinstance(call, Denoise))
    assert by_cuda.executor.relieve(call)
    assert by_cuda.loader.beside_bytes(model) == 0
    assert by_cuda.model() is model, "no model had to go"


def test_the_autoencoder_takes_as_many_pictures_as_fit(by_torch, by_cuda, monkeypatch):
    calls = [Decode(by_cuda.key(), torch.randn(1, 4, 8, 8)) for _ in range(3)]
    wanted = by_torch.executor.run(calls)
    one = widths_of(by_cuda.model()).decode(1, 8, 8)
    seen: list[int] = []
    decode = TorchExecutor._decode
    monkeypatch.setattr(TorchExecutor, "_decode", lambda *a: (seen.append(len(a[2])), decode(*a))[1])
    for free, batches in ((one * 100, [3]), (int(one * 2.6), [2, 1]), (one // 2, [1, 1, 1])):
        seen.clear()
        by_cuda.executor.recorder.free = free
        found = by_cuda.executor.run(calls)
        assert seen == batches
        torch.testing.assert_close(torch.cat(found), torch.cat(wanted), rtol=1e-4, atol=1e-4)


def test_texts_are_sent_once(by_cuda):
    sent: list[int] = []
    keep = by_cuda.executor.transfers.keep
    by_cuda.executor.transfers.keep = lambda one, dtype: (sent.append(id(one)), keep(one, dtype))[1]
    by_cuda.latents(by_cuda.plans(sampling={"sampler": "euler", "steps": 5}))
    assert len(sent) == 10
    assert len(set(sent)) == 2


def test_nothing_is_copied_on_a_cpu():
    transfers = Transfers(torch.device("cpu"))
    assert not transfers.pinned
    row = torch.randn(1, 4, 8, 8)
    assert torch.equal(transfers.send([row, row]), torch.cat([row, row]))
    assert transfers.fetch(row) is row
    many = [torch.randn(3) for _ in range(KEPT + 5)]
    kept = [transfers.keep(one, torch.float32) for one in many]
    assert transfers.keep(many[-1], torch.float32) is kept[-1]
    assert len(transfers._kept) == KEPT
    assert transfers.keep(many[-1], torch.bfloat16).dtype is torch.bfloat16


def test_a_gpu_gets_it_unless_pytorch_is_asked_for(models_dir: Path, monkeypatch):
    assert executors.uses_graphs("cuda")
    assert not executors.uses_graphs("cuda", "torch")
    assert not executors.uses_graphs("cpu")
    assert not executors.uses_graphs("mps")
    loader = Loader(Catalog(models_dir), torch.device("cpu"))
    loader.device = torch.device("cuda")
    assert type(executors.open_executor(loader, "torch")) is TorchExecutor
    monkeypatch.setattr("danqing.models.compiling.shutil.which", lambda name: None)
    (line,) = executors.explain_executor("cuda")
    assert "CUDA graph" in line
    assert "C compiler" in line
