"""Projects, shares and reviews: one suite holds the database and the fake to the same behaviour."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from studio_helpers import make_job, make_record

from danqing.spec.errors import ConflictError, InvalidRequestError, NotFoundError
from danqing.spec.geometry import BoxPx
from danqing.spec.project import Brief, Project
from danqing.spec.record import Record
from danqing.spec.review import Review, Suggestion
from danqing.spec.share import Share, Shown
from danqing.store import projects_base
from danqing.store.base import Store, Upload
from danqing.store.database import Database
from danqing.store.fake import FakeStore
from danqing.store.ids import new_id
from danqing.store.owners import Owner
from danqing.store.projects_base import Counts, ProjectQuery, ReviewQuery, Secrets, Sent, Tie
from danqing.store.sql import SqlStore

ME = Owner.of_this_process()
BOX = BoxPx(left_px=4, top_px=4, right_px=20, bottom_px=20)


def now() -> datetime:
    return datetime.now(UTC)


def open_sql(path: Path) -> SqlStore:
    database = Database(None, path / "danqing.db")
    database.migrate()
    return SqlStore(database)


@pytest.fixture(params=["sql", "fake"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    store = open_sql(tmp_path) if request.param == "sql" else FakeStore()
    store.beat(ME.beating())
    yield store
    store.close()


def project(store: Store, name: str = "Tea house", **changes: object) -> Project:
    made = Project(id=new_id(), name=name, created_at=now(), updated_at=now(), **changes)
    store.projects.add_project(made)
    return made


def painted(store: Store, tie: Tie | None = None, **changes: object) -> Record:
    job = make_job()
    store.add_job(job, ME.id, tie)
    store.move_job(job.id, "running")
    return store.add_record(make_record(job, **changes), ME.id)


def share(store: Store, of: Project, *records: Record, key: str = "t", **changes: object) -> Share:
    made = Share(
        id=new_id(),
        project=of.id,
        name="Drafts",
        records=tuple(one.id for one in records),
        created_at=now(),
        **changes,
    )
    return store.projects.add_share(made, Secrets(key))


def review(store: Store, of: Project, record: Record, *said: str, key: str = "key-0001", **changes: object) -> Review:
    made = Review(
        record_id=record.id,
        project=of.id,
        reviewer="Mei",
        suggestions=tuple(Suggestion(box=BOX, prompt=words) for words in said),
        **changes,
    )
    return store.projects.add_review(made, Sent(key, "print"))[0]


def kinds(store: Store) -> list[str]:
    return [event.kind for event in store.projects.events(0)]


def test_a_project_comes_back_as_it_was(store: Store):
    brief = Brief(words="春天的茶馆", palette=("#c8372d",), do=("leave room",), dont=("no people",))
    made = project(store, brief=brief, user="mei")
    assert store.projects.project(made.id) == made
    changed = store.projects.change_project(made.id, {"name": "New", "brief": Brief(words="x"), "current": "R"})
    assert (changed.name, changed.brief.words, changed.current) == ("New", "x", "R")
    assert changed.updated_at > made.updated_at
    assert store.projects.project(made.id) == changed
    with pytest.raises(InvalidRequestError, match="user"):
        store.projects.change_project(made.id, {"user": "somebody"})


def test_projects_are_searched_and_paged(store: Store):
    tea, coffee = project(store), project(store, "Coffee", brief=Brief(words="Ein Café für alle"))
    assert store.projects.projects(ProjectQuery()) == [coffee, tea]
    assert store.projects.projects(ProjectQuery(search="CAFÉ ein")) == [coffee]
    assert store.projects.projects(ProjectQuery(before=coffee.id)) == [tea]
    assert store.projects.projects(ProjectQuery(limit=1)) == [coffee]
    assert store.projects.projects(ProjectQuery(search="100%")) == []
    store.projects.change_project(tea.id, {"archived_at": now()})
    store.projects.change_project(coffee.id, {"archived_at": now(), "deleted_at": now()})
    assert store.projects.projects(ProjectQuery()) == []
    assert [one.id for one in store.projects.projects(ProjectQuery(state="archived"))] == [tea.id]
    assert [one.id for one in store.projects.projects(ProjectQuery(state="deleted"))] == [coffee.id]


def test_what_is_not_there(store: Store):
    made, record = project(store), painted(store)
    projects = store.projects
    for call in (
        lambda: projects.project("no"),
        lambda: projects.change_project("no", {"name": "x"}),
        lambda: projects.put_items("no", [record.id]),
        lambda: projects.put_items(made.id, [record.id, "no"]),
        lambda: projects.change_item(made.id, record.id, {"note": "x"}),
        lambda: projects.share("no"),
        lambda: share(store, made, record),  # not in the project
        lambda: projects.show("no", [record.id]),
        lambda: projects.hide("no", record.id),
        lambda: projects.take_guess("no", now(), limit=1, window_s=1),
        lambda: projects.review("no"),
        lambda: projects.suggestion("no"),
        lambda: projects.set_suggestion("no", "dismissed"),
        lambda: store.add_job(make_job(), ME.id, Tie("no")),
        lambda: store.add_job(make_job(), ME.id, Tie(made.id, "no")),
    ):
        with pytest.raises(NotFoundError):
            call()
    assert projects.items(made.id) == []  # all or none
    assert projects.open_share("no", now()) is None
    assert projects.tie("no") is None
    assert projects.counts([made.id]) == {made.id: Counts()}


def test_items_join_once_and_come_back_with_their_labels(store: Store):
    made, first, second = project(store), painted(store), painted(store, width_px=64)
    items = store.projects.put_items(made.id, [second.id, first.id, first.id])
    assert [item.record for item in items] == [second.id, first.id]
    store.projects.change_item(made.id, first.id, {"labels": ("hero", "红"), "note": "n", "starred": True})
    assert store.projects.put_items(made.id, [first.id])[0].labels == ("hero", "红")
    assert [item.record for item in store.projects.items(made.id)] == [first.id, second.id]
    assert store.projects.item_records(made.id) == [first, second]
    gone = store.projects.change_item(made.id, first.id, {"removed_at": now()})
    assert gone.removed_at is not None
    assert [item.record for item in store.projects.items(made.id)] == [second.id]
    with pytest.raises(NotFoundError):
        store.projects.change_item(made.id, first.id, {"note": "x"})
    back = store.projects.put_items(made.id, [first.id])[0]
    assert (back.labels, back.note, back.starred, back.removed_at) == (("hero", "红"), "n", True, None)
    assert kinds(store) == ["version", "version", "project", "removed", "version"]


def test_records_in_the_bin_are_left_out_and_purged_ones_forgotten(store: Store):
    made, first, second = project(store), painted(store), painted(store)
    store.projects.put_items(made.id, [first.id, second.id])
    link = share(store, made, first, second)
    store.delete_record(first.id, now())
    assert [item.record for item in store.projects.items(made.id)] == [second.id]
    assert store.projects.share(link.id).records == (second.id,)
    assert store.projects.counts([made.id])[made.id].versions == 1
    with pytest.raises(NotFoundError):
        store.projects.put_items(made.id, [first.id])
    store.delete_record(first.id, None)
    assert store.projects.share(link.id).records == (first.id, second.id)
    store.delete_record(first.id, now())
    store.purge(now() + timedelta(seconds=1))
    assert store.projects.item_records(made.id) == [second]
    assert store.projects.share(link.id).records == (second.id,)


def test_a_tied_job_joins_its_project(store: Store):
    made = project(store)
    record = painted(store, Tie(made.id))
    assert store.projects.item_records(made.id) == [record]
    assert store.projects.tie(record.job_id) == Tie(made.id)
    again = store.add_record(record, ME.id)  # a second worker brings the same picture
    assert again == record
    assert kinds(store) == ["version"]


def test_a_refused_tie_leaves_no_job(store: Store):
    job = make_job()
    with pytest.raises(NotFoundError):
        store.add_job(job, ME.id, Tie("no"))
    with pytest.raises(NotFoundError):
        store.job(job.id)


def test_shares_open_by_their_token_while_they_may(store: Store):
    made, record = project(store), painted(store)
    store.projects.put_items(made.id, [record.id])
    link = share(store, made, record, shown=Shown(prompts=True), language="zh-Hant", follow=True)
    opened = store.projects.open_share("t", now())
    assert opened is not None
    assert opened.share == link == store.projects.share(link.id)
    assert opened.secrets == Secrets("t")
    ends = now() + timedelta(hours=1)
    store.projects.change_share(link.id, {"expires_at": ends, "password_hash": "h", "name": "New"})
    opened = store.projects.open_share("t", now())
    assert opened is not None
    assert (opened.share.has_password, opened.secrets.password_hash, opened.share.name) == (True, "h", "New")
    assert store.projects.open_share("t", ends) is None
    store.projects.change_share(link.id, {"expires_at": None, "token_hash": "u", "shown": Shown()})
    assert store.projects.open_share("t", now()) is None
    for field in ("archived_at", "deleted_at"):
        store.projects.change_project(made.id, {field: now()})
        assert store.projects.open_share("u", now()) is None
        store.projects.change_project(made.id, {field: None})
    assert store.projects.open_share("u", now()) is not None
    store.projects.change_share(link.id, {"revoked_at": now()})
    assert store.projects.open_share("u", now()) is None
    with pytest.raises(InvalidRequestError):
        store.projects.change_share(link.id, {"project": "other"})


def test_a_share_shows_what_was_chosen(store: Store):
    made, other = project(store), project(store)
    first, second, foreign = painted(store), painted(store), painted(store)
    store.projects.put_items(made.id, [first.id, second.id])
    store.projects.put_items(other.id, [foreign.id])
    link = share(store, made, second)
    assert store.projects.show(link.id, [first.id, second.id]).records == (second.id, first.id)
    assert [record for record, _ in store.projects.shown_records(link.id)] == [second, first]
    with pytest.raises(NotFoundError):
        store.projects.show(link.id, [foreign.id])
    assert store.projects.hide(link.id, second.id).records == (first.id,)
    assert store.projects.hide(link.id, second.id).records == (first.id,)
    store.projects.change_item(made.id, first.id, {"removed_at": now()})
    assert store.projects.share(link.id).records == ()
    assert store.projects.shares(made.id) == [store.projects.share(link.id)]
    assert store.projects.shares(other.id) == []


def test_a_following_share_shows_new_versions_of_what_it_shows(store: Store):
    made = project(store)
    first, hidden = painted(store, Tie(made.id)), painted(store, Tie(made.id))
    follows = share(store, made, first, key="a", follow=True)
    still = share(store, made, first, key="b")
    child = painted(store, Tie(made.id), parent=first.id)
    draft = painted(store, parent=child.id)  # in no project
    grandchild = painted(store, Tie(made.id), parent=draft.id)
    painted(store, Tie(made.id), parent=hidden.id)
    assert store.projects.share(follows.id).records == (first.id, child.id, grandchild.id)
    assert store.projects.share(still.id).records == (first.id,)


def test_a_share_is_full_at_some_point(store: Store, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(projects_base, "MAX_SHARED", 1)
    made, first, second = project(store), painted(store), painted(store)
    store.projects.put_items(made.id, [first.id, second.id])
    link = share(store, made, first)
    with pytest.raises(ConflictError, match="too many versions"):
        store.projects.show(link.id, [second.id])
    assert store.projects.share(link.id).records == (first.id,)


def test_guesses_are_counted_and_forgotten(store: Store):
    made = project(store)
    link, moment = share(store, made), now()
    ask = [store.projects.take_guess(link.id, moment, limit=3, window_s=60) for _ in range(4)]
    assert ask == [0, 0, 0, 60]
    later = moment + timedelta(seconds=60)
    assert store.projects.take_guess(link.id, later, limit=3, window_s=60) == 0
    store.projects.take_guess(link.id, later, limit=1, window_s=60)
    store.projects.forget_guesses(link.id)
    assert store.projects.take_guess(link.id, later, limit=1, window_s=60) == 0
    assert store.projects.take_guess(link.id, later, limit=1, window_s=60) == 60
    store.projects.change_share(link.id, {"password_hash": "new"})
    assert store.projects.take_guess(link.id, later, limit=1, window_s=60) == 0


def test_reviews_come_back_as_they_were(store: Store):
    made, record = project(store), painted(store)
    store.projects.put_items(made.id, [record.id])
    link = share(store, made, record)
    lasso = ((0, 0), (9, 0), (5, 9))
    said = Suggestion(lasso=lasso, prompt="绿色", reason="r", strength=0.8, language="zh-Hans")
    sent = Review(
        record_id=record.id,
        project=made.id,
        share=link.id,
        reviewer="梅",
        suggestions=(said, Suggestion(prompt="all of it")),
        picked=True,
        approved=True,
        note="好",
        language="zh-Hans",
    )
    kept, fresh = store.projects.add_review(sent, Sent("key", "print"))
    assert fresh
    assert kept.suggestions[0].lasso == lasso
    plain = [one.model_copy(update={"id": ""}) for one in kept.suggestions]
    assert kept.model_copy(update={"id": "", "created_at": None, "suggestions": tuple(plain)}) == sent
    assert kept.created_at is not None
    assert store.projects.review(kept.id) == kept
    assert store.projects.suggestion(kept.suggestions[1].id) == (kept, kept.suggestions[1])
    event = store.projects.events(0, project_id=made.id)[-1]
    assert (event.kind, event.share, event.record, event.review) == ("review", link.id, record.id, kept.id)


def test_a_repeated_review_is_kept_once(store: Store):
    made, record = project(store), painted(store)
    first = review(store, made, record, "green")
    assert review(store, made, record, "green") == first
    again, fresh = store.projects.add_review(first, Sent("key-0001", "print"))
    assert (again, fresh) == (first, False)
    with pytest.raises(ConflictError, match="other contents"):
        store.projects.add_review(first, Sent("key-0001", "another print"))
    assert review(store, made, record, source="model").id != first.id  # the key of another kind of reviewer
    assert len(store.projects.reviews(ReviewQuery(project=made.id))) == 2
    assert kinds(store).count("review") == 2


def test_the_same_review_from_many_threads_is_kept_once(store: Store):
    made, record = project(store), painted(store)
    with ThreadPoolExecutor(8) as threads:
        kept = list(threads.map(lambda n: review(store, made, record, "x", key=f"key-{n % 4}"), range(32)))
    assert len({one.id for one in kept}) == 4
    assert len(store.projects.reviews(ReviewQuery())) == 4


def test_reviews_are_found(store: Store):
    made, other = project(store), project(store)
    first, second = painted(store, Tie(made.id)), painted(store, Tie(made.id))
    link = share(store, made, first)
    one = review(store, made, first, "a", key="k1", share=link.id)
    two = review(store, made, second, key="k2")
    three = review(store, other, second, "b", key="k3")
    found = store.projects.reviews
    assert found(ReviewQuery()) == [three, two, one]
    assert found(ReviewQuery(project=made.id)) == [two, one]
    assert found(ReviewQuery(share=link.id)) == [one]
    assert found(ReviewQuery(record=second.id, before=three.id)) == [two]
    assert found(ReviewQuery(limit=1)) == [three]
    store.projects.set_suggestion(one.suggestions[0].id, "dismissed")
    assert [review.id for review in found(ReviewQuery(state="dismissed"))] == [one.id]
    assert found(ReviewQuery(state="open")) == [three]
    assert store.projects.counts([made.id])[made.id] == Counts(2, 2, 0, 1, second.id)


def test_a_suggestion_is_carried_out_once_and_its_results_join(store: Store):
    made = project(store)
    record = painted(store, Tie(made.id))
    link = share(store, made, record)
    said = review(store, made, record, "green", share=link.id).suggestions[0]
    tie = Tie(made.id, said.id)
    job = make_job()
    store.add_job(job, ME.id, tie)
    _, claimed = store.projects.suggestion(said.id)
    assert (claimed.state, claimed.job, claimed.results) == ("applied", job.id, ())
    late = make_job()
    with pytest.raises(ConflictError, match="applied already"):
        store.add_job(late, ME.id, tie)
    with pytest.raises(NotFoundError):
        store.job(late.id)
    store.move_job(job.id, "failed")
    result = painted(store, tie, parent=record.id)
    _, done = store.projects.suggestion(said.id)
    assert (done.job, done.results) == (result.job_id, (result.id,))
    assert store.projects.share(link.id).records == (record.id, result.id)
    assert [item.record for item in store.projects.items(made.id)] == [record.id, result.id]
    opened = store.projects.set_suggestion(said.id, "open")
    assert (opened.state, opened.job, opened.results) == ("open", None, ())
    quiet = painted(store, Tie(made.id, said.id, show=False), parent=record.id)
    assert quiet.id not in store.projects.share(link.id).records
    assert "suggestion" in kinds(store)


def test_a_deleted_project_is_purged_with_all_that_is_its_own(store: Store):
    made, kept = project(store), project(store)
    record = painted(store, Tie(made.id))
    link = share(store, made, record)
    said = review(store, made, record, "x", share=link.id)
    store.projects.change_project(made.id, {"deleted_at": now()})
    assert store.projects.purge_projects(now() - timedelta(seconds=9)) == []
    assert store.projects.purge_projects(now() + timedelta(seconds=9)) == [made.id]
    for call in (
        lambda: store.projects.project(made.id),
        lambda: store.projects.share(link.id),
        lambda: store.projects.review(said.id),
    ):
        with pytest.raises(NotFoundError):
            call()
    assert store.projects.open_share("t", now()) is None
    assert store.projects.events(0) == []
    assert store.record(record.id) == record
    assert store.projects.project(kept.id) == kept
    assert review(store, kept, record).project == kept.id  # the key is free again


def test_events_are_numbered_on_and_on(store: Store):
    assert store.projects.last_event() == 0
    made, other = project(store), project(store)
    for one in (made, other, made):
        store.projects.change_project(one.id, {"name": "n"})
    numbers = [event.number for event in store.projects.events(0)]
    assert numbers == sorted(set(numbers))
    assert store.projects.last_event() == numbers[-1]
    assert [event.number for event in store.projects.events(0, project_id=made.id)] == [numbers[0], numbers[2]]
    assert [event.number for event in store.projects.events(numbers[0], limit=1)] == [numbers[1]]


def test_pictures_that_a_brief_names_are_in_use(store: Store):
    sha256 = "ef" * 32
    store.add_upload(Upload(sha256, 8, 8, "image/png"))
    record = painted(store, picture="cd" * 32)
    project(store, brief=Brief(references=(f"sha256:{sha256}", f"sha256:{record.picture}")))
    assert store.sweep_uploads(now() + timedelta(days=2)) == []
    store.delete_record(record.id, now())
    assert store.purge(now() + timedelta(seconds=1)) == []


def test_two_processes_share_one_database(tmp_path: Path):
    first, second = open_sql(tmp_path), open_sql(tmp_path)
    made = project(first)
    first.beat(ME.beating())
    record = painted(first, Tie(made.id))
    with ThreadPoolExecutor(4) as threads:
        both = [(first, second)[n % 2] for n in range(24)]
        kept = list(threads.map(lambda pair: review(pair[1], made, record, key=f"key-{pair[0] // 2}"), enumerate(both)))
    assert len({one.id for one in kept}) == 12
    numbers = [event.number for event in second.projects.events(0)]
    assert len(numbers) == 13
    for one in (first, second):
        one.close()
