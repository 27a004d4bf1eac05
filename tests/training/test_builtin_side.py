"""The stages beside the model: the few-step variant, the inpainting variant, and how they are started."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from danqing.models.catalog import Catalog
from danqing.models.derived import load_unet
from danqing.pipelines import masks as pipeline_masks
from danqing.sampling.schedules import sigmas
from danqing.sampling.tables import SigmaTable
from danqing.spec.errors import MissingWeightsError
from danqing.training.builtin.config import TrainConfig
from danqing.training.builtin.control_stage import control_stage
from danqing.training.builtin.diffusion import make_schedule
from danqing.training.builtin.distill import (
    Lesson,
    Teacher,
    denoise,
    distill,
    distill_loss,
    make_ladder,
    paint_few,
    pseudo_huber,
    train_distill,
)
from danqing.training.builtin.finished import Finished, SideJob, open_finished, side_main
from danqing.training.builtin.inpaint_stage import (
    inpaint,
    inpaint_loss,
    inpaint_run,
    mask_batch,
    train_inpaint,
    widen,
)
from danqing.training.builtin.loop import step_rng
from danqing.training.builtin.lora import attach
from danqing.training.builtin.masks import draw_mask, latent_mask
from danqing.training.builtin.unet import draw_batch

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning", "ignore::FutureWarning"),
]


@pytest.fixture
def job(trained: Callable[[str], SideJob]) -> SideJob:
    return trained("models/Stable-diffusion/sketch")


@pytest.fixture
def done(job: SideJob) -> Finished:
    return open_finished(job)


def lesson_of(done: Finished, **settings: Any) -> Lesson:
    config = dataclasses.replace(done.config, distill=dataclasses.replace(done.config.distill, **settings))
    torch.manual_seed(3)
    lora = attach(done.models.unet, config.distill.rank)
    ladder = make_ladder(make_schedule(config), config.distill)
    return Lesson(done.models, lora, done.pool, done.latents, config, ladder)


def test_a_finished_run_gives_its_averaged_weights(done: Finished, job: SideJob) -> None:
    kept = torch.load(job.run / "unet.ckpt.pt", weights_only=True)
    for parameter, averaged in zip(done.models.unet.parameters(), kept["ema"], strict=True):
        assert torch.equal(parameter, averaged)
    assert not any(p.requires_grad for p in done.models.unet.parameters())
    assert done.latents.shape[:2] == done.pool.rgb.shape[:2]


def test_the_students_levels_are_the_samplers(done: Finished) -> None:
    lesson = lesson_of(done, steps=4, substeps=3)
    table = SigmaTable.from_alphas_cumprod(torch.from_numpy(make_schedule(done.config).alpha_bar))
    wanted = sigmas("kl_optimal", 4, table)
    assert np.allclose(lesson.ladder.coarse, wanted.numpy(), rtol=1e-4)
    assert len(lesson.ladder.sigmas) == 13
    angles = np.arctan(lesson.ladder.sigmas)
    assert np.allclose(np.diff(angles), np.diff(angles)[0], rtol=1e-3)


def test_the_teacher_solves_the_guided_equation(done: Finished) -> None:
    """More substeps lead to the same place, and to where many plain Euler steps lead."""
    x = torch.randn(2, *done.latents.shape[2:], generator=torch.Generator().manual_seed(1))
    states = done.models.encode(["red apple", "banana", "", ""], x.device).detach()
    ends: list[torch.Tensor] = []
    for substeps in (8, 24):
        lesson = lesson_of(done, substeps=substeps, guidance=2.0)
        teacher = Teacher(lesson, (states[:2], states[2:]))
        at = x * lesson.ladder.sigmas[0]
        for jump in range(4):
            at = teacher.advance(at, jump)
        ends.append(at)
        for module in list(done.models.unet.modules()):
            if hasattr(module, "parametrizations"):
                torch.nn.utils.parametrize.remove_parametrizations(module, "weight", leave_parametrized=False)
    lesson = lesson_of(done, substeps=100, guidance=2.0)
    at = x * lesson.ladder.sigmas[0]
    with torch.no_grad(), lesson.lora.off():
        for place, (sigma, following) in enumerate(zip(lesson.ladder.sigmas, lesson.ladder.sigmas[1:], strict=False)):
            cond, uncond = denoise(lesson, torch.cat([at, at]), place, states).chunk(2)
            found = uncond + 2.0 * (cond - uncond)
            at = found + following / sigma * (at - found)
    spread = float(at.std())
    assert float((ends[1] - at).abs().mean()) < 0.03 * spread
    assert float((ends[1] - at).abs().mean()) < float((ends[0] - at).abs().mean())


def test_rows_that_leave_the_teachers_path_forget_it(done: Finished) -> None:
    lesson = lesson_of(done, substeps=2)
    x = torch.randn(2, *done.latents.shape[2:])
    states = done.models.encode(["red apple"] * 2 + [""] * 2, x.device).detach()
    fresh, old = (Teacher(lesson, (states[:2], states[2:])) for _ in range(2))
    old.advance(x * lesson.ladder.sigmas[0], 0)
    old.forget(torch.tensor([True, False]).view(-1, 1, 1, 1))
    level = x * lesson.ladder.coarse[1]
    a, b = old.advance(level, 1), fresh.advance(level, 1)
    assert torch.allclose(a[0], b[0], atol=1e-5)
    assert not torch.allclose(a[1], b[1], atol=1e-5)


def test_the_loss_is_the_distance_to_where_the_teacher_lands(done: Finished) -> None:
    """With one substep and no guidance the untouched student lands there already."""
    own = lesson_of(done, substeps=1, guidance=1.0, student_share=0.0)
    rows = dataclasses.replace(own.config.distill, huber=1e-6)
    own = dataclasses.replace(own, config=dataclasses.replace(own.config, distill=rows))
    # The teacher's second-order memory is the only difference left; without it (pictures: it forgets) there is none.
    pictured = dataclasses.replace(rows, data_share=1.0)
    none = dataclasses.replace(own, config=dataclasses.replace(own.config, distill=pictured))
    assert float(distill_loss(none, 0)) < 1e-4
    guided = dataclasses.replace(pictured, guidance=6.0)
    far = dataclasses.replace(own, config=dataclasses.replace(own.config, distill=guided))
    assert float(distill_loss(far, 0)) > 10 * float(distill_loss(none, 0))


def test_the_loss_falls_on_a_toy(done: Finished) -> None:
    lesson = lesson_of(done, guidance=6.0, rank=16)
    optimizer = torch.optim.AdamW(lesson.lora.parameters(), lr=2e-3)
    losses: list[float] = []
    for _ in range(16):
        loss = distill_loss(lesson, 0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[0], losses
    assert all(p.grad is None for n, p in lesson.models.unet.named_parameters() if n.endswith("original"))


def test_pseudo_huber_is_even_and_grows_like_the_error() -> None:
    assert float(pseudo_huber(torch.zeros(3), 0.1)) == pytest.approx(0.0, abs=1e-7)
    assert float(pseudo_huber(torch.full((3,), -5.0), 0.1)) == pytest.approx(4.9, abs=0.01)


def test_distillation_goes_on_bit_for_bit(job: SideJob, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    tensors = []
    for folder, stops in ((whole, (None,)), (parts, (1, None))):
        for stop in stops:
            done = open_finished(job)
            folder.mkdir(exist_ok=True)
            data = (done.pool, done.latents)
            lesson, run = train_distill(done.models, data, done.config, folder, stop_after=stop)
        assert run.progress.samples == done.config.distill.stage.max_samples
        tensors.append(lesson.lora.tensors())
    assert all(torch.equal(tensors[0][key], tensors[1][key]) for key in tensors[0])
    assert any(value.any() for key, value in tensors[0].items() if "lora_B" in key)


def test_inpainting_goes_on_bit_for_bit(job: SideJob, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    found = []
    for folder, stops in ((whole, (None,)), (parts, (2, None))):
        for stop in stops:
            done = open_finished(job)
            folder.mkdir(exist_ok=True)
            data = (done.pool, done.latents, done.vae)
            _, lora, _ = train_inpaint(done.models, data, done.config, folder, stop_after=stop)
        found.append(lora.tensors() | {"conv_in": done.models.unet.conv_in.weight})
    assert all(torch.equal(found[0][key], found[1][key]) for key in found[0])
    assert found[0]["conv_in"][:, done.config.vae.latent_channels :].any()


def test_the_few_step_variant_is_exported_and_found(job: SideJob) -> None:
    distill(job)
    info = Catalog(job.model_dir.parents[1]).find("sketch-4step")
    assert (info.defaults.steps, info.defaults.guidance_scale, info.defaults.sampler) == (4, 1.0, "Euler")
    assert info.defaults.schedule == "KL Optimal"
    about = json.loads((Path(info.path) / "danqing.json").read_text(encoding="utf-8"))
    assert about["samples"] == job.config.distill.stage.max_samples
    assert (job.run / "samples" / "distill.png").is_file()
    done = open_finished(job)
    lesson, _ = train_distill(done.models, (done.pool, done.latents), done.config, job.run)
    unet = load_unet(info, torch.float32)
    x, t, states = torch.randn(1, 4, 4, 4), torch.tensor([400.0]), torch.randn(1, 77, 32)
    with torch.no_grad():
        trained = lesson.models.unet(x, t, encoder_hidden_states=states).sample
        assert torch.allclose(unet(x, t, encoder_hidden_states=states).sample, trained, atol=5e-3)
    assert torch.isfinite(paint_few(lesson, ["red apple", ""])).all()


def test_the_inpainting_variant_is_exported_and_found(job: SideJob) -> None:
    inpaint(job)
    info = Catalog(job.model_dir.parents[1]).find("sketch-inpaint")
    assert info.is_inpainting
    assert load_unet(info, torch.float32).conv_in.in_channels == 2 * info.latent_channels + 1
    assert info.defaults == Catalog(job.model_dir.parents[1]).find("sketch").defaults
    assert (job.run / "samples" / "inpaint.png").is_file()


def test_a_stage_starts_from_an_exported_model(
    job: SideJob, tmp_path: Path, interrupt_after: Callable[..., None]
) -> None:
    start = job.model_dir
    first = dataclasses.replace(job, run=tmp_path / "first", start=start)
    x, t, states = torch.randn(1, 4, 4, 4), torch.tensor([400.0]), torch.randn(1, 77, 32)
    with torch.no_grad():
        of_run = open_finished(job).models.unet(x, t, encoder_hidden_states=states).sample
        of_export = open_finished(first).models.unet(x, t, encoder_hidden_states=states).sample
    assert torch.allclose(of_run, of_export, atol=5e-3)
    control_stage(first, "line")
    made = start.parent / "controlnet" / f"{start.name}-line"
    known = load_file(made / "diffusion_pytorch_model.safetensors")
    # A second run goes on from the ControlNet beside the model: stopped before its first step, it is the same.
    interrupt_after(0)
    again = dataclasses.replace(job, run=tmp_path / "again", start=start)
    control_stage(again, "line")
    gone_on = load_file(made / "diffusion_pytorch_model.safetensors")
    assert all(torch.equal(known[name], gone_on[name]) for name in known)
    assert any(value.any() for name, value in known.items() if "controlnet_down_blocks" in name)


def test_half_an_exported_model_is_no_start(job: SideJob, tmp_path: Path) -> None:
    with pytest.raises(MissingWeightsError, match="not a whole exported model") as caught:
        open_finished(dataclasses.replace(job, start=tmp_path))
    assert caught.value.next_step


def test_the_wide_convolution_starts_as_the_old_one(done: Finished) -> None:
    unet, c = done.models.unet, done.config.vae.latent_channels
    x, t, states = torch.randn(1, c, 4, 4), torch.tensor([400.0]), torch.randn(1, 77, 32)
    with torch.no_grad():
        before = unet(x, t, encoder_hidden_states=states).sample
        widen(unet)
        assert unet.config.in_channels == 2 * c + 1
        after = unet(torch.cat([x, torch.randn(1, c + 1, 4, 4)], 1), t, encoder_hidden_states=states).sample
    assert torch.allclose(before, after, atol=1e-5)


def test_masked_pictures_are_hidden_where_the_mask_is(done: Finished, job: SideJob, tmp_path: Path) -> None:
    inpaint_run(done.models, done.config, tmp_path)
    data = (done.pool, done.latents, done.vae)
    config = dataclasses.replace(done.config, inpaint=dataclasses.replace(done.config.inpaint, whole_share=0.3))
    repair, _, _ = train_inpaint(open_finished(job).models, data, done.config, tmp_path, stop_after=0)
    repair = dataclasses.replace(repair, config=config)
    batch = draw_batch(done.pool, done.latents, config, 0, "inpaint", 8)
    masked = mask_batch(repair, batch, np.random.default_rng(0))
    c = done.config.vae.latent_channels
    assert masked.extra.shape == (8, c + 1, 4, 4)
    assert set(masked.mask.unique().tolist()) == {0.0, 1.0}
    for row in range(8):
        if masked.mask[row].all():
            assert float(masked.pixels[row].abs().max()) == 0.0
    assert math.isfinite(float(inpaint_loss(repair, 0)))


@pytest.mark.parametrize("size_px", [32, 128])
def test_masks_are_sane(size_px: int) -> None:
    drawn = [draw_mask(step_rng(7, "inpaint", i), size_px, 0.1) for i in range(300)]
    shares = np.asarray([latent_mask(mask).mean() for mask in drawn])
    assert all(mask.shape == (size_px, size_px) and mask.dtype == np.uint8 for mask in drawn)
    assert shares.min() > 0
    assert 0.04 < (shares == 1).mean() < 0.2
    assert 0.2 < np.median(shares) < 0.6
    assert (shares < 0.2).any()
    again = draw_mask(step_rng(7, "inpaint", 5), size_px, 0.1)
    assert (again == drawn[5]).all()


def test_latent_masks_are_the_pipelines() -> None:
    from PIL import Image

    for i in range(20):
        mask = draw_mask(step_rng(7, "inpaint", i), 128)
        wanted = pipeline_masks.latent_mask(Image.fromarray(mask), 16, 16, soft=False)[0, 0]
        assert np.array_equal(latent_mask(mask), wanted.numpy())


def test_the_command_says_what_is_missing(
    job: SideJob, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    configured: Callable[[str], TrainConfig] = lambda _: job.config  # noqa: E731
    monkeypatch.setattr("danqing.training.builtin.finished.load_config", configured)
    assert side_main(distill, "distill", ["--config", "x", "--run", str(tmp_path / "none")]) == 2
    assert "tokenizer" in capsys.readouterr().err
    (tmp_path / "distill.ckpt.pt").write_bytes(b"")
    assert side_main(distill, "distill", ["--config", "x", "--run", str(tmp_path)]) == 2
    assert "--resume" in capsys.readouterr().err
