"""SDXL Revision: the vector of a picture in place of the pooled text, with words or without."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from danqing.spec.errors import MissingWeightsError, UnsupportedError
from easel import Easel, photo
from tiny_checkpoints import TEXT_WIDTH, make
from tiny_images import build_tower
from tiny_models import build


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Easel:
    root = tmp_path_factory.mktemp("revision")
    home = root / "Stable-diffusion"
    for kind in ("sdxl", "sdxl-refiner"):
        make(kind).save_folder(home / kind)
    make("sdxl").save_file(home / "sdxl-file.safetensors")
    build(home / "tiny", seed=1)
    build_tower(root / "clip_vision" / "large", width=TEXT_WIDTH)
    build_tower(root / "clip_vision" / "other", width=TEXT_WIDTH + 8, seed=2)
    return Easel(root)


def told(studio: Easel, **asked: Any) -> list[torch.Tensor]:
    """The pooled vectors of the first step's rows."""
    studio.latents(studio.plans(**{"model": "sdxl", "prompt": "a cat", "negative_prompt": "blue", **asked}))
    return list(studio.executor.denoised()[0].pooled)


def prompt(studio: Easel, seed: int = 1, **more: Any) -> dict[str, Any]:
    return {"image": studio.picture(photo(48, 48, seed=seed)), **more}


def vector(studio: Easel, seed: int = 1) -> torch.Tensor:
    """Of a picture, as transformers' own class gives it."""
    (planned,) = studio.plans(model="sdxl", image_prompts=[prompt(studio, seed)])
    assert planned.base.image_adapter is not None
    encoder = studio.loader.image_encoder(planned.base.image_adapter.encoder)
    import numpy as np

    return encoder.embed([torch.from_numpy(np.asarray(photo(48, 48, seed=seed)).copy())])[0]


def test_a_picture_stands_in_place_of_the_pooled_text(studio: Easel):
    plain = told(studio)
    shown = told(studio, image_prompts=[prompt(studio)])
    assert torch.equal(shown[0], vector(studio))
    assert torch.equal(shown[1], plain[1]), "the negative prompt keeps its own"
    half = told(studio, image_prompts=[prompt(studio, weight=0.5)])
    assert torch.allclose(half[0], (plain[0] + shown[0]) / 2, atol=1e-6)
    assert torch.equal(told(studio, image_prompts=[prompt(studio, start=0.5)])[0], plain[0])


def test_several_pictures_are_one_vector_between_them(studio: Easel):
    one, other = vector(studio, 1), vector(studio, 2)
    both = told(studio, image_prompts=[prompt(studio, 1), prompt(studio, 2)])[0]
    assert float(both.norm()) == pytest.approx(float((one.norm() + other.norm()) / 2), rel=1e-4)
    between = torch.nn.functional.cosine_similarity
    assert between(both, one, dim=0) > between(one, other, dim=0)


@pytest.mark.parametrize("model", ["sdxl", "sdxl-file.safetensors", "sdxl-refiner"])
def test_it_is_chosen_by_itself_and_changes_the_picture(studio: Easel, model: str):
    (planned,) = studio.plans(model=model, image_prompts=[prompt(studio)])
    assert planned.base.image_adapter is not None
    assert planned.base.image_adapter.model.name == "revision/large"
    shown, plain = studio.pixels(model=model, image_prompts=[prompt(studio)]), studio.pixels(model=model)
    assert abs(shown - plain).mean() > 0.1


def test_what_does_not_fit_is_refused(studio: Easel):
    with pytest.raises(UnsupportedError, match="pooled texts are"):
        studio.plans(model="sdxl", image_prompts=[prompt(studio)], image_adapter="revision/other")
    with pytest.raises(MissingWeightsError) as caught:
        studio.plans(model="tiny", image_prompts=[prompt(studio)])
    assert "pooled text" in str(caught.value.value)
    assert Path(studio.catalog.find_image_adapter("revision/large").path).name == "large"
