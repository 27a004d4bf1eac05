"""The loop of refining over fake workers: what is accepted stays, what is rejected leaves no version."""

from __future__ import annotations

import io
import json
import threading
import time
from pathlib import Path

import pytest
from PIL import Image
from studio_helpers import make_job, make_record, picture

from danqing.review.findings import Findings
from danqing.spec.errors import ConflictError, InvalidRequestError, MissingWeightsError, NotFoundError, UnsupportedError
from danqing.spec.geometry import BoxPx
from danqing.spec.painting import Img2ImgRequest, InpaintRequest, Txt2ImgRequest
from danqing.spec.refine import RefineOptions, RefineRules, Scores
from danqing.spec.review import Suggestion
from danqing.studio.pairs import export_pairs
from danqing.studio.refiner import REFINING, Watch
from danqing.studio.refining import RefineOrder
from danqing.studio.revising import Easel, attempts, emphasise, mask_png
from danqing.workers.pool import FakePool
from danqing.workers.protocol import JudgeCommand, JudgedMessage, ReviewCommand, ReviewedMessage

BOX = BoxPx(left_px=4, top_px=4, right_px=16, bottom_px=16)
HAT = Suggestion(box=BOX, prompt="a red apple", reason="it is green")
PAINT = Txt2ImgRequest(prompt="a red apple", seed=7)


class Critic:
    """Reviews with what was given, judges with scores in turn; the last of each again and again."""

    def __init__(self, scores, suggestions=((HAT,),)) -> None:
        self.scores = list(scores)
        self.suggestions = list(suggestions)
        self.asked = []

    def answer(self, command):
        self.asked.append(command)
        if isinstance(command, ReviewCommand):
            told = self.suggestions.pop(0) if len(self.suggestions) > 1 else self.suggestions[0]
            return ReviewedMessage(task_id=command.task_id, findings=Findings(reviewer="builtin", suggestions=told))
        assert isinstance(command, JudgeCommand)
        score = self.scores.pop(0) if len(self.scores) > 1 else self.scores[0]
        rows = tuple(score for _ in command.pictures)
        return JudgedMessage(task_id=command.task_id, scores=rows)


def scores(*prompts: float, similarity: float = 0.9) -> list[Scores]:
    return [Scores(prompt=prompt, aesthetic=0.5, similarity=similarity) for prompt in prompts]


def live(studio) -> list[str]:
    return [record.id for record in studio.records()]


def test_an_accepted_round_is_a_version_with_a_parent(open_studio):
    critic = Critic(scores(0.2, 0.5), [(HAT,), ()])
    studio = open_studio(FakePool(sight=critic.answer))
    done = studio.refine(PAINT)
    assert (done.state, len(done.rounds), done.rounds[0].accepted) == ("done", 1, True)
    assert done.best == done.rounds[0].after != done.first
    assert sorted(live(studio)) == sorted([done.first, done.best])
    best = studio.record(done.best)
    assert best.parent == done.first
    assert best.plan.seeds.seed == 7
    assert best.plan.kind == "inpaint"
    assert done.scores_best.prompt == 0.5


def test_a_rejected_round_leaves_no_version(open_studio):
    studio = open_studio(FakePool(sight=Critic(scores(0.5, 0.1)).answer))
    done = studio.refine(PAINT, RefineOptions(rounds=10))
    assert [one.way for one in done.rounds] == ["inpaint", "regions", "emphasis"]
    assert not any(one.accepted or one.after for one in done.rounds)
    assert "no gain" in done.rounds[0].verdict
    assert live(studio) == [done.first] == [done.best]
    assert "nothing improves" in done.note
    jobs = studio.jobs()
    assert sorted({job.user for job in jobs}) == ["local", REFINING]
    hidden = studio.records(include_deleted=True)
    assert len(hidden) == 4  # they can be restored until the undo window ends


