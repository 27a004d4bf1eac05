"""Network tags and embedding names of a Request: their Plan, and what is refused before a job starts."""

from __future__ import annotations

from typing import Any

import pytest

from danqing.planning import plan
from danqing.prompt.infotext import parse_infotext, request_from_infotext, to_infotext
from danqing.prompt.networks import parse_networks
from danqing.spec.errors import DanqingError, NotFoundError, PromptSyntaxError, UnsupportedError
from danqing.spec.model import ModelInfo, ModelRef
from danqing.spec.network import (
    EmbeddingInfo,
    NetworkInfo,
    NetworkKind,
    NetworkPlan,
    WeightPoint,
    uses_at,
    uses_in_text,
)
from danqing.spec.plan import Plan
from danqing.spec.request import parse_request

SD1: dict[str, Any] = {"context_width": 768, "block_widths": (320, 640, 1280, 1280)}


def model(name: str, family: str, **facts: Any) -> ModelInfo:
    return ModelInfo(name=name, family=family, path=name, sha256=name[0] * 64, **facts)


def lora(name: str, **facts: Any) -> NetworkInfo:
    fields = {"kind": "lora", "family": "sd1", "context_width": 768, "text_widths": {"te": 768}, **facts}
    return NetworkInfo(name=name, path=name, sha256=name[0] * 64, **fields)


def embedding(name: str, widths: dict[str, int], vectors: int = 2, word: str | None = None) -> NetworkInfo:
    info = EmbeddingInfo(name=word or name, vectors=vectors, widths=widths)
    return NetworkInfo(name=name, path=name, sha256=name[0] * 64, kind="embedding", embeddings=(info,))


class Shelf:
    """Models of three families and some networks."""

    models = (
        model("base", "sd1", **SD1),
        model("xl", "sdxl", context_width=2048, block_widths=(320, 640, 1280)),
        model("xl-refiner", "sdxl", context_width=1280, block_widths=(384, 768, 1536, 1536)),
        model("flux", "flux"),
    )
    networks = (
        lora("ink"),
        lora("styles/wash"),
        lora("big", family="sdxl", context_width=2048, text_widths={"te": 768, "te2": 1280}),
        lora("flow", family="flux", context_width=None, text_widths={}),
        lora("conv", context_width=None, text_widths={}, family=None),
        lora("bundle", embeddings=(EmbeddingInfo(name="sprite", vectors=3, widths={"": 768}),)),
        NetworkInfo(name="paper", path="paper", sha256="p" * 64, kind="hypernetwork", widths=(320, 640, 768, 1280)),
    )
    words = (
        embedding("birb", {"": 768}),
        embedding("learned_embeds", {"": 768}, vectors=1, word="<birb-style>"),
        embedding("bad hands", {"": 768}, vectors=5),
        embedding("xl-only", {"clip_l": 768, "clip_g": 1280}),
        embedding("twice", {"": 1024}),
        embedding("other/twice", {"": 768}),
        embedding("g-only", {"clip_g": 1280}),
    )

    def find(self, name: str | None) -> ModelInfo:
        return next(info for info in self.models if info.name == (name or "base"))

    def find_network(self, name: str, kind: NetworkKind) -> NetworkInfo:
        wanted = "hypernetwork" if kind == "hypernet" else "lora"
        for info in self.networks:
            if info.name.rpartition("/")[2] == name and info.kind == wanted:
                return info
        raise NotFoundError("there is no such LoRA", field="prompt", value=name)

    def network_hash(self, info: NetworkInfo) -> str:
        return info.sha256[:12].upper()

    def embeddings(self) -> tuple[NetworkInfo, ...]:
        return self.words


def planned(prompt: str, **fields: Any) -> Plan:
    return plan(parse_request({"prompt": prompt, "seed": 1, **fields}), Shelf(), rng_seed=0)[0]


def names(prompt: str, **fields: Any) -> list[str]:
    return [one.name for one in planned(prompt, **fields).base.embeddings]


def test_tags_become_plans_with_their_hashes():
    found = planned("a cat<lora:ink:0.8> <lyco:wash:te=0.5:unet=0.7:dyn=4><hypernet:paper:0.6>").base.networks
    assert [(one.kind, one.model.name, one.te, one.unet[0].weight) for one in found] == [
        ("lora", "ink", 0.8, 0.8),
        ("lora", "styles/wash", 0.5, 0.7),
        ("hypernet", "paper", 0.6, 0.6),
    ]
    assert found[0].model == ModelRef(name="ink", sha256="i" * 64, family="lora")
    assert (found[0].short_hash, found[1].rank) == ("I" * 12, 4)
    assert Plan.model_validate_json(planned("a<lora:ink:0.8>").model_dump_json()).base.networks == found[:1]


