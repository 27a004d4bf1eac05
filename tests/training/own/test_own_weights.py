"""Whole models: fine-tuning and DreamBooth, what they export, class pictures; and once SDXL's shape."""

from __future__ import annotations

import pytest
import torch

from danqing.adapters.binding import bind
from danqing.adapters.network_file import read_network
from danqing.models.catalog import Catalog
from danqing.spec.training_run import NoteEvent
from danqing.training.own.events import read_events
from danqing.training.own.loop import export_all
from danqing.training.own.methods.base import Losses
from danqing.training.own.opened import open_model
from danqing.training.own.sampling import Look, Painting, paint
from own_runs import context_of, learnt, make_set, opened_method, request_of, trained
from tiny_checkpoints import make

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.usefixtures("one_thread")]


def fixed(opened):
    generator = torch.Generator().manual_seed(7)
    x = torch.randn(1, 4, 8, 8, generator=generator)
    with torch.no_grad():
        context, _ = opened.read_text(opened.token_ids(["the red cat"]))
        return opened.predict(x, torch.tensor([500]), context), context


def opened_again(folder, tmp_path, name="again"):
    """A product as the catalogue would open it."""
    home = tmp_path / name / "Stable-diffusion"
    home.mkdir(parents=True)
    folder.rename(home / folder.name)
    context = context_of(tmp_path, home.parent, f"{name}-run")
    return open_model(folder.name, context, "float32")


@pytest.mark.parametrize("text", [False, True])
def test_a_fine_tuned_model_is_opened_again_as_it_was(tiny_sd, tmp_path, text):
    make_set(tmp_path / "sets")
    request = request_of("finetune", train_text_encoder=text, learning_rate=1e-3)
    trainer = trained(request, context_of(tmp_path, tiny_sd))
    answer, context = fixed(trainer.method.opened)
    bare, words = fixed(open_model("tiny", context_of(tmp_path, tiny_sd, "bare"), "float32"))

    files, _ = export_all(trainer)

    assert [file.name for file in files] == ["mine"]
    again, same = fixed(opened_again(files[0], tmp_path))
    torch.testing.assert_close(again, answer, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(same, context, rtol=1e-5, atol=1e-5)
    assert float((answer - bare).abs().max()) > 1e-3
    assert (float((context - words).abs().max()) > 1e-3) == text


def test_a_model_that_came_as_one_file_is_written_as_one_too(tmp_path):
    models = tmp_path / "models"
    make("sd1").save_file(models / "Stable-diffusion" / "single.safetensors")
    make_set(tmp_path / "sets")
    request = request_of("finetune", model="single", train_text_encoder=True, learning_rate=1e-3, steps=2)
    trainer = trained(request, context_of(tmp_path, models))
    answer, context = fixed(trainer.method.opened)

    files, _ = export_all(trainer)

    assert [file.name for file in files] == ["mine", "mine.safetensors"]
    for number, file in enumerate(reversed(files)):
        again, same = fixed(opened_again(file, tmp_path, f"again-{number}"))
        torch.testing.assert_close(again, answer, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(same, context, rtol=1e-5, atol=1e-5)


def test_an_interrupted_fine_tune_ends_with_the_same_bits(tiny_sd, tmp_path):
    make_set(tmp_path / "sets")
    request = request_of("finetune", train_text_encoder=True, learning_rate=1e-3, gradient_checkpointing=True)
    whole = learnt(trained(request, context_of(tmp_path, tiny_sd, "whole")))
    context = context_of(tmp_path, tiny_sd, "parts")
    trained(request, context, stop_after=3)
    parts = learnt(trained(request, context))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


@pytest.mark.parametrize("network", [{"rank": 2}, None])
def test_dreambooth_paints_the_class_once_and_learns_it_beside_the_subject(tiny_sd, tmp_path, network):
    make_set(tmp_path / "sets", count=3, class_words="cat", trigger="sks cat")
    fields = {"network": network, "prior_pictures": 3, "prior_weight": 0.5, "learning_rate": 1e-4}
    context = context_of(tmp_path, tiny_sd)
    method = opened_method(request_of("dreambooth", **fields), context)
    painted = sorted((context.folder / "class" / "pictures").iterdir())
    assert len(painted) == 3
    before = [path.stat().st_mtime_ns for path in painted]

    trainer = trained(request_of("dreambooth", **fields), context)

    assert [path.stat().st_mtime_ns for path in painted] == before
    notes = [event.words for event in read_events(context.folder) if isinstance(event, NoteEvent)]
    assert sum("pictures of the class (cat)" in words for words in notes) == 1
    number = next(
        i for i in range(4) if {s.example.picture.regularisation for s in method.data.shows(i)} == {True, False}
    )
    drawn = method.data.batch(number)
    losses = method.loss_of(drawn)
    assert isinstance(losses, Losses)
    plain = type(drawn)(**{**vars(drawn), "weights": torch.ones(2)})
    total, prior = float(method.loss_of(plain).total), float(method.loss_of(plain).parts["prior"])
    # ½·(subject + class) with the class at half its weight.
    assert float(losses.total) == pytest.approx(total - 0.25 * prior, rel=1e-5)
    captions = {s.example.picture.regularisation: s.caption for s in drawn.shows}
    assert captions[False].startswith("sks cat")
    assert "sks" not in captions[True]
    files, _ = export_all(trainer)
    assert files[0].name == ("mine.safetensors" if network else "mine")


def test_a_network_for_sdxl_is_trained_with_both_encoders_and_loads_again(tmp_path):
    models = tmp_path / "models"
    make("sdxl").save_folder(models / "Stable-diffusion" / "xl")
    make_set(tmp_path / "sets", count=6)
    request = request_of(model="xl", steps=2, network={"rank": 2, "text_encoder": True})
    trainer = trained(request, context_of(tmp_path, models))
    method = trainer.method
    batch = method.data.batch(0)
    assert batch.added is not None
    wide, high = batch.shows[0].example.bucket
    assert batch.added.numbers[0, 4:6].tolist() == [high, wide]
    assert batch.context.shape[2] == 128

    files, _ = export_all(trainer)

    weights = read_network(files[0])
    parts = method.opened.parts()
    assert set(parts) == {"unet", "te", "te2"}
    bound = {part: bind(weights, part, root) for part, root in parts.items()}
    assert sum(len(one) for one in bound.values()) == len(method.network.chosen)
    assert all(bound.values())
    pictures = paint(method.opened, [Painting("the cat")], Look.of(method.opened, 64, 2))
    assert pictures[0].size == (64, 64)
    catalog = Catalog(models)
    assert catalog.find("xl").family == "sdxl"


def test_samples_are_painted_as_the_engine_paints_them(tiny_sd, tmp_path, easel):
    """The trainer's small painter and the engine come to the same picture, bit for bit on one thread but rounding."""
    import numpy as np

    opened = open_model("tiny", context_of(tmp_path, tiny_sd), "float32")
    ours = paint(opened, [Painting("the red cat", 5)], Look.of(opened))[0]
    theirs = easel.one(prompt="the red cat", seed=5)
    difference = np.abs(np.asarray(ours, int) - np.asarray(theirs.convert("RGB"), int))
    assert difference.max() <= 2
