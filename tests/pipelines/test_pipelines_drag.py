"""Dragging: the published parts one by one, and whole drags on tiny models."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from danqing.engine import Engine, EngineOptions, Finished, Progressed, SessionEvent
from danqing.engine.calls import Exclusive
from danqing.enhance.warp import pull
from danqing.pipelines import expected_calls, paint
from danqing.pipelines.drag import inner_edge
from danqing.pipelines.drag_model import Goal, Hold, Latent, Pulling, Words, exploding, hold_loss, preserving, pull_loss
from danqing.pipelines.drag_points import Points, patches, sample, track
from danqing.pipelines.drag_quality import dragged_latents
from danqing.spec.errors import CancelledError, InvalidRequestError, UnsupportedError
from easel import Easel, box_mask, numbers, photo

POINT = {"from_x_px": 24, "from_y_px": 24, "to_x_px": 36, "to_y_px": 30}
STILL = {"from_x_px": 24, "from_y_px": 24, "to_x_px": 24, "to_y_px": 24}
QUICK = {"identity_steps": 2, "iterations": 3, "drag_steps": 2, "tracks": 2, "pulls": 1}


def fields(easel: Easel, **more: Any) -> dict[str, Any]:
    base = {"kind": "drag", "image": easel.picture(photo(64, 64)), "points": [POINT]}
    if more.get("mode") == "quality":
        base |= {"tuning": QUICK, "sampling": {"steps": 6}}
    return base | more


def features(height: int = 24, width: int = 20, seed: int = 2) -> torch.Tensor:
    return torch.randn(1, 5, height, width, generator=torch.Generator().manual_seed(seed))


# --- points -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("shift", [(3, 0), (-2, 3), (0, 0), (1, -3)])
def test_tracking_recovers_an_exact_integer_shift(shift: tuple[int, int]):
    original = features()
    moved = torch.roll(original, (shift[1], shift[0]), dims=(2, 3))
    assert track(original, moved, (9, 10), (9, 10), 3) == (9 + shift[0], 10 + shift[1])


def test_tracking_windows_are_cut_off_at_the_border():
    original = features()
    for corner in ((0.0, 0.0), (19.0, 23.0), (0.0, 23.0), (19.0, 0.0)):
        assert track(original, original, corner, corner, 3) == corner
    moved = torch.roll(original, (-2, -2), dims=(2, 3))
    assert track(original, moved, (2, 2), (2, 2), 3) == (0, 0)


def test_patches_are_clamped_at_the_border():
    source, moved = patches((0, 0), (0, 0), (-3.0, 0.0), 2, (24, 20))
    assert len(source) == len(moved) == 9
    assert source.min() == 0
    values = sample(features(), moved)
    assert torch.equal(values[:, 0], features()[0, :, 0, 0])
    inside, _ = patches((10, 10), (10, 10), (1.0, 0.0), 2, (24, 20))
    assert len(inside) == 25


def test_sampling_is_exact_on_pixels_and_linear_between():
    flat = features()
    whole = torch.tensor([[0.0, 0.0], [19.0, 23.0], [7.0, 3.0]])
    assert torch.equal(sample(flat, whole), torch.stack([flat[0, :, 0, 0], flat[0, :, 23, 19], flat[0, :, 3, 7]], 1))
    between = sample(flat, torch.tensor([[7.5, 3.0]]))[:, 0]
    assert torch.allclose(between, (flat[0, :, 3, 7] + flat[0, :, 3, 8]) / 2)


def test_points_are_mapped_from_pixels_to_the_map():
    from danqing.spec.drag import DragPoint

    found = Points.of([DragPoint(from_x_px=120, from_y_px=80, to_x_px=511, to_y_px=0)], (512, 512), (256, 256))
    assert found.starts == ((60.0, 40.0),)
    assert found.targets == ((255.0, 0.0),)
    assert not found.arrived


# --- losses -----------------------------------------------------------------------------------------------------------
def test_motion_supervision_is_nothing_once_the_features_have_moved():
    original = features()
    there = Points(((9, 10),), ((9, 10),), ((12, 10),))
    arrived = Points(((9, 10),), ((12, 10),), ((12, 10),))
    moved = torch.roll(original, 3, dims=3)
    pulling = Pulling(2, 4.0, original)
    assert float(pull_loss(moved, there, pulling)) == pytest.approx(0, abs=1e-5)
    assert float(pull_loss(original, there, pulling)) > 1
    assert float(pull_loss(original, arrived, pulling)) == 0


def test_the_mask_term_has_no_gradient_where_everything_may_change():
    x = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1)).requires_grad_(True)
    previous = torch.zeros(1, 4, 8, 8)
    for outside, moves in ((torch.zeros(1, 1, 8, 8), False), (torch.ones(1, 1, 8, 8), True)):
        loss = hold_loss(x, 0.5 * x, 2.0, Hold(previous, 1.5, outside, 0.1))
        (gradient,) = torch.autograd.grad(loss, x)
        assert bool(gradient.any()) is moves


def test_scalings_undo_each_other():
    x = torch.randn(1, 4, 8, 8)
    assert torch.allclose(exploding(preserving(x, 3.0), 3.0), x, atol=1e-6)


def test_a_step_of_adam_lowers_the_loss_and_spares_the_outside(easel: Easel):
    """Features of a real UNet; the mask holds the lower half."""
    model = easel.model()
    x = exploding(torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(4)), 2.0)
    words = Words(model.read_text(["the red cat"], "Original", 1)[0])
    from danqing.pipelines.drag_model import Row, look

    seen = look(model, Row(x, words), 2.0, (32, 32))
    points = Points(((10, 10),), ((10, 10),), ((20, 10),))
    goal = Goal(points, Pulling(1, 1.0), Hold(preserving(x, 2.0), 2.0, torch.zeros(1, 1, 8, 8), 0.0), (32, 32))
    latent = Latent.of(x, 2.0, 0.02)
    losses = [latent.descend(model, words, 2.0, goal) for _ in range(6)]
    assert losses[-1] < losses[0]
    assert not torch.equal(latent.exploding(2.0), x)
    assert seen.features.shape[-2:] == (32, 32)
    assert all(weight.grad is None for weight in model.unet.parameters())


# --- whole drags ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("mode", ["fast", "quality"])
def test_a_handle_on_its_target_leaves_the_picture(easel: Easel, mode: str):
    assert np.array_equal(easel.pixels(**fields(easel, mode=mode, points=[STILL])), numbers(photo(64, 64)))


@pytest.mark.parametrize("method", ["pulled", "gooddrag", "dragdiffusion"])
def test_zero_displacement_gives_identical_latents(easel: Easel, method: str):
    (plan,) = easel.plans(**fields(easel, mode="quality", method=method, points=[STILL]))
    original = photo(64, 64)
    pulled = pull(plan.drag.points, original.size)
    before, after = easel.run({"0": dragged_latents(easel.context(plan), original, pulled)}, [plan])[0]
    assert torch.equal(before, after)


@pytest.mark.parametrize(
    "more",
    [
        {"mode": "fast", "repair": 0.6},
        {"mode": "fast", "repair": 0.0},
        {"mode": "quality", "method": "gooddrag"},
        {"mode": "quality", "method": "dragdiffusion"},
        {"mode": "quality", "method": "pulled"},
        {"mode": "quality", "tuning": {**QUICK, "identity": False, "share": False}},
    ],
)
def test_outside_the_mask_nothing_changes_by_a_bit(easel: Easel, more: dict[str, Any]):
    mask = box_mask(64, 64, (12, 10, 48, 44))
    painted = easel.pixels(**fields(easel, **more, mask=easel.picture(mask)))
    outside = np.asarray(mask) == 0
    assert np.array_equal(painted[outside], numbers(photo(64, 64))[outside])
    assert (painted != numbers(photo(64, 64))).any()


@pytest.mark.parametrize("mode", ["fast", "quality"])
def test_pictures_of_any_size_keep_it(easel: Easel, mode: str):
    picture = photo(75, 53)
    painted = easel.one(**fields(easel, mode=mode, image=easel.picture(picture)))
    assert painted.size == (75, 53)


@pytest.mark.parametrize("mode", ["fast", "quality"])
def test_beside_others_as_alone(easel: Easel, mode: str):
    plan = easel.plans(**fields(easel, mode=mode, prompt="a blue dog"))[0]
    others = [
        easel.plans(**fields(easel, mode="fast", points=[{**POINT, "to_x_px": 50}], seed=9))[0],
        easel.plans(prompt="the sea", sampling={"steps": 3})[0],
    ]
    alone = easel.paint_plans([plan])[0]
    together = easel.paint_plans([plan, *others])[0]
    # An untrained model magnifies the last bit of a shared encoding a thousandfold on its way up and down.
    assert np.abs(numbers(alone) - numbers(together)).max() <= 4
    assert np.array_equal(numbers(alone), numbers(easel.paint_plans([plan])[0]))


@pytest.mark.parametrize("model", ["tiny", "tiny-v"])
def test_every_prediction_drags(easel: Easel, model: str):
    painted = easel.pixels(**fields(easel, mode="quality", method="gooddrag", model=model))
    assert (painted != numbers(photo(64, 64))).any()


def test_steps_are_reported_and_a_drag_stops_within_one(easel: Easel):
    plan = easel.plans(**fields(easel, mode="quality"))[0]
    engine, told, ended = Engine(easel.executor, EngineOptions(preview_every=0)), [], []

    def sink(event: SessionEvent) -> None:
        if isinstance(event, Progressed):
            told.append(event.fraction)
        elif isinstance(event, Finished):
            ended.append(event)

    easel.executor.ran.clear()
    engine.submit("drag", paint(plan, easel.pictures), sink, expected_calls=expected_calls(plan))
    for _ in range(12):
        engine.tick()
    assert told == sorted(told)
    assert len(set(told)) >= 5
    calls = len(easel.executor.ran)
    assert engine.cancel("drag")
    engine.run_until_idle()
    assert isinstance(ended[0].error, CancelledError)
    assert len(easel.executor.ran) == calls
    assert sum(isinstance(call, Exclusive) for batch in easel.executor.ran for call in batch) >= 5


def test_the_picture_is_learnt_once(easel: Easel):
    asked = fields(easel, mode="quality", prompt="a picture learnt once")

    def exclusive() -> int:
        return sum(isinstance(call, Exclusive) for batch in easel.executor.ran for call in batch)

    first = easel.pixels(**asked)
    calls = exclusive()
    again = easel.pixels(**asked)
    assert exclusive() == calls - QUICK["identity_steps"] - 1
    assert np.array_equal(first, again)


def test_the_edge_is_soft_inside_and_nothing_outside():
    reach = np.zeros((20, 30), bool)
    reach[:, 5:25] = True
    edge = inner_edge(reach, 4)
    assert edge[:, :5].max() == 0
    assert edge[10, 15] == 1
    assert 0 < edge[0, 5] < edge[0, 7] < 1
    assert edge[0, 15] == 1


def test_a_transparent_picture_is_dragged_on_white(easel: Easel):
    picture = Image.new("RGBA", (64, 64), (200, 30, 30, 0))
    painted = easel.pixels(**fields(easel, image=easel.picture(picture), repair=0.0))
    assert (painted == 255).all()


# --- what makes no sense ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("more", "error", "words"),
    [
        ({"points": []}, InvalidRequestError, "at least 1"),
        ({"points": [{**POINT, "to_x_px": 64}]}, InvalidRequestError, "outside the picture"),
        ({"prompt": "a cat AND a dog"}, InvalidRequestError, "one prompt"),
        ({"hires": {"scale": 2.0}}, UnsupportedError, "none of these"),
        ({"model": "tiny-inpaint"}, UnsupportedError, "cannot drag"),
        ({"mode": "quality", "precision": "int8"}, UnsupportedError, "no gradients"),
    ],
)
def test_what_cannot_be_dragged_is_said_in_planning(easel: Easel, more: dict[str, Any], error: type, words: str):
    with pytest.raises(error, match=words) as caught:
        easel.plans(**fields(easel, **more))
    assert caught.value.field


def test_masks_that_do_not_fit(easel: Easel):
    with pytest.raises(InvalidRequestError, match="differ in size"):
        easel.plans(**fields(easel, mask=easel.picture(Image.new("L", (32, 64), 255))))
    with pytest.raises(InvalidRequestError, match="the handle lies where nothing may change"):
        easel.one(**fields(easel, mask=easel.picture(box_mask(64, 64, (40, 40, 60, 60)))))