def test_a_network_counts_in_the_digest():
    digests = {planned(prompt).digest() for prompt in ("a", "a<lora:ink:0.8>", "a<lora:ink:0.7>", "a<lora:ink:0.8>")}
    assert len(digests) == 3


def test_tags_of_the_negative_prompt_are_words():
    assert planned("a cat", negative_prompt="<lora:ink:1>").base.networks == ()


def test_each_pass_has_the_tags_of_its_own_prompt():
    both = planned("a<lora:ink:1>", hires={"scale": 2.0})
    own = planned("a<lora:ink:1>", hires={"scale": 2.0, "prompt": "b<lora:wash:1> birb"})
    assert [[n.model.name for n in part.networks] for part in both.passes] == [["ink"], ["ink"]]
    assert [[n.model.name for n in part.networks] for part in own.passes] == [["ink"], ["styles/wash"]]
    assert [len(part.embeddings) for part in own.passes] == [0, 1]


SCHEDULES = {
    "<lora:ink:0@0,1@0.5>": ([0.0, 0.5, 1.0, 1.0], 1.0),
    "<lora:ink:te=0.3:unet=1@0.5,0@1>": ([1.0, 1.0, 1.0, 0.5], 0.3),
    "<lora:ink:0.4>": ([0.4] * 4, 0.4),
    "<lora:ink:0@0,1@2,1@4>": ([0.0, 0.5, 1.0, 1.0], 1.0),
    "<lora:ink:-1@0,0.5@1>": ([-1.0, -0.625, -0.25, 0.125], -1.0),
}


@pytest.mark.parametrize("tag", SCHEDULES)
def test_weights_over_the_steps(tag: str):
    (found,) = planned(f"a{tag}").base.networks
    weights, te = SCHEDULES[tag]
    assert [found.unet_at(step, 4) for step in range(4)] == pytest.approx(weights)
    assert found.te == te


def test_a_jump_is_two_points_at_one_moment():
    points = tuple(WeightPoint(at=at, weight=weight) for at, weight in ((0.0, 0.0), (0.5, 0.0), (0.5, 1.0)))
    jump = NetworkPlan(kind="lora", model=ModelRef(name="a", sha256="a" * 64, family="lora"), unet=points)
    assert [jump.unet_at(step, 4) for step in range(4)] == [0.0, 0.0, 1.0, 1.0]


def test_what_acts_where():
    networks = planned("a<lora:ink:te=0:unet=1><hypernet:paper:0.5><lora:wash:te=1:unet=0@0,1@1>").base.networks
    assert [use.model.name for use in uses_in_text(networks)] == ["styles/wash"]
    assert [use.model.name for use in uses_at(networks, 0, 4)] == ["ink", "paper"]
    assert [use.weight for use in uses_at(networks, 2, 4)] == [1.0, 0.5, 0.5]


def test_block_weights():
    assert planned("a<lora:ink:1:lbw=1,0,0.5>").base.networks[0].blocks == (1.0, 0.0, 0.5)
    assert planned("a<lora:ink:1:lbw=OUTALL>").base.networks[0].blocks == (1.0, *(0.0,) * 7, *(1.0,) * 9)
    with pytest.raises(PromptSyntaxError, match="unknown block weights") as caught:
        planned("a<lora:ink:1:lbw=middle>")
    assert "OUTALL" in str(caught.value)


@pytest.mark.parametrize(
    ("tag", "words"),
    [
        ("<lora: :1>", "names no network"),
        ("<lora:ink:much>", "unreadable te"),
        ("<lora:ink:unet=1@x>", "unreadable unet"),
        ("<lora:ink:nan>", "unreadable te"),
        ("<lora:ink:1@-0.5>", "unreadable te"),
        ("<lora:ink:1:1:0>", "rank below 1"),
        ("<lora:ink:lbw=1,x>", "unreadable lbw"),
    ],
)
def test_unreadable_tags_are_refused(tag: str, words: str):
    with pytest.raises(PromptSyntaxError, match=words):
        planned(f"a cat{tag}")


def test_what_is_not_there_is_refused():
    with pytest.raises(NotFoundError):
        planned("a<lora:gone:1>")
    with pytest.raises(NotFoundError):
        planned("a<hypernet:ink:1>")


def test_unknown_tags_and_arguments_are_noted():
    assert planned("a<wibble:x:1>").notes == ("wibble:x was left out: there are lora, hypernet tags",)
    (note,) = planned("a<lora:ink:1:start=3>").notes
    assert "'start' means nothing here" in note


