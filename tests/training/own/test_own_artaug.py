"""ArtAug: whose turn a step is, what LoRA 2 learns, sums of LoRAs, the judge's say, resuming, the file."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from danqing.adapters.binding import bind
from danqing.adapters.network_file import read_network
from danqing.sampling.prediction import Prediction
from danqing.sets.buckets import make_buckets
from danqing.spec.errors import BadFileError, InvalidRequestError, NotFoundError
from danqing.spec.refine import Scores
from danqing.spec.training import parse_training
from danqing.spec.training_methods import NetworkShape
from danqing.training.own.artaug import Gain, Plan, check_briefs, make_groups, moved, read_result, result_file, shown
from danqing.training.own.card import card_text
from danqing.training.own.estimating import estimate
from danqing.training.own.loop import export_all
from danqing.training.own.methods import artaug
from danqing.training.own.networks.average import products_of, put, summed
from danqing.training.own.networks.network import Network
from danqing.training.own.opened import open_model
from danqing.training.own.pairs import Pair, read_pairs
from own_runs import context_of, learnt, make_set, opened_method, trained

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.usefixtures("one_thread")]
RED, BLUE = (200, 40, 30), (30, 40, 200)


def make_pairs(root, count=2):
    """A folder as `danqing refine --export` makes it: blue squares that became red ones."""
    folder = root / "pairs"
    (folder / "pictures").mkdir(parents=True)
    rows = []
    for i in range(count):
        names = [f"pictures/{i}-{side}.png" for side in ("before", "after")]
        for name, colour in zip(names, (BLUE, RED), strict=True):
            pixels = np.full((64, 64, 3), 20 * i, np.uint8)
            pixels[16:48, 16:48] = colour
            Image.fromarray(pixels).save(folder / name)
        request = {"kind": "txt2img", "prompt": f"the cat {i}", "seed": 7 + i}
        rows.append({"brief": f"the cat {i}", "before": names[0], "after": names[1], "before_request": request})
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


class Fake:
    """A judge whose scores are planned: first what is plain, then what a LoRA paints."""

    def __init__(self, *scores):
        self.left = list(scores)

    def scores(self, pictures, brief):
        del brief
        value = self.left.pop(0) if len(self.left) > 1 else self.left[0]
        return [Scores(prompt=value, aesthetic=0.5)] * len(pictures)


class Red:
    """A judge that likes red: the same answer in every process."""

    def scores(self, pictures, brief):
        del brief
        return [Scores(prompt=float(np.asarray(one)[..., 0].mean()) / 255, aesthetic=0.5) for one in pictures]


@pytest.fixture
def judged(monkeypatch):
    """Lets a test choose the judge, and makes the filter and the check small."""
    monkeypatch.setattr(artaug, "FILTER_SEEDS", 1)
    monkeypatch.setattr(artaug, "FILTER_PICTURES", 1)
    monkeypatch.setattr(artaug, "CHECK_PICTURES", 1)
    monkeypatch.setattr(artaug, "STRENGTHS", (1.0, 2.0))
    monkeypatch.setattr(artaug, "CHECK_STEPS", 2)

    def choose(judge):
        monkeypatch.setattr(artaug, "open_judge", lambda _: judge)
        return judge

    return choose


def asked(folder, **fields):
    given = {
        "method": "artaug", "name": "better", "model": "tiny", "pairs": str(folder), "steps": 3, "before_steps": 4,
        "batch": 2, "learning_rate": 1e-2, "group": 1, "sample_every": 0, "precision": "float32",
        "network": {"rank": 2},
    }  # fmt: skip
    return parse_training({**given, **fields})


def test_every_step_belongs_to_one_lora_of_one_group():
    plan = Plan(rounds=2, groups=2, before=2, after=1)
    turns = [(one.round, one.group, one.name, one.local) for one in map(plan.at, range(plan.steps))]
    of_round = [
        (0, "before", 0),
        (0, "before", 1),
        (0, "after", 0),
        (1, "before", 0),
        (1, "before", 1),
        (1, "after", 0),
    ]
    assert turns == [(number, *rest) for number in range(2) for rest in of_round]
    assert [plan.at(step).is_last for step in range(3)] == [False, True, True]
    # LoRA 2 sees the noise that LoRA 1 saw, other groups another.
    draws = [plan.at(step).draw for step in range(plan.round_steps)]
    assert draws[0] == draws[2]
    assert not set(draws[:3]) & set(draws[3:])


def test_groups_are_even_drawn_at_random_and_of_one_size():
    small, large = Image.new("RGB", (8, 8)), Image.new("RGB", (8, 16))
    pairs = [Pair(f"brief {i}", *[large if i % 4 == 3 else small] * 2, i) for i in range(12)]
    groups = make_groups(pairs, 5, seed=0)
    assert sorted(len(group) for group in groups) == [3, 4, 5]
    assert all(len({pair.before.size for pair in group}) == 1 for group in groups)
    assert sorted(pair.seed for group in groups for pair in group) == list(range(12))
    assert groups == make_groups(pairs, 5, seed=0)
    assert groups != make_groups(pairs, 5, seed=1)
    assert make_groups(pairs, 1, seed=0) == [[pair] for pair in pairs]


def test_a_step_shows_every_pair_before_one_comes_again():
    plan = Plan(rounds=1, groups=1, before=6, after=6)
    rows = [row for step in range(6) for row in shown(4, 2, 0, plan.at(step))]
    assert [sorted(rows[i : i + 4]) for i in (0, 4, 8)] == [[0, 1, 2, 3]] * 3
    assert rows[:4] != rows[4:8] or rows[4:8] != rows[8:]
    # More than a group has in one step, too.
    assert sorted(shown(2, 4, 0, plan.at(0))) == [0, 0, 1, 1]


@pytest.mark.parametrize("prediction", list(Prediction))
def test_an_answer_is_moved_as_its_picture_is(prediction):
    alphas = torch.tensor([0.9, 0.3])
    a, s = alphas.sqrt().view(-1, 1, 1, 1), (1 - alphas).sqrt().view(-1, 1, 1, 1)
    x, answer, difference = (torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(i)) for i in range(3))

    def picture(said):
        return (x - s * said) / a if prediction is Prediction.EPSILON else a * x - s * said

    after = picture(answer + moved(difference, alphas, prediction))
    torch.testing.assert_close(after - picture(answer), s.square() * difference, rtol=1e-4, atol=1e-5)


def test_only_a_clear_loss_is_dropped():
    def scores(*values):
        return [Scores(prompt=value, aesthetic=0.5) for value in values]

    uneven = Gain.between(scores(0.4, 0.4, 0.4), scores(0.6, 0.1, 0.4))
    assert uneven.prompt == pytest.approx(-1 / 30)
    assert uneven.error == pytest.approx(np.std([0.2, -0.3, 0.0], ddof=1) / 3**0.5)
    assert uneven.passes
    assert not Gain.between(scores(0.4, 0.4), scores(0.3, 0.3)).passes
    assert not Gain.between(scores(0.4), scores(0.4)).passes


def lively(network, seed):
    with torch.no_grad():
        for i, one in enumerate(network.parameters()):
            one.copy_(torch.randn(one.shape, generator=torch.Generator().manual_seed(100 * seed + i)))
    return network


def test_a_sum_of_loras_is_that_of_their_products_as_near_as_the_rank_allows(tiny_sd, tmp_path):
    opened = open_model("tiny", context_of(tmp_path, tiny_sd), "float32")
    shape = NetworkShape(rank=2, alpha=4, conv_rank=2, conv_alpha=1, blocks=("mid_block",))
    one, other = (lively(Network({"unet": opened.unet}, shape, 0), seed) for seed in (1, 2))
    first, second = products_of(one), products_of(other)
    whole = {key: 0.5 * first[key][0] @ first[key][1] - second[key][0] @ second[key][1] for key in first}

    exact = summed([(first, 0.5), (second, -1.0)], 4)
    nearest = summed([(first, 0.5), (second, -1.0)], 2)

    assert any(".conv" in name for name in (c.path for c in one.chosen))
    for key, full in whole.items():
        torch.testing.assert_close(exact[key][0] @ exact[key][1], full, rtol=1e-4, atol=1e-3)
        left = torch.linalg.svdvals(full)[2:]
        miss = torch.linalg.matrix_norm(full - nearest[key][0] @ nearest[key][1])
        assert float(miss) == pytest.approx(float(left.square().sum().sqrt()), rel=1e-3)
    # What is put into a network is what it adds, scale and kernels included.
    put(one, nearest)
    again = products_of(one)
    for key, (up, down) in nearest.items():
        torch.testing.assert_close(again[key][0] @ again[key][1], up @ down, rtol=1e-4, atol=1e-3)


def test_lora_2_learns_after_while_lora_1_stays_as_it_was(tiny_sd, tmp_path, judged, monkeypatch):
    judged(Fake(0.5))
    monkeypatch.setattr(artaug, "EMPTY_SHARE", 0.0)
    fields = {"network": {"rank": 8, "conv_rank": 8}, "learning_rate": 3e-3, "schedule": "constant", "batch": 4}
    request = asked(make_pairs(tmp_path, 1), steps=30, before_steps=15, **fields)
    context = context_of(tmp_path, tiny_sd)
    half = trained(request, context, stop_after=15)
    method = half.method
    frozen = learnt(half)
    stage = method.plan.at(15)
    with method.acting(after=0.0), torch.no_grad():
        start = float(method._error(stage))

    whole = trained(request, context, stop_after=44)

    after = learnt(whole)
    assert all(torch.equal(after[name], value) for name, value in frozen.items() if name.startswith("before."))
    assert any(bool(value.abs().max() > 0) for name, value in frozen.items() if name.endswith(".up"))
    with torch.no_grad(), whole.method.acting():
        end = float(whole.method._error(stage))
    assert end < 0.97 * start
    # Nothing of either is fused before the judge has spoken.
    assert all(not value.any() for name, value in after.items() if name.startswith("fused.") and name.endswith(".up"))


@pytest.mark.parametrize("group", [1, 2])
def test_an_interrupted_run_ends_with_the_same_bits(tiny_sd, tmp_path, judged, group):
    judged(Red())
    folder = make_pairs(tmp_path, 2 * group)
    fields = {"network": {"rank": 2, "dropout": 0.2}, "steps": 2, "before_steps": 2, "accept_gain": -1, "group": group}
    request = asked(folder, rounds=2, **fields)
    whole = trained(request, context_of(tmp_path, tiny_sd, "whole"))

    context = context_of(tmp_path, tiny_sd, "parts")
    for stop in (3, 8, 13, None):
        parts = trained(request, context, stop_after=stop)

    ours, theirs = learnt(parts), learnt(whole)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    for pair in range(2):
        files = [result_file(tmp_path / run, 1, pair) for run in ("whole", "parts")]
        (gain, one), (same, other) = map(read_result, files)
        assert gain == same
        assert all(torch.equal(one[key][0], other[key][0]) for key in one)
    assert parts.method.finish(tmp_path)[1] == whole.method.finish(tmp_path)[1]


def test_the_mean_of_what_the_judge_likes_is_the_file(tiny_sd, tmp_path, judged):
    # Two pairs: plain and with LoRA 2 each; then both briefs: plain for the choice and for its confirmation, once and
    # twice as strong, and the stronger one's confirmation.
    judged(Fake(0.4, 0.6, 0.5, 0.4, 0.3, 0.3, 0.3, 0.3, 0.5, 0.5, 0.4, 0.4, 0.5))
    context = context_of(tmp_path, tiny_sd)
    trainer = trained(asked(make_pairs(tmp_path)), context)

    files, figures = export_all(trainer)

    assert figures["round_1_kept"] == 1
    assert figures["round_1_strength"] == 1
    assert figures["round_1_prompt_gain"] == pytest.approx(0.2)
    gain, products = read_result(result_file(context.folder, 0, 0))
    assert gain.prompt == pytest.approx(0.2)
    written = load_file(files[0])
    for key, (up, down) in products.items():
        both = written[f"{key}.lora_up.weight"].flatten(1) @ written[f"{key}.lora_down.weight"].flatten(1)
        torch.testing.assert_close(both, up @ down, rtol=1e-3, atol=1e-5)
    assert files[0].name == "better.safetensors"
    bound = bind(read_network(files[0]), "unet", trainer.method.opened.unet)
    assert len(bound) == len(products)
    facts = trainer.method.card().facts
    assert "the cat 0" in facts["held-back briefs"]
    assert facts["round 1"].endswith("prompt +0.200, aesthetic +0.000 on held-back briefs and was fused 1-fold")
    assert trainer.method.nothing_gained() == ""


@pytest.mark.parametrize(
    ("scores", "kept", "tried"),
    [
        ((0.5, 0.5), 0, ()),
        ((0.4, 0.6, 0.4, 0.6, 0.5, 0.5, 0.5, 0.5, 0.4, 0.4, 0.3, 0.3, 0.4), 2, (-0.1, -0.2)),
        ((0.4, 0.6, 0.4, 0.6, 0.3, 0.3, 0.5, 0.5, 0.5, 0.5, 0.4, 0.4, 0.4), 2, (0.2, 0.1)),
    ],
    ids=["filter", "round", "luck"],
)
def test_what_the_judge_does_not_like_is_not_fused(tiny_sd, tmp_path, judged, scores, kept, tried):
    judged(Fake(*scores))
    context = context_of(tmp_path, tiny_sd)
    trainer = trained(asked(make_pairs(tmp_path)), context)
    files, figures = export_all(trainer)
    assert (figures["round_1_kept"], figures["round_1_strength"]) == (kept, 0)
    assert all(not up.any() for up, _ in products_of(trainer.method.networks["fused"]).values())
    # A file of zeros would change nothing: there is none, and run and card say what was tried and how it scored.
    assert files == []
    why = trainer.method.nothing_gained()
    assert ("none of 2 LoRAs" if kept == 0 else "2 of 2 LoRAs scored prompt -0.100, aesthetic +0.000") in why
    card = card_text(trainer, figures)
    assert f"Nothing was published, because {why}." in card
    assert "<lora:" not in card
    assert ("pair 2: the cat 1 | prompt +0.000" if kept == 0 else "pair 2: the cat 1 | prompt +0.200") in card
    assert list((context.folder / "model").iterdir()) == []
    assert [figures[f"round_1_sum_at_{one}"] for one in (1, 2)[: len(tried)]] == pytest.approx(tried)


def test_a_group_shares_its_loras_and_is_one_row_of_the_card(tiny_sd, tmp_path, judged):
    judged(Fake(0.4, 0.4, 0.6, 0.6, 0.5))
    context = context_of(tmp_path, tiny_sd)
    trainer = trained(asked(make_pairs(tmp_path, 3), group=3), context)
    method = trainer.method
    assert method.plan.steps == 7
    stage = method.plan.at(0)
    assert method._latents_of(stage, "before").shape[0] == 3
    assert [len(group) for group in method.groups] == [3]
    _, figures = export_all(trainer)
    assert (figures["pairs"], figures["groups"], figures["round_1_kept"]) == (3, 1, 1)
    assert {one.prompt for one in method.filtering(method.groups[0])} == {f"the cat {i}" for i in range(3)}
    assert f"group 1: {method.groups[0][0].brief} +2 |" in card_text(trainer, figures)


def test_without_words_lora_2_changes_nothing(tiny_sd, tmp_path, judged, monkeypatch):
    judged(Fake(0.5))
    monkeypatch.setattr(artaug, "EMPTY_SHARE", 1.1)
    method = opened_method(asked(make_pairs(tmp_path)), context_of(tmp_path, tiny_sd))
    lively(method.networks["before"], 1)
    with torch.no_grad():
        before, after = (float(method._error(method.plan.at(step))) for step in (0, 4))
    assert before > 0.01
    assert after == pytest.approx(0.0, abs=1e-9)


def test_the_second_round_starts_from_what_the_model_paints_now(tiny_sd, tmp_path, judged):
    judged(Fake(0.5))
    method = opened_method(asked(make_pairs(tmp_path), rounds=2), context_of(tmp_path, tiny_sd))
    first, second = (method._latents_of(method.plan.at(step), "before") for step in (0, 14))
    lively(method.networks["fused"], 1)
    method._latents = {}
    assert not torch.equal(first, second)
    assert not torch.equal(second, method._latents_of(method.plan.at(14), "before"))
    assert torch.equal(first, method._latents_of(method.plan.at(0), "before"))


def test_samples_show_the_briefs_without_and_with_it(tiny_sd, tmp_path, judged):
    judged(Fake(0.5))
    method = opened_method(asked(make_pairs(tmp_path)), context_of(tmp_path, tiny_sd))
    lively(method.networks["after"], 1)
    picture = np.asarray(method.sample(5)[0].image)
    half = picture.shape[0] // 2
    assert not np.array_equal(picture[10:60, 10:70], picture[half + 5 : half + 55, 10:70])


def test_pairs_come_from_a_folder_or_from_a_set(tmp_path):
    sizes = make_buckets(64, 16)
    own = read_pairs(str(make_pairs(tmp_path)), tmp_path / "sets", sizes)
    assert [(pair.brief, pair.seed) for pair in own] == [("the cat 0", 7), ("the cat 1", 8)]
    assert own[1].before.getpixel((32, 32)) == BLUE
    assert own[1].after.getpixel((32, 32)) == RED

    made = make_set(tmp_path / "sets", count=1, kind="pairs")
    folder = tmp_path / "sets" / "cats"
    (folder / "conditioning").mkdir(exist_ok=True)
    Image.new("RGB", (32, 32), BLUE).save(folder / "conditioning" / "0.png")
    from danqing.sets.folder import write_set

    pictures = (made.pictures[0].model_copy(update={"conditioning": "0.png"}),)
    write_set(folder, made.model_copy(update={"pictures": pictures}))
    found = read_pairs("cats", tmp_path / "sets", sizes)
    assert [pair.brief for pair in found] == ["the cat 0, red, blue"]
    assert found[0].after.size == found[0].before.size


def test_what_is_no_pair_is_named(tmp_path):
    sizes = make_buckets(64, 16)
    with pytest.raises(NotFoundError, match="no pairs here"):
        read_pairs("nothing", tmp_path, sizes)
    folder = make_pairs(tmp_path)
    row = json.loads((folder / "pairs.jsonl").read_text().splitlines()[0])
    (folder / "pairs.jsonl").write_text(json.dumps({**row, "after": "../../secret.png"}))
    with pytest.raises(BadFileError):
        read_pairs(str(folder), tmp_path, sizes)
    (folder / "pairs.jsonl").write_text("")
    with pytest.raises(InvalidRequestError, match="no pair was accepted"):
        read_pairs(str(folder), tmp_path, sizes)


def test_briefs_are_held_back_where_there_are_enough():
    image = Image.new("RGB", (8, 8))
    pairs = [Pair(f"brief {i % 6}", image, image, i) for i in range(12)]
    held, left = check_briefs(asked("x"), pairs)
    assert held == ["brief 2"]
    assert len(left) == 10
    assert not {pair.brief for pair in left} & set(held)
    assert check_briefs(asked("x"), pairs[:3]) == ([f"brief {i}" for i in range(3)], pairs[:3])
    named, left = check_briefs(asked("x", sample_prompts=["brief 0", "a dog"]), pairs)
    assert named == ["brief 0", "a dog"]
    assert len(left) == 10


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"network": {"kind": "loha"}}, "network.kind"),
        ({"network": {"text_encoder": True}}, "network.text_encoder"),
        ({"ema": 0.9}, "ema"),
    ],
)
def test_what_cannot_be_averaged_is_refused(tmp_path, fields, field):
    with pytest.raises(InvalidRequestError) as refused:
        opened_method(asked("x", **fields), context_of(tmp_path, None))
    assert refused.value.field == field


def test_an_estimate_counts_all_steps_and_judges_nothing(tiny_sd, tmp_path, judged):
    judged(None)
    context = context_of(tmp_path, tiny_sd)
    context.estimating = True
    found = estimate(asked(make_pairs(tmp_path), steps=1, before_steps=1, rounds=3), context)
    assert found.reasons == ()
    assert found.steps == 3 * 2 * 2
    assert found.seconds > 0
    assert not (context.folder / "pairs").exists()