def test_rounds_and_similarity_have_limits(open_studio):
    studio = open_studio(FakePool(sight=Critic(scores(0.2, 0.5, 0.6, 0.7, similarity=0.1)).answer))
    done = studio.refine(PAINT, RefineOptions(rounds=2))
    assert len(done.rounds) == 2
    assert all("too unlike" in one.verdict for one in done.rounds)
    assert "used up" in done.note
    loose = RefineOptions(rounds=2, rules=RefineRules(similarity_floor=0.0))
    studio2 = open_studio(FakePool(sight=Critic(scores(0.2, 0.5, 0.6, 0.7, similarity=0.1)).answer))
    assert [one.accepted for one in studio2.refine(PAINT, loose).rounds] == [True, True]


def test_it_stops_when_the_reviewer_is_content(open_studio):
    studio = open_studio(FakePool(sight=Critic(scores(0.9), [()]).answer))
    done = studio.refine(PAINT)
    assert done.rounds == ()
    assert live(studio) == [done.first]


def test_a_record_is_refined_by_its_own_words(open_studio):
    critic = Critic(scores(0.2, 0.5), [(HAT,), ()])
    studio = open_studio(FakePool(sight=critic.answer))
    first = studio.wait(studio.submit(PAINT).id).records[0]
    done = studio.refine(first)
    assert (done.first, done.brief) == (first, "a red apple")
    with pytest.raises(NotFoundError):
        studio.refine("01J00000000000000000000000")
    studio.delete_record(first)
    with pytest.raises(NotFoundError, match="deleted"):
        studio.refine(first)


def test_what_cannot_be_refined_is_told(open_studio):
    studio = open_studio(FakePool(sight=Critic(scores(0.2)).answer))
    with pytest.raises(InvalidRequestError, match="one picture at a time"):
        studio.refine(PAINT.model_copy(update={"count": 2}))
    with pytest.raises(InvalidRequestError, match="brief"):
        studio.refine(Txt2ImgRequest(prompt=""))
    with pytest.raises(InvalidRequestError, match="reviewer"):
        studio.refine(PAINT, RefineOptions(reviewer="nobody"))


def test_a_round_that_cannot_be_painted_is_rejected(open_studio):
    pool = FakePool(sight=Critic(scores(0.2, 0.5)).answer)
    studio = open_studio(pool)
    first = studio.wait(studio.submit(PAINT).id).records[0]
    pool.error = MissingWeightsError("no weights")
    done = studio.refine(first, RefineOptions(rounds=2))
    assert [one.accepted for one in done.rounds] == [False, False]
    assert "could not be painted: no weights" in done.rounds[0].verdict
    assert live(studio) == [first]


def test_it_can_be_stopped_in_the_middle_of_a_picture(open_studio):
    pool = FakePool(sight=Critic(scores(0.2, 0.5)).answer, delay_s=0.0)
    studio = open_studio(pool)
    first = studio.wait(studio.submit(PAINT).id).records[0]
    pool.delay_s, pool.steps = 0.1, 300
    stop = threading.Event()

    def stop_while_it_paints(told):
        if told.step == "painting":
            stop.set()

    started_s = time.monotonic()
    done = studio.refine(first, watch=Watch(report=stop_while_it_paints, stopped=stop.is_set))
    assert done.state == "cancelled"
    assert time.monotonic() - started_s < 20.0  # the picture would take 30 s
    assert stop.is_set()
    assert live(studio) == [first]


def test_in_a_thread_for_the_api(open_studio):
    studio = open_studio(FakePool(sight=Critic(scores(0.2, 0.5), [(HAT,), ()]).answer))
    begun = studio.start_refinement(RefineOrder(PAINT))
    assert begun.state == "running"
    deadline = time.monotonic() + 20
    while studio.refinement(begun.id).state == "running" and time.monotonic() < deadline:
        time.sleep(0.05)
    done = studio.refinement(begun.id)
    assert (done.state, len(done.rounds)) == ("done", 1)
    with pytest.raises(ConflictError):
        studio.cancel_refinement(begun.id)
    with pytest.raises(NotFoundError):
        studio.refinement("none")
    with pytest.raises(NotFoundError):
        studio.start_refinement(RefineOrder("01J00000000000000000000000", brief="x"))
    studio.pool.error = MissingWeightsError("no weights")
    failed = studio.start_refinement(RefineOrder(PAINT))
    while studio.refinement(failed.id).state == "running":
        time.sleep(0.02)
    told = studio.refinement(failed.id)
    assert (told.state, told.end, told.error["code"]) == ("failed", "failed", "missing_weights")


