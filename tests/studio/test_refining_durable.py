"""Refinements are rows: they survive their process, are stopped from another one, and go on from the best version."""

from __future__ import annotations

import io
import json
import threading
import time
import zipfile

import pytest
from test_refining import HAT, PAINT, Critic, scores

from danqing.spec.errors import ConflictError, InvalidRequestError, NotFoundError
from danqing.spec.project import Brief
from danqing.spec.refine import Refinement, RefineOptions
from danqing.store.projects_base import Tie
from danqing.store.refinements import RefinementQuery
from danqing.studio.refiner import REFINING
from danqing.studio.refining import RefineOrder
from danqing.workers.pool import FakePool
from danqing.workers.protocol import ReviewCommand


class Held(Critic):
    """A critic who gives no review while `gate` is closed."""

    def __init__(self, *args) -> None:
        super().__init__(*args)
        self.gate = threading.Event()

    def answer(self, command):
        if isinstance(command, ReviewCommand):
            assert self.gate.wait(20)
        return super().answer(command)


def ended(studio, refinement_id: str, *states: str) -> Refinement:
    until = time.monotonic() + 20
    while time.monotonic() < until:
        found = studio.refinement(refinement_id)
        if found.state in (states or ("done", "failed", "cancelled", "interrupted")):
            return found
        time.sleep(0.01)
    raise AssertionError(found)


def version(studio, words=""):
    project = studio.create_project("Hats", Brief(words=words))
    record = studio.wait(studio.submit(PAINT, tie=Tie(project.id)).id).records[0]
    return project, record


def accepted(refinement: Refinement) -> list[str]:
    return [one.after for one in refinement.rounds if one.accepted]


def test_accepted_rounds_join_the_project_and_are_listed(open_studio):
    critic = Critic(scores(0.2, 0.5), [(HAT,), ()])
    studio = open_studio(FakePool(sight=critic.answer))
    project, record = version(studio, "a cat in a hat")
    begun = studio.start_refinement(RefineOrder(record, RefineOptions(rounds=3), project=project.id))
    done = ended(studio, begun.id)
    assert (done.brief, done.end, done.left) == ("a cat in a hat", "content", 2)
    (kept,) = accepted(done)
    versions = {one.record: one.parent for one in studio.version_tree(project.id).versions}
    assert versions == {record: None, kept: record}
    assert studio.refinements(RefinementQuery(project=project.id)) == [done]
    assert studio.refinements(RefinementQuery(before=done.id)) == []
    kinds = {event.kind for event in studio._projects.events(0, project_id=project.id)}
    assert {"refinement", "version"} <= kinds
    packed = b"".join(studio.export_pairs(project.id).chunks)
    archive = zipfile.ZipFile(io.BytesIO(packed))
    (pair,) = map(json.loads, archive.read("hats-pairs/pairs.jsonl").decode().splitlines())
    assert (pair["before_record"], pair["after_record"]) == (record, kept)
    assert archive.read(f"hats-pairs/{pair['after']}").startswith(b"\x89PNG")
    with pytest.raises(NotFoundError):
        studio.start_refinement(RefineOrder(record, project="none"))
    other = studio.create_project("Other")
    with pytest.raises(NotFoundError, match="no version"):
        studio.start_refinement(RefineOrder(record, project=other.id))
    with pytest.raises(InvalidRequestError, match="one picture"):
        studio.start_refinement(RefineOrder(PAINT.model_copy(update={"count": 2})))


def test_a_refinement_whose_process_ended_is_interrupted_and_goes_on(open_studio):
    critic = Held(scores(0.2, 0.5), [(HAT,), ()])
    critic.gate.set()
    pool = FakePool(sight=critic.answer)
    studio = open_studio(pool)
    project, record = version(studio)
    pool.delay_s, pool.steps = 0.05, 600  # its first round is being painted when the studio closes
    begun = studio.start_refinement(RefineOrder(record, RefineOptions(rounds=3), project=project.id))
    while studio.refinement(begun.id).job is None:
        time.sleep(0.01)
    job = studio.refinement(begun.id).job
    studio.close()

    again = open_studio(FakePool(sight=Critic(scores(0.2, 0.5), [(HAT,), ()]).answer), eager=True)
    there = again.refinement(begun.id)
    assert (there.state, there.end, there.job) == ("interrupted", "interrupted", None)
    assert again.job(job).state == "cancelled"  # nobody paints a round that nobody judges
    assert [one.id for one in again.records()] == [record]
    more = again.continue_refinement(begun.id)
    done = ended(again, more.id)
    assert (done.continues, done.brief, done.first, len(accepted(done))) == (begun.id, there.brief, record, 1)
    assert again.refinement(begun.id).continued_by == more.id
    with pytest.raises(ConflictError, match="goes on"):
        again.continue_refinement(begun.id)


def test_what_a_crash_cut_off_between_verdict_and_version_is_made_good(open_studio):
    studio = open_studio(FakePool(sight=Critic(scores(0.2, 0.5), [(HAT,), ()]).answer))
    project, record = version(studio)
    done = ended(studio, studio.start_refinement(RefineOrder(record, project=project.id)).id)
    (kept,) = accepted(done)
    rejected = studio.wait(studio.submit(PAINT, user=REFINING).id)
    studio.remove_from_project(project.id, kept)
    studio.delete_record(kept)  # the verdict is written, the version is not restored yet
    lost = done.model_copy(update={"id": "0lost", "state": "running", "job": rejected.id, "end": None})
    studio._store.refinements.add(lost, "an owner that has gone")
    waiting = studio._store
    studio._settle_refinements(waiting)
    assert studio.refinement("0lost").state == "interrupted"
    assert studio.record(kept).deleted_at is None
    assert kept in {one.record for one in studio.version_tree(project.id).versions}
    assert studio.record(rejected.records[0]).deleted_at is not None
    studio._settle_refinements(waiting)  # nothing is left to do


def test_it_is_stopped_while_the_reviewer_thinks_also_from_another_process(open_studio):
    critic = Held(scores(0.2, 0.5), [(HAT,), ()])
    studio = open_studio(FakePool(sight=critic.answer))
    _, record = version(studio)
    for from_elsewhere in (False, True):
        begun = studio.start_refinement(RefineOrder(record))
        started_s = time.monotonic()
        if from_elsewhere:
            studio._store.refinements.change(begun.id, stopping=True)
        else:
            assert studio.cancel_refinement(begun.id).id == begun.id
        assert ended(studio, begun.id).end == "cancelled"
        assert time.monotonic() - started_s < 15.0  # the reviewer thinks for 20 s
    with pytest.raises(ConflictError, match="has ended"):
        studio.cancel_refinement(begun.id)
    critic.gate.set()


def test_a_refinement_that_another_process_took_writes_nothing_more(open_studio):
    critic = Held(scores(0.2, 0.5), [(HAT,), ()])
    studio = open_studio(FakePool(sight=critic.answer))
    _, record = version(studio)
    begun = studio.start_refinement(RefineOrder(record))
    rows = studio._store.refinements
    taken = begun.model_copy(update={"state": "interrupted"})
    rows.save(taken, studio._owner.id)
    critic.gate.set()
    with pytest.raises(ConflictError, match="took it over"):
        rows.save(begun, studio._owner.id)
    for _, thread in studio._refinements._live.values():
        thread.join(10)
    assert studio.refinement(begun.id).state == "interrupted"
    assert [one.id for one in studio.records()] == [record]
