"""Image prompts from the Request to the picture: all four kinds, windows, weights, mixes, hires and refiner."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from danqing.engine.calls import EmbedImage
from danqing.pipelines.image_prompts import average
from easel import Easel, box_mask, photo

STEPS = {"steps": 3, "sampler": "Euler"}


def like(easel: Easel, seed: int = 3, **changes: Any) -> dict[str, Any]:
    return {"image": easel.picture(photo(80, 48, seed=seed)), **changes}


def pixels(easel: Easel, **fields: Any) -> np.ndarray:
    return easel.pixels(sampling=STEPS, **fields)


def differ(a: np.ndarray, b: np.ndarray) -> bool:
    return bool(np.abs(a - b).max() > 2)


def test_a_picture_changes_what_is_painted_and_weight_0_does_not(image_easel: Easel):
    easel = image_easel
    plain = pixels(easel)
    assert differ(pixels(easel, image_prompts=[like(easel)]), plain)
    assert differ(pixels(easel, image_prompts=[like(easel)]), pixels(easel, image_prompts=[like(easel, 4)]))
    off = easel.plans(image_prompts=[like(easel, weight=0)])
    assert off[0].image_prompts == ()
    assert off[0].base.image_adapter is None
    assert np.array_equal(pixels(easel, image_prompts=[like(easel, weight=0)]), plain)


def test_all_kinds_of_request(image_easel: Easel):
    easel = image_easel
    init, mask = easel.picture(photo()), easel.picture(box_mask(64, 64, (16, 16, 48, 48)))
    kinds: dict[str, dict[str, Any]] = {
        "img2img": {"image": init, "strength": 0.7},
        "inpaint": {"image": init, "mask": mask, "strength": 1.0, "mask_blur_px": 0},
        "outpaint": {"image": init, "margins": {"right_px": 32}},
    }
    for kind, fields in kinds.items():
        plain = pixels(easel, kind=kind, **fields)
        liked = pixels(easel, kind=kind, image_prompts=[like(easel)], **fields)
        assert differ(liked, plain), kind
        if kind == "inpaint":
            kept = np.asarray(box_mask(64, 64, (16, 16, 48, 48))) == 0
            assert np.array_equal(liked[kept], plain[kept])


def test_a_window_acts_in_its_share_of_the_steps(image_easel: Easel):
    easel = image_easel
    easel.paint(sampling={"steps": 4, "sampler": "Euler"}, image_prompts=[like(easel, start=0.3, end=0.5)])
    assert [call.images is not None for call in easel.executor.denoised()] == [False, False, True, False]
    easel.paint(sampling={"steps": 4, "sampler": "Euler"}, image_prompts=[like(easel, end=0.25), like(easel, 4)])
    counts = [len(call.images.embeddings) for call in easel.executor.denoised() if call.images is not None]
    assert counts == [2, 2, 1, 1]


def test_tokens_stand_side_by_side_and_an_average_is_one_picture(image_easel: Easel):
    easel = image_easel
    both = [like(easel, weight=1.5), like(easel, 4, weight=0.5)]
    easel.paint(sampling=STEPS, image_prompts=both)
    shown = easel.executor.denoised()[0].images
    assert shown is not None
    assert (len(shown.embeddings), shown.weight, shown.rows) == (2, 1.5, (True, False))
    assert shown.shares == pytest.approx((1.0, 1 / 3))
    easel.paint(sampling=STEPS, image_prompts=both, image_mix="average")
    blended = easel.executor.denoised()[0].images
    assert blended is not None
    assert (len(blended.embeddings), blended.weight, blended.shares) == (1, 1.5, (1.0,))
    wanted = average(shown.embeddings, (0.75, 0.25))
    assert torch.allclose(blended.embeddings[0], wanted, atol=1e-5)
    first, second = shown.embeddings
    alike = torch.nn.functional.cosine_similarity
    even = average(shown.embeddings, (1.0, 1.0))
    assert min(float(alike(even, first, 0)), float(alike(even, second, 0))) > float(alike(first, second, 0))
    assert float(wanted.norm()) == pytest.approx(
        0.75 * float(shown.embeddings[0].norm()) + 0.25 * float(shown.embeddings[1].norm()), rel=1e-4
    )


@pytest.mark.parametrize("mix", ["tokens", "average"])
def test_a_blend_takes_from_both_pictures(image_easel: Easel, mix: str):
    """At each end the blend is the lone picture; in the middle it is neither."""
    easel = image_easel

    def latents(first: float, second: float) -> torch.Tensor:
        prompts = [like(easel, 3, weight=first), like(easel, 4, weight=second)]
        sampling = {"steps": 2, "sampler": "Euler"}
        return easel.latents(easel.plans(sampling=sampling, prompt="", image_prompts=prompts, image_mix=mix))[0]

    left, right, middle = latents(1, 0), latents(0, 1), latents(1, 1)
    assert torch.allclose(latents(1, 1e-6), left, atol=1e-3)
    gap = float((left - right).norm())
    assert gap > 0.1
    assert float((middle - left).norm()) > 0.05 * gap
    assert float((middle - right).norm()) > 0.05 * gap


def test_a_picture_is_looked_at_once(image_easel: Easel):
    easel = image_easel
    looked: list[int] = []
    picture = easel.picture(photo(seed=77))
    (one,) = easel.plans(image_prompts=[{"image": picture}])
    assert one.base.image_adapter is not None
    encoder = easel.loader.image_encoder(one.base.image_adapter.encoder)
    real = encoder.embed
    encoder.embed = lambda pictures: looked.append(len(pictures)) or real(pictures)  # type: ignore[method-assign]
    try:
        easel.paint(sampling=STEPS, count=3, image_prompts=[{"image": picture}])
        easel.paint(sampling=STEPS, image_prompts=[{"image": picture}])
    finally:
        del encoder.embed
    assert looked == [1]
    assert any(isinstance(call, EmbedImage) for calls in easel.executor.ran for call in calls)


def test_hires_and_refiner_have_image_prompts_too(image_easel: Easel):
    easel = image_easel
    hires = {"scale": 1.5, "strength": 0.5}
    (one,) = easel.plans(image_prompts=[like(easel)], hires=hires, refiner={"model": "other", "switch_at": 0.5})
    assert one.passes[1].image_adapter == one.base.image_adapter
    assert one.base.refiner is not None
    assert one.base.refiner.image_adapter == one.base.image_adapter
    easel.paint_plans([one])
    assert all(call.images is not None for call in easel.executor.denoised())


def test_a_model_made_like_the_built_in_one(image_easel: Easel):
    easel = image_easel
    plain = pixels(easel, model="mini")
    assert differ(pixels(easel, model="mini", image_prompts=[like(easel)]), plain)
    (one,) = easel.plans(model="mini", image_prompts=[like(easel)])
    assert one.base.image_adapter is not None
    assert one.base.image_adapter.model.name == "like-mini"


def test_control_units_beside_image_prompts(control_easel: Easel, image_easel: Easel, tmp_path: Any):
    """Both act: the ControlNet's residuals in a UNet whose cross-attention reads a picture."""
    import shutil

    root = tmp_path / "both"
    shutil.copytree(control_easel.models_dir, root)
    shutil.copytree(image_easel.models_dir / "IP-Adapter", root / "IP-Adapter")
    easel = Easel(root)
    unit = {"model": "live", "image": easel.picture(photo(seed=8))}
    answers = [
        pixels(easel, image_prompts=images, controls=units) for images in ([], [like(easel)]) for units in ([], [unit])
    ]
    assert all(differ(a, b) for i, a in enumerate(answers) for b in answers[:i])
