"""Refinements in the database and in memory: one suite for both."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from danqing.spec.errors import ConflictError, NotFoundError
from danqing.spec.painting import Txt2ImgRequest
from danqing.spec.project import Project
from danqing.spec.refine import Refinement
from danqing.store.base import Store
from danqing.store.database import Database
from danqing.store.fake import FakeStore
from danqing.store.ids import new_id
from danqing.store.owners import Owner, utc_now
from danqing.store.refinements import RefinementQuery
from danqing.store.sql import SqlStore

ME = Owner.of_this_process()
DEAD = replace(Owner.of_this_process(), pid=2**22 + 1)


@pytest.fixture(params=["sql", "fake"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    if request.param == "sql":
        database = Database(None, tmp_path / "danqing.db")
        database.migrate()
        opened: Store = SqlStore(database)
    else:
        opened = FakeStore()
    opened.beat(ME.beating())
    yield opened
    opened.close()


def project(store: Store) -> str:
    moment = utc_now()
    made = Project(id=new_id(), name="Hats", created_at=moment, updated_at=moment)
    store.projects.add_project(made)
    return made.id


def begun(**changes: object) -> Refinement:
    request = Txt2ImgRequest(prompt="a cat", seed=2**63)
    return Refinement(id=new_id(), brief="a cat", reviewer="builtin", request=request, **changes)


def test_it_comes_back_as_it_was_and_tells_its_project(store: Store):
    home = project(store)
    rows = store.refinements
    one, other = rows.add(begun(project=home), ME.id), rows.add(begun(), ME.id)
    assert one.created_at is not None
    assert rows.get(one.id) == one
    saved = rows.save(one.model_copy(update={"best": "01", "step": "judging"}), ME.id)
    assert rows.get(one.id) == saved
    assert saved.updated_at >= one.created_at
    assert rows.newest(RefinementQuery()) == [other, saved]
    assert rows.newest(RefinementQuery(project=home)) == [saved]
    assert rows.newest(RefinementQuery(before=other.id, limit=1)) == [saved]
    told = [event.record for event in store.projects.events(0, project_id=home) if event.kind == "refinement"]
    assert told == [None, "01"]
    with pytest.raises(NotFoundError):
        rows.get("none")
    with pytest.raises(NotFoundError):
        rows.save(begun(), ME.id)
    with pytest.raises(NotFoundError):
        rows.change("none", stopping=True)


def test_only_its_owner_writes_and_only_while_it_runs(store: Store):
    rows = store.refinements
    one = rows.add(begun(), ME.id)
    assert rows.change(one.id, stopping=True).stopping
    assert rows.save(one, ME.id).stopping  # what others asked stays
    with pytest.raises(ConflictError):
        rows.save(one, "another")
    done = rows.save(one.model_copy(update={"state": "done"}), ME.id)
    assert not done.stopping
    with pytest.raises(ConflictError):
        rows.save(one, ME.id)
    assert rows.change(one.id, continued_by="next").continued_by == "next"


def test_those_of_dead_processes_are_found(store: Store):
    rows = store.refinements
    store.beat(DEAD.beating())
    mine, lost = rows.add(begun(), ME.id), rows.add(begun(), DEAD.id)
    rows.save(rows.add(begun(), DEAD.id).model_copy(update={"state": "done"}), DEAD.id)
    assert rows.orphans() == []  # nobody has looked yet
    store.reap(lease_s=60.0)
    assert rows.orphans() == [(lost, DEAD.id)]
    rows.save(lost.model_copy(update={"state": "interrupted"}), DEAD.id)
    assert rows.orphans() == []
    assert rows.get(mine.id).state == "running"
