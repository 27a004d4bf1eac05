"""Reviews and suggestions in a database."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from danqing.spec.review import Review, Suggestion, SuggestionState
from danqing.store.base import no_such
from danqing.store.database import Database
from danqing.store.ids import new_id
from danqing.store.owners import utc_now
from danqing.store.project_rows import review_of, review_scope, review_values, suggestion_of, suggestion_row
from danqing.store.projects_base import (
    MAX_SHARE_REVIEWS,
    ProjectsStore,
    ReviewQuery,
    Sent,
    key_taken,
    too_many,
)
from danqing.store.sql_ties import note, note_suggestion
from danqing.store.tables import ProjectRow, RecordRow, ReviewRow, SuggestionRow


class SqlReviews(ProjectsStore):
    """The part of the SQL store that is about reviews."""

    database: Database

    def add_review(self, review: Review, sent: Sent) -> tuple[Review, bool]:
        """See `ReviewStore.add_review`."""
        fresh = review.model_copy(update={"id": new_id(), "created_at": utc_now()})
        with self.database.write() as session:
            if review.project is None or session.get(ProjectRow, review.project) is None:
                raise no_such("project", str(review.project))
            if not self._insert(session, fresh, sent):
                there = session.scalars(
                    select(ReviewRow).where(ReviewRow.scope == review_scope(review), ReviewRow.key == sent.key)
                ).one()
                if there.fingerprint != sent.fingerprint:
                    raise key_taken(sent.key)
                return _with_suggestions(session, [there])[0], False
            _check_room(session, fresh.share)
            for place, suggestion in enumerate(review.suggestions):
                kept = suggestion.model_copy(update={"id": new_id(), "state": "open"})
                session.add(suggestion_row(kept, fresh.id, place))
            note(
                session,
                "review",
                review.project,
                share_id=review.share,
                record_id=review.record_id,
                review_id=fresh.id,
            )
            session.flush()
            return _with_suggestions(session, [session.get_one(ReviewRow, fresh.id)])[0], True

    def review(self, review_id: str) -> Review:
        """See `ReviewStore.review`."""
        with self.database.read() as session:
            row = session.get(ReviewRow, review_id)
            if row is None:
                raise no_such("review", review_id)
            return _with_suggestions(session, [row])[0]

    def reviews(self, query: ReviewQuery) -> list[Review]:
        """See `ReviewStore.reviews`."""
        found = select(ReviewRow).where(*_conditions(query)).order_by(ReviewRow.id.desc()).limit(query.limit)
        with self.database.read() as session:
            return _with_suggestions(session, session.scalars(found).all())

    def suggestion(self, suggestion_id: str) -> tuple[Review, Suggestion]:
        """See `ReviewStore.suggestion`."""
        with self.database.read() as session:
            row = session.get(SuggestionRow, suggestion_id)
            if row is None:
                raise no_such("suggestion", suggestion_id)
            review = _with_suggestions(session, [session.get_one(ReviewRow, row.review_id)])[0]
        return review, next(one for one in review.suggestions if one.id == suggestion_id)

    def set_suggestion(self, suggestion_id: str, state: SuggestionState) -> Suggestion:
        """See `ReviewStore.set_suggestion`."""
        with self.database.write() as session:
            row = session.get(SuggestionRow, suggestion_id, with_for_update=True)
            if row is None:
                raise no_such("suggestion", suggestion_id)
            row.state, row.job_id = state, None
            note_suggestion(session, row, session.get_one(ReviewRow, row.review_id).project_id)
            session.flush()
            return suggestion_of(row, ())

    def _insert(self, session: Session, review: Review, sent: Sent) -> bool:
        """Whether it was new. Two processes may send the same at once: the unique key decides."""
        insert = sqlite.insert if self.database.is_sqlite else postgresql.insert
        statement = insert(ReviewRow).values(**review_values(review, sent))
        done = session.execute(
            statement.on_conflict_do_nothing(index_elements=["scope", "key"]).returning(ReviewRow.id)
        )
        return done.scalar() is not None


def _check_room(session: Session, share_id: str | None) -> None:
    if share_id is None:
        return
    there = session.scalar(select(func.count()).where(ReviewRow.share_id == share_id)) or 0
    if there > MAX_SHARE_REVIEWS:
        raise too_many("reviews on one link", MAX_SHARE_REVIEWS)


def _conditions(query: ReviewQuery) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = []
    if query.project is not None:
        found.append(ReviewRow.project_id == query.project)
    if query.share is not None:
        found.append(ReviewRow.share_id == query.share)
    if query.record is not None:
        found.append(ReviewRow.record_id == query.record)
    if query.before is not None:
        found.append(ReviewRow.id < query.before)
    if query.state is not None:
        waiting = select(SuggestionRow.id).where(
            SuggestionRow.review_id == ReviewRow.id, SuggestionRow.state == query.state
        )
        found.append(waiting.exists())
    return found


def _with_suggestions(session: Session, rows: Sequence[ReviewRow]) -> list[Review]:
    query = select(SuggestionRow).where(SuggestionRow.review_id.in_([row.id for row in rows]))
    said = session.scalars(query.order_by(SuggestionRow.position)).all()
    jobs = [row.job_id for row in said if row.job_id is not None]
    results: defaultdict[str, list[str]] = defaultdict(list)
    if jobs:
        made = select(RecordRow.job_id, RecordRow.id).where(RecordRow.job_id.in_(jobs), RecordRow.deleted_at.is_(None))
        for job_id, record_id in session.execute(made.order_by(RecordRow.picture_index)):
            results[job_id].append(record_id)
    by_review: defaultdict[str, list[Suggestion]] = defaultdict(list)
    for row in said:
        by_review[row.review_id].append(suggestion_of(row, results[row.job_id] if row.job_id else ()))
    return [review_of(row, by_review[row.id]) for row in rows]
