"""Textual inversion: what learns and what stays, how captions call the word, and the files that others read."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

import tiny_checkpoints
from danqing.adapters.embedding import read_embedding
from danqing.models.headers import read_header
from danqing.models.identity import identify_header
from danqing.models.text import WordVectors
from danqing.spec.errors import InvalidRequestError
from danqing.training.own.loop import export_all
from danqing.training.own.methods.embedding import named
from danqing.training.own.words import MARK
from own_runs import context_of, diffusers_pipe, learnt, make_set, opened_method, request_of, trained

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.usefixtures("one_thread")]
WORD = {"name": "birb", "vectors": 3}


@pytest.fixture
def sets(tmp_path: Path) -> Path:
    make_set(tmp_path / "sets", trigger="zdq style")
    return tmp_path / "sets"


@pytest.fixture(scope="module")
def sdxl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    tiny_checkpoints.make("sdxl").save_file(root / "Stable-diffusion" / "tinyxl.safetensors")
    return root


def test_only_the_new_rows_learn(tiny_sd, tmp_path, sets):
    method = opened_method(request_of("embedding", **WORD), context_of(tmp_path, tiny_sd))
    first = {name: value.clone() for name, value in method.opened.parts()["te"].state_dict().items()}
    unet = {name: value.clone() for name, value in method.opened.unet.state_dict().items()}
    assert sum(one.numel() for params, _ in method.trainable() for one in params) == 3 * 32

    trainer = trained(request_of("embedding", **WORD), context_of(tmp_path, tiny_sd))

    opened = trainer.method.opened
    after = opened.parts()["te"].state_dict()
    assert any(name.endswith("token_embedding.weight") for name in first)
    assert all(torch.equal(after[name], value) for name, value in first.items())
    assert all(torch.equal(opened.unet.state_dict()[name], value) for name, value in unet.items())
    moved = (trainer.method.word.vectors["te"] - method.word.vectors["te"]).abs()
    assert bool((moved.amax(dim=1) > 1e-3).all())


def test_a_resumed_run_ends_with_the_same_bits(tiny_sd, tmp_path, sets):
    request = request_of("embedding", **WORD, steps=5, caption_dropout=0.3, norm_weight=0.1, ema=0.5, mirror=True)
    whole = trained(request, context_of(tmp_path, tiny_sd, "whole"))
    context = context_of(tmp_path, tiny_sd, "parts")
    for stop in (2, 3, None):
        parts = trained(request, context, stop_after=stop)
    assert learnt(parts).keys() == learnt(whole).keys()
    assert all(torch.equal(value, learnt(whole)[name]) for name, value in learnt(parts).items())


def test_it_begins_with_the_vectors_of_words_in_turn(tiny_sd, tmp_path, sets):
    method = opened_method(
        request_of("embedding", **{**WORD, "initial_words": "cat the"}), context_of(tmp_path, tiny_sd)
    )
    ((_, encoder),) = method.opened.texts
    table = encoder.model.get_input_embeddings().weight
    cat, the = encoder.tokenizer.encode("cat the")
    assert torch.equal(method.word.vectors["te"], table[[cat, the, cat]])


def test_without_words_it_begins_like_an_ordinary_one(tiny_sd, tmp_path, sets):
    one, same, other = (
        opened_method(request_of("embedding", name="birb", vectors=40, seed=seed), context_of(tmp_path, tiny_sd))
        for seed in (0, 0, 1)
    )
    table = one.opened.texts[0][1].model.get_input_embeddings().weight
    vectors = one.word.vectors["te"]
    assert torch.equal(vectors, same.word.vectors["te"])
    assert not torch.equal(vectors, other.word.vectors["te"])
    assert float(vectors.norm(dim=1).mean()) == pytest.approx(float(table.norm(dim=1).mean()), rel=0.15)
    assert float(one.word.strangeness()) < 0.1


def test_captions_name_the_word_and_its_reading_is_that_of_painting(tiny_sd, tmp_path, sets):
    method = opened_method(request_of("embedding", **WORD), context_of(tmp_path, tiny_sd))
    opened, ((_, encoder),) = method.opened, method.opened.texts
    caption = method.data.examples[0].caption
    assert caption == "zdq style, the cat 0, red, blue"

    ids = opened.token_ids([caption, "a birb, the cat", "the cat"])[0]
    assert [(row >= MARK).sum() for row in ids] == [3, 3, 0]
    states, _ = opened.read_text([ids])

    word = WordVectors("birb", method.word.vectors["te"].detach())
    with encoder.knowing([word]):
        painted = encoder.encode(
            ["birb, the cat 0, red, blue", "a birb, the cat", "the cat"], emphasis="Original", clip_skip=1
        )
    for ours, theirs in zip(states, painted, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-5)
    assert states.requires_grad


def test_a_dropped_caption_leaves_the_word(tiny_sd, tmp_path, sets):
    method = opened_method(request_of("embedding", **WORD, caption_dropout=1.0), context_of(tmp_path, tiny_sd))
    assert {show.caption for show in method.data.shows(0)} == {"birb"}
    negative = opened_method(request_of("embedding", **WORD, negative=True), context_of(tmp_path, tiny_sd))
    captions = [show.caption for number in range(20) for show in negative.data.shows(number % 4)]
    assert 0 < captions.count("birb") < len(captions)


@pytest.mark.parametrize(
    ("about", "caption"),
    [
        ({}, "birb, a cat"),
        ({"trigger": "sks"}, "sks, a cat"),
        ({"trigger": "sks", "caption_template": "{caption}"}, "sks, a cat"),
        ({"trigger": "sks", "caption_template": "by sks: {caption}"}, "by sks: a cat"),
    ],
)
def test_every_caption_holds_the_word_or_the_trigger(tmp_path, about, caption):
    made = make_set(tmp_path / "sets", **about)
    pictures = (made.pictures[0].model_copy(update={"caption": "a cat"}),)
    from danqing.sets.captions import trainer_caption

    changed = named(made.model_copy(update={"pictures": pictures}), "birb")
    assert trainer_caption(changed, changed.pictures[0]) == caption


def test_the_file_is_read_here_and_by_diffusers(tiny_sd, tmp_path, sets):
    trainer = trained(request_of("embedding", **WORD), context_of(tmp_path, tiny_sd))
    files, _ = export_all(trainer)
    path = files[0]
    assert path.name == "birb.safetensors"
    assert set(load_file(path)) == {"emb_params"}
    with safe_open(path, "pt") as handle:
        assert handle.metadata()["step"] == "4"
        assert handle.metadata()["sd_checkpoint"] == trainer.method.opened.info.sha256[:10]
        assert handle.metadata()["ss_base_model_version"] == "sd_v1"
    vectors = trainer.method.word.vectors["te"].detach()
    assert torch.equal(read_embedding(path)["birb"][""], vectors)

    pipe = diffusers_pipe(tiny_sd / "Stable-diffusion" / "tiny")
    pipe.load_textual_inversion(str(path), token="birb")  # noqa: S106 (a word)
    ids = pipe.tokenizer.convert_tokens_to_ids(["birb", "birb_1", "birb_2"])
    assert torch.equal(pipe.text_encoder.get_input_embeddings().weight[ids], vectors)


def test_sdxl_learns_in_both_encoders(sdxl, tmp_path, sets):
    trainer = trained(request_of("embedding", **WORD, model="tinyxl", steps=2), context_of(tmp_path, sdxl))
    files, _ = export_all(trainer)
    found = load_file(files[0])
    assert {name: tuple(value.shape) for name, value in found.items()} == {"clip_l": (3, 64), "clip_g": (3, 64)}
    assert set(read_embedding(files[0])["birb"]) == {"clip_l", "clip_g"}
    assert identify_header(read_header(files[0]), "birb").family == "sdxl"
    fresh = opened_method(request_of("embedding", **WORD, model="tinyxl"), context_of(tmp_path, sdxl, "fresh"))
    for part, name in (("te", "clip_l"), ("te2", "clip_g")):
        assert not torch.equal(found[name], fresh.word.vectors[part].detach())
        encoder = dict(fresh.opened.texts)[part].model
        tokens = encoder.get_input_embeddings().weight.shape[0]
        assert tokens == encoder.config.vocab_size


def test_a_negative_word_is_sampled_in_the_negative_prompt(tiny_sd, tmp_path, sets):
    request = request_of("embedding", **WORD, negative=True, sample_prompts=["the cat"])
    method = opened_method(request, context_of(tmp_path, tiny_sd))
    asked = []

    def noted(captions):
        asked.extend(captions)
        return type(method.opened).token_ids(method.opened, captions)

    method.opened.token_ids = noted
    (sheet,) = method.sample(0)
    assert asked == ["the cat", "the cat", "", "birb"]
    assert sheet.image.height > 2 * 64
    assert "negative prompt" in method.card().usage


def test_words_without_a_token_are_refused(tiny_sd, tmp_path, sets, monkeypatch):
    from danqing.prompt.tokenizer import ClipTokenizer

    real = ClipTokenizer.encode
    monkeypatch.setattr(ClipTokenizer, "encode", lambda self, text: [] if text == "void" else real(self, text))
    with pytest.raises(InvalidRequestError) as refused:
        opened_method(request_of("embedding", **{**WORD, "initial_words": "void"}), context_of(tmp_path, tiny_sd))
    assert refused.value.field == "initial_words"
