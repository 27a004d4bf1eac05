"""ControlNets: zeros change nothing, maps lie as the pictures do, training further, resuming, the folder."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from diffusers import ControlNetModel
from PIL import Image

from danqing.models.catalog import Catalog
from danqing.planning.controls import check_fits
from danqing.sets.folder import write_set
from danqing.spec.errors import InvalidRequestError, NotFoundError, UnsupportedError
from danqing.training.own.loop import export_all
from danqing.training.own.sampling import Look, Painting, as_array, paint
from own_runs import context_of, learnt, make_set, opened_method, request_of, trained
from tiny_checkpoints import make
from tiny_controls import awake

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.usefixtures("one_thread")]


def asked(**fields):
    return request_of("controlnet", **{"annotator": "canny", "learning_rate": 1e-3, **fields})


def with_maps(root, count=4):
    """A set whose maps say where left is: white there."""
    made = make_set(root / "sets", count=count)
    folder = root / "sets" / "cats" / "conditioning"
    folder.mkdir(exist_ok=True)
    pictures = []
    for one in made.pictures:
        pixels = np.zeros((one.height_px, one.width_px, 3), np.uint8)
        pixels[:, : one.width_px // 2] = 255
        Image.fromarray(pixels).save(folder / one.file)
        pictures.append(one.model_copy(update={"conditioning": one.file}))
    write_set(root / "sets" / "cats", made.model_copy(update={"pictures": tuple(pictures)}))


def test_convolutions_of_zeros_change_nothing_and_later_they_do(tiny_sd, tmp_path):
    make_set(tmp_path / "sets")
    method = opened_method(asked(), context_of(tmp_path, tiny_sd))
    drawn = method.data.batch(0)
    noisy = type("Noisy", (), {"x": drawn.latents})
    with torch.no_grad():
        bare = method.opened.predict(drawn.latents, drawn.times, drawn.context)
        assert torch.equal(method.answer(noisy, drawn), bare)
        awake(method.net, seed=3)
        assert float((method.answer(noisy, drawn) - bare).abs().max()) > 1e-3


def test_it_learns_and_the_model_does_not(tiny_sd, tmp_path):
    make_set(tmp_path / "sets")
    fields = {"steps": 12, "batch": 4, "learning_rate": 3e-3, "schedule": "constant"}
    context = context_of(tmp_path, tiny_sd)
    fresh = opened_method(asked(**fields), context)
    before, weights = fresh.score(0), [one.clone() for one in fresh.opened.unet.parameters()]
    method = trained(asked(**fields), context).method
    assert method.score(12) > before
    assert all(torch.equal(one, other) for one, other in zip(method.opened.unet.parameters(), weights, strict=True))
    assert all(one.grad is None for one in method.opened.unet.parameters())


def test_maps_are_cut_and_mirrored_as_their_pictures(tiny_sd, tmp_path):
    with_maps(tmp_path, 6)
    method = opened_method(asked(annotator=None, mirror=True, size_px=64), context_of(tmp_path, tiny_sd))
    for example in method.data.examples:
        plain = method.control_map(example, mirrored=False)
        assert plain.shape == (example.bucket[1], example.bucket[0], 3)
        assert plain[:, :8].mean() > 250
        assert plain[:, -8:].mean() < 5
        assert np.array_equal(method.control_map(example, mirrored=True), plain[:, ::-1])
    drawn = method.data.shows(0)
    hints = method.hints(drawn)
    assert hints.shape[:2] == (2, 3)
    assert (float(hints.min()), float(hints.max())) == (0.0, 1.0)


def test_an_annotator_draws_what_is_shown(tiny_sd, tmp_path):
    make_set(tmp_path / "sets")
    method = opened_method(asked(), context_of(tmp_path, tiny_sd))
    found = method.control_map(method.data.examples[0], mirrored=False)
    # A rectangle from a quarter to the half: lines there, none inside of it or far away.
    assert found[14:19, 20:30].max() == 255
    assert found[45:].max() == 0


@pytest.mark.parametrize("start", [None, "other"])
def test_an_interrupted_run_ends_with_the_same_bits_and_a_folder_that_loads(tiny_sd, tmp_path, start):
    make_set(tmp_path / "sets")
    models = tiny_sd
    if start is not None:
        models = tmp_path / "models"
        make("sd1").save_folder(models / "Stable-diffusion" / "tiny")
        net = ControlNetModel.from_unet(
            opened_method(asked(), context_of(tmp_path, models, "peek")).opened.unet,
            conditioning_embedding_out_channels=(8, 8, 16, 16),
        )
        awake(net, seed=5).save_pretrained(models / "ControlNet" / "other")
    fields = {"start_from": start, "gradient_checkpointing": True, "ema": 0.5}
    whole = trained(asked(**fields), context_of(tmp_path, models, "whole"))
    context = context_of(tmp_path, models, "parts")
    for stop in (1, None):
        parts = trained(asked(**fields), context, stop_after=stop)
    ours, theirs = learnt(parts), learnt(whole)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)

    files, _ = export_all(parts)

    net = ControlNetModel.from_pretrained(files[0])
    kept = whole.method.net.state_dict()
    with whole.exported():
        assert all(torch.equal(value, kept[name]) for name, value in net.state_dict().items())
    home = tmp_path / "there" / "ControlNet"
    home.mkdir(parents=True)
    files[0].rename(home / "mine")
    info = Catalog(tmp_path / "there").find_controlnet("mine")
    assert (info.kind, info.annotators, info.base) == ("controlnet", ("canny",), "tiny")
    check_fits(info, whole.method.opened.info)
    if start is not None:
        assert list(net.config["conditioning_embedding_out_channels"]) == [8, 8, 16, 16]


def test_samples_are_steered_and_the_model_is_left_as_it_was(tiny_sd, tmp_path):
    make_set(tmp_path / "sets")
    method = opened_method(asked(), context_of(tmp_path, tiny_sd))
    hints = method.hints(method.data.shows(0))
    look, wanted = Look.of(method.opened, 64, 2), [Painting("the cat", 1), Painting("the cat", 2)]
    bare = as_array(paint(method.opened, wanted, look))
    with method.steering(hints):
        assert np.array_equal(as_array(paint(method.opened, wanted, look)), bare)
        awake(method.net, seed=3)
        steered = as_array(paint(method.opened, wanted, look))
    assert not np.array_equal(steered, bare)
    assert np.array_equal(as_array(paint(method.opened, wanted, look)), bare)
    assert method.sample(1)[0].image.width > 64


def test_sdxl_takes_one_too(tmp_path):
    models = tmp_path / "models"
    make("sdxl").save_folder(models / "Stable-diffusion" / "xl")
    make_set(tmp_path / "sets", count=2)
    trainer = trained(asked(model="xl", steps=1), context_of(tmp_path, models))
    assert json.loads((export_all(trainer)[0][0] / "danqing.json").read_text())["base"] == "xl"
    assert trainer.method.sample(1)


def test_what_cannot_be_followed_is_refused(tiny_sd, tmp_path):
    make_set(tmp_path / "sets")
    context = context_of(tmp_path, tiny_sd)
    with pytest.raises(UnsupportedError, match="needs weights") as refused:
        opened_method(asked(annotator="softedge_hed"), context)
    assert "canny" in str(refused.value.allowed)
    with pytest.raises(InvalidRequestError, match="4 pictures of the set have no control map"):
        opened_method(asked(annotator=None), context)
    with pytest.raises(NotFoundError):
        opened_method(asked(start_from="nothing"), context)
