"""With image prompts and a real small model in float32: a Session's result does not depend on who shares its batch."""

from __future__ import annotations

import pytest
import torch
from engine_sessions import check_arrivals, distance
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from danqing.engine.calls import Denoise, EmbedImage
from danqing.spec.plan import Plan
from easel import Easel, photo

TOLERANCE = 1e-5


def crowd(easel: Easel) -> list[Plan]:
    """Pictures that differ in all of an image prompt, with one, several and none; one by another adapter."""
    plans: list[Plan] = []
    for i in range(8):
        prompts = [
            {"image": easel.picture(photo(48 + 8 * n, 64, seed=i + n)), "weight": (1.0, 0.4, 1.6)[(i + n) % 3]}
            for n in range((1, 2, 3)[i % 3])
        ]
        prompts[0] |= {"start": 0.3 if i == 4 else 0.0, "end": 0.5 if i == 1 else 1.0}
        fields = {
            "prompt": ("the red cat", "a dog AND a cat", "blue dog, " + "cat, " * 45)[i % 3],
            "seed": i,
            "guidance": {"scale": 1.0 if i == 3 else 5.0, "pag_scale": 2.0 if i == 5 else 0.0},
            "sampling": {"sampler": ("euler", "dpmpp_2m", "heun")[i % 3], "steps": 3 + i % 3},
            "image_mix": "average" if i % 2 else "tokens",
            "image_adapter": "second" if i == 6 else "like-tiny",
        }
        plans += easel.plans(**fields, image_prompts=[] if i in (2, 7) else prompts)
    return plans


@pytest.fixture(scope="module")
def plans(image_easel: Easel) -> list[Plan]:
    return crowd(image_easel)


@pytest.fixture(scope="module")
def lone(image_easel: Easel, plans: list[Plan]) -> list[torch.Tensor]:
    return [image_easel.latents([one])[0] for one in plans]


def test_alone_and_among_companions(image_easel: Easel, plans: list[Plan], lone: list[torch.Tensor]):
    together = image_easel.latents(plans)
    batches = [calls for calls in image_easel.executor.ran if isinstance(calls[0], Denoise)]
    with_and_without = [calls for calls in batches if len({call.images is None for call in calls}) == 2]
    assert with_and_without, "pictures with and without image prompts never shared a batch"
    adapters = [{call.images.adapter.name for call in calls if call.images is not None} for calls in batches]
    assert any(len(names) == 2 for names in adapters)
    assert any(len(calls) > 1 for calls in image_easel.executor.ran if isinstance(calls[0], EmbedImage))
    for index, (ours, theirs) in enumerate(zip(together, lone, strict=True)):
        assert distance(ours, theirs) <= TOLERANCE, index


@settings(max_examples=3, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_order_of_arrival_and_any_cancellation(
    image_easel: Easel, plans: list[Plan], lone: list[torch.Tensor], data: st.DataObject
):
    check_arrivals(image_easel, plans, lone, data, TOLERANCE)


def test_a_row_without_a_prompt_is_bit_equal_beside_one_with(image_easel: Easel, plans: list[Plan]):
    """The very same batch, once with and once without its neighbour's image prompt."""
    key = image_easel.key()
    (one,) = image_easel.plans(image_prompts=[{"image": image_easel.picture(photo())}])
    image_easel.latents([one])
    shown = image_easel.executor.denoised()[0].images
    assert shown is not None
    assert shown.rows == (True, False)
    x = [torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(i)) for i in range(2)]
    contexts = tuple(torch.randn(2, 77, 32, generator=torch.Generator().manual_seed(9)))
    plain = [Denoise(key, one, 2.0, contexts) for one in x]
    with_images = Denoise(key, x[0], 2.0, contexts, images=shown)
    before = image_easel.executor.run(plain)
    after = image_easel.executor.run([with_images, plain[1]])
    assert torch.equal(before[1], after[1])
    assert not torch.allclose(before[0][0], after[0][0], atol=1e-3)
    # The negative row reads the empty picture, which is not nothing.
    assert not torch.equal(before[0][1], after[0][1])
    assert image_easel.executor.group_key(plain[0]) == image_easel.executor.group_key(with_images)


def test_making_room_for_image_prompts_ends(image_easel: Easel):
    (one,) = image_easel.plans(image_prompts=[{"image": image_easel.picture(photo())}])
    image_easel.latents([one])
    call = image_easel.executor.denoised()[0]
    # One kind of thing is given up at a time, and how many are in memory depends on the tests before.
    given_up = 0
    while image_easel.executor.relieve(call):
        given_up += 1
        assert given_up < 5
    image_easel.executor.run([call])
    assert not image_easel.executor.relieve(call)
