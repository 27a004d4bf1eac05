"""Shares and reviews in memory: the two halves of `FakeProjects` beside projects themselves."""

from __future__ import annotations

import threading
from abc import abstractmethod
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from danqing.spec.project import ProjectItem
from danqing.spec.record import Job, Record
from danqing.spec.review import Review, Suggestion, SuggestionState
from danqing.spec.share import MAX_SHARED, EventKind, Share
from danqing.store.base import no_such
from danqing.store.ids import new_id
from danqing.store.owners import utc_now
from danqing.store.project_rows import review_scope
from danqing.store.projects_base import (
    MAX_SHARE_REVIEWS,
    OpenShare,
    ProjectsStore,
    ReviewQuery,
    Secrets,
    Sent,
    check_keys,
    check_room,
    key_taken,
    too_many,
)


class _Base(ProjectsStore):
    """What the halves need of the whole."""

    _lock: threading.RLock
    _jobs: Mapping[str, Job]
    _records: Mapping[str, Record]

    @abstractmethod
    def note(self, kind: EventKind, project_id: str, **about: str | None) -> None:
        """Add an event."""

    @abstractmethod
    def _item(self, project_id: str, record_id: str) -> ProjectItem | None: ...


class FakeShares(_Base):
    """See `ShareStore`."""

    def _begin_shares(self) -> None:
        self._shares: dict[str, Share] = {}
        self._secrets: dict[str, Secrets] = {}
        self._shown: dict[str, dict[str, datetime]] = {}
        self._guesses: dict[str, tuple[int, datetime]] = {}

    def add_share(self, share: Share, secrets: Secrets) -> Share:
        """See `ShareStore.add_share`."""
        with self._lock:
            self.project(share.project)
            for record_id in share.records:
                if self._item(share.project, record_id) is None:
                    raise no_such("version of this project", record_id)
            self._shares[share.id] = share.model_copy(update={"has_password": secrets.password_hash is not None})
            self._secrets[share.id] = secrets
            self._shown[share.id] = {}
            self.show(share.id, share.records)
            self.note("share", share.project, share=share.id)
            return self.share(share.id)

    def share(self, share_id: str) -> Share:
        """See `ShareStore.share`."""
        with self._lock:
            if share_id not in self._shares:
                raise no_such("share", share_id)
            share = self._shares[share_id]
            return share.model_copy(update={"records": tuple(record.id for record, _ in self.shown_records(share_id))})

    def shares(self, project_id: str) -> list[Share]:
        """See `ShareStore.shares`."""
        with self._lock:
            own = [share.id for share in self._shares.values() if share.project == project_id]
            return [self.share(share_id) for share_id in sorted(own, reverse=True)]

    def open_share(self, token_hash: str, moment: datetime) -> OpenShare | None:
        """See `ShareStore.open_share`."""
        with self._lock:
            for share_id, secrets in self._secrets.items():
                if secrets.token_hash == token_hash:
                    share = self.share(share_id)
                    project = self.project(share.project)
                    closed = project.archived_at is not None or project.deleted_at is not None
                    return None if closed or share.state_at(moment) != "open" else OpenShare(share, secrets)
        return None

    def change_share(self, share_id: str, changes: Mapping[str, Any]) -> Share:
        """See `ShareStore.change_share`."""
        known = ("name", "follow", "shown", "language", "expires_at", "revoked_at", "token_hash", "password_hash")
        check_keys(changes, known)
        with self._lock:
            share, secrets = self.share(share_id), self._secrets[share_id]
            values = dict(changes)
            token_hash = values.pop("token_hash", secrets.token_hash)
            if "password_hash" in values:
                self._guesses.pop(share_id, None)
            password_hash = values.pop("password_hash", secrets.password_hash)
            self._secrets[share_id] = Secrets(token_hash, password_hash)
            self._shares[share_id] = share.model_copy(update={**values, "has_password": password_hash is not None})
            self.note("share", share.project, share=share_id)
            return self.share(share_id)

    def show(self, share_id: str, record_ids: Sequence[str]) -> Share:
        """See `ShareStore.show`."""
        with self._lock:
            share, there = self.share(share_id), self._shown[share_id]
            fresh = [record_id for record_id in dict.fromkeys(record_ids) if record_id not in there]
            check_room(len(there), len(fresh))
            for record_id in fresh:
                if self._item(share.project, record_id) is None:
                    raise no_such("version of this project", record_id)
            for record_id in fresh:
                there[record_id] = utc_now()
                self.note("shown", share.project, share=share_id, record=record_id)
            return self.share(share_id)

    def hide(self, share_id: str, record_id: str) -> Share:
        """See `ShareStore.hide`."""
        with self._lock:
            share = self.share(share_id)
            if self._shown[share_id].pop(record_id, None) is not None:
                self.note("hidden", share.project, share=share_id, record=record_id)
            return self.share(share_id)

    def shown_records(self, share_id: str) -> list[tuple[Record, datetime]]:
        """See `ShareStore.shown_records`."""
        with self._lock:
            shown = sorted((added_at, record_id) for record_id, added_at in self._shown[share_id].items())
            found = [(self._records[record_id], added_at) for added_at, record_id in shown]
            return [(record, added_at) for record, added_at in found if record.deleted_at is None]

    def take_guess(self, share_id: str, moment: datetime, *, limit: int, window_s: float) -> float:
        """See `ShareStore.take_guess`."""
        with self._lock:
            self.share(share_id)
            count, since = self._guesses.get(share_id, (0, moment))
            ends = since + timedelta(seconds=window_s)
            if count == 0 or ends <= moment:
                count, since = 0, moment
            elif count >= limit:
                return (ends - moment).total_seconds()
            self._guesses[share_id] = (count + 1, since)
            return 0.0

    def forget_guesses(self, share_id: str) -> None:
        """See `ShareStore.forget_guesses`."""
        with self._lock:
            self._guesses.pop(share_id, None)

    def _follow(self, project_id: str, record_id: str, parent: str | None) -> None:
        for share in self.shares(project_id):
            shown = self._shown[share.id]
            if share.follow and share.revoked_at is None and parent in shown and len(shown) < MAX_SHARED:
                self.show(share.id, [record_id])

    def _forget_shown(self, record_id: str) -> None:
        for shown in self._shown.values():
            shown.pop(record_id, None)

    def _forget_shares(self, projects: Collection[str]) -> None:
        for share_id in [share.id for share in self._shares.values() if share.project in projects]:
            del self._shares[share_id], self._secrets[share_id], self._shown[share_id]