@pytest.mark.parametrize(
    ("prompt", "where", "words"),
    [
        ("a<lora:big:1>", "base", "text states 2048 wide, the model's are 768"),
        ("a<lora:ink:1>", "xl", "text states 768 wide, the model's are 2048"),
        ("a<lora:big:1>", "base", r"made for sdxl\) is not made for the model base"),
        ("a<lora:big:1>", "base", "a second text encoder"),
        ("a<lora:flow:1>", "base", "made for flux"),
        ("a<lora:ink:1>", "flux", "made for sd1"),
        ("a<hypernet:paper:1>", "xl", "nets for width 768, the model's widths are 320, 640, 1280, 2048"),
        ("a birb", "xl", "vectors 768 wide, the text states of the model xl are 2048 wide"),
        ("a xl-only", "base", r"768 \(clip_l\), 1280 \(clip_g\) wide"),
        ("a g-only", "xl", r"1280 \(clip_g\) wide"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_reason(prompt: str, where: str, words: str):
    with pytest.raises(UnsupportedError, match=words):
        planned(prompt, model=where)


def test_what_no_header_tells_is_left_to_the_layers():
    assert planned("a<lora:conv:1>").base.networks
    assert planned("a<lora:big:1>", model="xl").base.networks


def test_embeddings_are_found_by_their_names():
    assert names("a Birb, dog") == ["birb"]
    assert names("a (birb:1.2), [cat:BAD hands:0.5]") == ["bad hands", "birb"]
    assert names("a cat", negative_prompt="bad hands") == ["bad hands"]
    assert names("birbs and badhands") == []
    assert names("a <birb-style>, dog") == ["<birb-style>"]
    assert names("learned_embeds") == ["learned_embeds"]
    (found,) = planned("birb").base.embeddings
    assert (found.model.sha256, found.short_hash, found.vectors) == ("b" * 64, "b" * 12, 2)


def test_of_two_with_one_name_the_one_that_fits():
    (found,) = planned("twice").base.embeddings
    assert found.model.name == "other/twice"


def test_a_lora_brings_its_words():
    (found,) = planned("a sprite<lora:bundle:1>").base.embeddings
    assert (found.name, found.model.name, found.model.family) == ("sprite", "bundle", "lora")
    assert names("a sprite") == []


def test_a_refiner_goes_without_what_does_not_fit_it():
    found = planned("a xl-only<lora:big:1>", model="xl", refiner={"model": "xl-refiner", "switch_at": 0.8})
    refiner = found.base.refiner
    assert refiner is not None
    assert refiner.networks == ()
    assert [one.name for one in refiner.embeddings] == ["xl-only"]
    assert any("big does not act in the refiner xl-refiner" in note for note in found.notes)


def test_infotext_has_hashes_as_a1111_writes_them():
    found = planned("a birb<lora:ink:0.8><lyco:wash:1><hypernet:paper:1>", negative_prompt="bad hands")
    text = to_infotext(found)
    fields = parse_infotext(text).fields
    assert fields["Lora hashes"] == "ink: IIIIIIIIIIII, wash: SSSSSSSSSSSS"
    assert fields["TI hashes"] == "bad hands: bbbbbbbbbbbb, birb: bbbbbbbbbbbb"
    assert 'Lora hashes: "ink: ' in text
    read = request_from_infotext(text)
    assert read.request.prompt == "a birb<lora:ink:0.8><lyco:wash:1><hypernet:paper:1>"
    assert read.notes == ()
    assert (read.rest or {})["TI hashes"] == fields["TI hashes"]
    assert "Lora hashes" not in to_infotext(planned("a cat"))


def test_old_pictures_tell_their_hypernetwork_beside_the_prompt():
    text = "a cat\nSteps: 4, Sampler: Euler, Seed: 1, Hypernet: paper(0a1b2c3d), Hypernet strength: 0.6"
    assert request_from_infotext(text).request.prompt == "a cat<hypernet:paper:0.6>"


def test_every_refusal_names_field_and_next_step():
    for prompt in ("a<lora:big:1>", "a twice xl-only"):
        with pytest.raises(DanqingError) as caught:
            planned(prompt)
        assert caught.value.field == "prompt"
        assert caught.value.next_step


def test_tags_know_their_schedule():
    _, (tag,) = parse_networks("<lora:ink:te=0.5:unet=1@0.5,0@0>")
    assert tag.unet_schedule == ((0.0, 0.0), (0.5, 1.0))
    assert tag.unet == 1.0
    assert tag.problem is None
