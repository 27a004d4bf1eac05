"""Asking models for reviews of versions: what comes of it, what fails, what is left."""

from __future__ import annotations

import threading
import time

import pytest
from studio_helpers import picture
from test_refining import HAT, PAINT

from danqing.review.findings import Findings
from danqing.spec.errors import ConflictError, InvalidRequestError, NotFoundError, WorkerError
from danqing.spec.model_review import ModelReviewOrder
from danqing.spec.project import Brief
from danqing.store.projects_base import ReviewQuery, Tie
from danqing.workers.pool import FakePool
from danqing.workers.protocol import ReviewedMessage


class Eye:
    """Gives findings once the gate is open; `error` instead, if there is one."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.error = None
        self.findings = Findings(reviewer="builtin", suggestions=(HAT,), model="ab" * 32, note="a chance of 0.1")
        self.asked = []

    def answer(self, command):
        self.asked.append(command)
        assert self.gate.wait(20)
        if self.error is not None:
            raise self.error
        return ReviewedMessage(task_id=command.task_id, findings=self.findings)


@pytest.fixture
def eye():
    return Eye()


@pytest.fixture
def studio(open_studio, eye):
    return open_studio(FakePool(sight=eye.answer))


def version(studio, words=""):
    project = studio.create_project("Hats", Brief(words=words))
    record = studio.wait(studio.submit(PAINT, tie=Tie(project.id)).id).records[0]
    return project.id, record


def ended(studio, project_id):
    until = time.monotonic() + 20
    while (asked := studio.model_reviews(project_id)[0]).state == "running" and time.monotonic() < until:
        time.sleep(0.01)
    return asked


def reviews(studio, project_id):
    return studio.reviews(ReviewQuery(project=project_id))


def test_the_answer_becomes_a_review(studio, eye):
    project, record = version(studio)
    begun = studio.ask_for_review(project, ModelReviewOrder(record=record))
    asked = ended(studio, project)
    (review,) = reviews(studio, project)
    assert (asked.id, asked.state, asked.review) == (begun.id, "done", review.id)
    assert (review.source, review.reviewer, review.record_id, review.share) == ("builtin", "Danqing", record, None)
    assert (review.suggestions[0].prompt, review.suggestions[0].box) == (HAT.prompt, HAT.box)
    assert review.note == "a chance of 0.1"
    assert eye.asked[-1].brief == PAINT.prompt  # the project has no words
    assert studio.draft(review.suggestions[0].id).kind == "inpaint"
    with pytest.raises(ConflictError):
        studio.cancel_model_review(begun.id)


def test_the_words_are_those_of_the_brief(studio, eye):
    project, record = version(studio, words="a tea house")
    for brief, told in ((None, "a tea house"), ("rain", "rain")):
        studio.ask_for_review(project, ModelReviewOrder(record=record, brief=brief))
        ended(studio, project)
        assert eye.asked[-1].brief == told


def test_a_failure_is_told_and_leaves_no_review(studio, eye):
    project, record = version(studio)
    eye.error = WorkerError("the worker stopped", next_step="try again")
    studio.ask_for_review(project, ModelReviewOrder(record=record))
    asked = ended(studio, project)
    assert (asked.state, asked.error["code"], asked.error["message"]) == ("failed", "worker", "the worker stopped")
    assert reviews(studio, project) == []


def test_what_comes_after_cancelling_is_dropped(studio, eye):
    project, record = version(studio)
    eye.gate.clear()
    begun = studio.ask_for_review(project, ModelReviewOrder(record=record))
    assert studio.cancel_model_review(begun.id).state == "cancelled"
    threads = [thread for thread in threading.enumerate() if thread.name == f"review-{begun.id}"]
    eye.gate.set()
    for thread in threads:
        thread.join(10)
    assert ended(studio, project).state == "cancelled"
    assert reviews(studio, project) == []


def test_what_cannot_be_asked(studio, eye):
    project, record = version(studio)
    order = ModelReviewOrder(record=record)
    with pytest.raises(NotFoundError):
        studio.ask_for_review("none", order)
    outside = studio.upload(picture()).sha256
    with pytest.raises(NotFoundError, match="no version"):
        studio.ask_for_review(project, ModelReviewOrder(record=outside))
    with pytest.raises(InvalidRequestError, match="reviewer"):
        studio.ask_for_review(project, ModelReviewOrder(record=record, reviewer="nobody"))
    with pytest.raises(NotFoundError):
        studio.cancel_model_review("none")
    eye.gate.clear()
    for _ in range(4):
        studio.ask_for_review(project, order)
    with pytest.raises(ConflictError, match="too many"):
        studio.ask_for_review(project, order)
    eye.gate.set()


def test_reviewers_say_what_they_lack_and_never_the_key(open_studio, tmp_path):
    studio = open_studio(start=False)
    builtin, openai, qwen = studio.reviewers()
    assert (builtin.key, builtin.available) == ("builtin", True)
    assert (openai.available, openai.lacks) == (False, ("review_url", "review_model"))
    assert "DANQING_REVIEW_URL" in openai.next_step
    assert (qwen.available, qwen.lacks) == (False, ("weights",))
    assert "VLM" in qwen.next_step
    told = {"review_url": "http://127.0.0.1:9/v1", "review_model": "qwen-vl", "review_key": "sk-secret"}
    folder = tmp_path / "models" / "VLM" / "mine"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text('{"model_type": "qwen2_vl"}')
    (folder / "model.safetensors").write_bytes(b"")
    _, openai, qwen = open_studio(start=False, **told).reviewers()
    assert (openai.available, openai.model, openai.where) == (True, "qwen-vl", "http://127.0.0.1:9/v1")
    assert "secret" not in openai.model_dump_json()
    assert (qwen.available, qwen.model) == (True, "mine")