class FakeReviews(_Base):
    """See `ReviewStore`."""

    def _begin_reviews(self) -> None:
        self._reviews: dict[str, Review] = {}
        self._sent: dict[tuple[str, str], tuple[str, str]] = {}

    def add_review(self, review: Review, sent: Sent) -> tuple[Review, bool]:
        """See `ReviewStore.add_review`."""
        with self._lock:
            self.project(str(review.project))
            place = (review_scope(review), sent.key)
            if place in self._sent:
                review_id, fingerprint = self._sent[place]
                if fingerprint != sent.fingerprint:
                    raise key_taken(sent.key)
                return self.review(review_id), False
            if review.share and sum(one.share == review.share for one in self._reviews.values()) >= MAX_SHARE_REVIEWS:
                raise too_many("reviews on one link", MAX_SHARE_REVIEWS)
            plain = {"state": "open", "job": None, "results": ()}
            kept = tuple(one.model_copy(update={**plain, "id": new_id()}) for one in review.suggestions)
            fresh = review.model_copy(update={"id": new_id(), "created_at": utc_now(), "suggestions": kept})
            self._reviews[fresh.id] = fresh
            self._sent[place] = (fresh.id, sent.fingerprint)
            self.note("review", str(fresh.project), share=fresh.share, record=fresh.record_id, review=fresh.id)
            return self.review(fresh.id), True

    def review(self, review_id: str) -> Review:
        """See `ReviewStore.review`."""
        with self._lock:
            if review_id not in self._reviews:
                raise no_such("review", review_id)
            review = self._reviews[review_id]
            told = tuple(one.model_copy(update={"results": self._results(one.job)}) for one in review.suggestions)
            return review.model_copy(update={"suggestions": told})

    def reviews(self, query: ReviewQuery) -> list[Review]:
        """See `ReviewStore.reviews`."""
        with self._lock:
            found = [
                self.review(review.id)
                for _, review in sorted(self._reviews.items(), reverse=True)
                if query.project in (None, review.project)
                and query.share in (None, review.share)
                and query.record in (None, review.record_id)
                and (query.before is None or review.id < query.before)
                and (query.state is None or any(one.state == query.state for one in review.suggestions))
            ]
        return found[: query.limit]

    def suggestion(self, suggestion_id: str) -> tuple[Review, Suggestion]:
        """See `ReviewStore.suggestion`."""
        with self._lock:
            for review_id in self._reviews:
                review = self.review(review_id)
                for suggestion in review.suggestions:
                    if suggestion.id == suggestion_id:
                        return review, suggestion
        raise no_such("suggestion", suggestion_id)

    def set_suggestion(self, suggestion_id: str, state: SuggestionState) -> Suggestion:
        """See `ReviewStore.set_suggestion`."""
        with self._lock:
            self._change_suggestion(suggestion_id, state=state, job=None)
            return self.suggestion(suggestion_id)[1]

    def _change_suggestion(self, suggestion_id: str, **changes: Any) -> None:
        review, _ = self.suggestion(suggestion_id)
        kept = tuple(one.model_copy(update=changes) if one.id == suggestion_id else one for one in review.suggestions)
        self._reviews[review.id] = review.model_copy(update={"suggestions": kept})
        about = {"share": review.share, "record": review.record_id, "review": review.id, "suggestion": suggestion_id}
        self.note("suggestion", str(review.project), **about)

    def _results(self, job_id: str | None) -> tuple[str, ...]:
        made = [one for one in self._records.values() if job_id is not None and one.job_id == job_id]
        return tuple(one.id for one in sorted(made, key=lambda one: one.index) if one.deleted_at is None)

    def _forget_reviews(self, projects: Collection[str]) -> None:
        for review_id in [review.id for review in self._reviews.values() if review.project in projects]:
            del self._reviews[review_id]
        self._sent = {place: told for place, told in self._sent.items() if told[0] in self._reviews}