def test_accepted_pairs_become_a_training_set(open_studio, tmp_path: Path):
    studio = open_studio(FakePool(sight=Critic(scores(0.2, 0.5), [(HAT,), ()]).answer))
    done = studio.refine(PAINT)
    folder = tmp_path / "pairs"
    assert export_pairs([done], folder, studio) == 1
    assert export_pairs([done], folder, studio) == 0  # it is there already
    (line,) = (folder / "pairs.jsonl").read_text().splitlines()
    pair = json.loads(line)
    assert (pair["brief"], pair["way"], pair["suggestion"]["prompt"]) == ("a red apple", "inpaint", "a red apple")
    assert (pair["scores_before"]["prompt"], pair["scores_after"]["prompt"]) == (0.2, 0.5)
    assert pair["after_request"]["kind"] == "inpaint"
    for name in ("before", "after"):
        with Image.open(folder / pair[name]) as image:
            assert image.size == (32, 32)
            assert not image.info.get("parameters")


def test_reviews_need_a_reviewer_that_is_there(open_studio):
    critic = Critic(scores(0.2))
    studio = open_studio(FakePool(sight=critic.answer))
    assert studio.review_by_model(picture(), "a cat").suggestions == (HAT,)
    assert critic.asked[-1].brief == "a cat"
    with pytest.raises(UnsupportedError, match="no vision endpoint"):
        studio.review_by_model(picture(), "a cat", reviewer="openai")
    with pytest.raises(InvalidRequestError, match="needs a brief"):
        studio.review_by_model(picture())
    with pytest.raises(NotFoundError):
        studio.review_by_model("record:none", "a cat")
    with pytest.raises(InvalidRequestError, match="names no picture"):
        studio.review_by_model("http://x", "a cat")


def test_suggestions_become_requests_the_most_local_first():
    record = make_record(make_job(), width_px=32, height_px=32)
    easel = Easel((), lambda _: "sha256:" + "0" * 64)
    small = attempts(record, HAT, "a red apple", easel)
    assert [one.way for one in small] == ["inpaint", "regions", "emphasis"]
    assert isinstance(small[0].request, InpaintRequest)
    assert small[1].request.regions[0].box == BOX
    assert small[1].request.regions[0].prompt == "(a red apple:1.3)"
    assert all(one.request.seed == 1 and one.request.parent == record.id for one in small)
    large = HAT.model_copy(update={"box": BoxPx(left_px=0, top_px=0, right_px=30, bottom_px=30)})
    assert [one.way for one in attempts(record, large, "a red apple", easel)] == ["regions", "inpaint", "emphasis"]
    whole = Suggestion(prompt="warm light")
    ways = attempts(record, whole, "a red apple", easel)
    assert [one.way for one in ways] == ["emphasis", "img2img"]
    assert ways[0].request.prompt == "a red apple, (warm light:1.3)"
    (fault,) = attempts(record, Suggestion(prompt="a red apple"), "a red apple", easel)
    assert isinstance(fault.request, Img2ImgRequest)
    assert fault.request.strength < 0.5
    edited = record.model_copy(update={"plan": record.plan.model_copy(update={"kind": "drag"})})
    assert {one.way for one in attempts(edited, HAT, "a red apple", easel)} <= {"inpaint"}


def test_words_are_weighted_once():
    assert emphasise("a (red apple:1.2), 3d", "red apple") == "a (red apple:1.2), 3d, (red apple:1.3)"
    assert emphasise("", "a (b)") == "(a  b :1.3)".replace(" :", ":")
    mask = Image.open(io.BytesIO(mask_png(BOX, 32, 24)))
    assert mask.size == (32, 24)
    assert mask.getbbox() == BOX.as_tuple()
