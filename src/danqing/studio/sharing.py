"""The part of the Studio that shows versions to a client: links, passwords, and what may be seen behind them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncGenerator, Sequence
from typing import Any

from danqing.spec.errors import ConflictError, DanqingError, InvalidRequestError, NotFoundError
from danqing.spec.project import Project
from danqing.spec.record import Record
from danqing.spec.review import Review, Suggestion
from danqing.spec.share import (
    NewShare,
    ProjectEvent,
    Share,
    ShareChanges,
    SharedBrief,
    SharedReview,
    SharedSuggestion,
    SharedVersion,
    ShareOrder,
    SharePage,
)
from danqing.store.ids import new_id
from danqing.store.owners import utc_now
from danqing.store.plain import without_metadata
from danqing.store.projects_base import OpenShare, ReviewQuery, Secrets
from danqing.studio.locks import hash_password, is_pass, is_password, make_pass, new_token, token_hash
from danqing.studio.project_parts import ProjectParts
from danqing.studio.projects import checked_name

MAX_GUESSES = 10
GUESS_WINDOW_S = 600.0
REVIEWS_TOLD = 500


class ShareLockedError(DanqingError):
    """The share has a password and this caller has not given it, or a wrong one."""

    code = "share_locked"
    http_status = 401


class TooManyError(DanqingError):
    """Too much within a time."""

    code = "too_many"
    http_status = 429

    def __init__(self, message: str, *, wait_s: float) -> None:
        super().__init__(
            message, value=f"{wait_s:.0f} s", allowed="later", next_step=f"wait {max(1, round(wait_s))} seconds"
        )
        self.wait_s = wait_s


class Sharing(ProjectParts):
    """Shares."""

    @abstractmethod
    def live_project(self, project_id: str) -> Project:
        """A project that is not deleted."""

    @abstractmethod
    def thumbnail_bytes(self, record_id: str) -> bytes:
        """A small one."""

    # --- the designer -----------------------------------------------------------------------------------------------
    def create_share(self, project_id: str, order: ShareOrder) -> NewShare:
        """A new link. Its token is in the answer and nowhere else.

        Raises:
            NotFoundError: No such project, or a Record that is not in it.
            InvalidRequestError: It would have expired already.
        """
        project = self.live_project(project_id)
        _check_expiry(order.expires_at)
        records = order.records
        if records is None:
            every = tuple(item.record for item in self._projects.items(project_id))
            records = (project.current,) if project.current in every else every
        token = new_token()
        share = Share(
            id=new_id(),
            project=project_id,
            name=checked_name(order.name),
            records=tuple(record for record in records if record),
            follow=order.follow,
            shown=order.shown,
            language=order.language,
            created_at=utc_now(),
            expires_at=order.expires_at,
        )
        kept = Secrets(token_hash(token), None if order.password is None else hash_password(order.password))
        return _new_share(self._projects.add_share(share, kept), token)

    def share(self, share_id: str) -> Share:
        """NotFoundError."""
        return self._projects.share(share_id)

    def shares(self, project_id: str) -> list[Share]:
        """Newest first. NotFoundError if there is no such project."""
        return self._projects.shares(self._projects.project(project_id).id)

    def change_share(self, share_id: str, changes: ShareChanges) -> Share:
        """Change what is given. A new password sends everybody who gave the old one back to the door."""
        self._unrevoked(share_id)
        values: dict[str, Any] = {
            name: getattr(changes, name)
            for name in ("name", "follow", "shown", "language")
            if getattr(changes, name) is not None
        }
        if "name" in values:
            values["name"] = checked_name(values["name"])
        if "expires_at" in changes.model_fields_set:
            _check_expiry(changes.expires_at)
            values["expires_at"] = changes.expires_at
        if "password" in changes.model_fields_set:
            values["password_hash"] = None if changes.password is None else hash_password(changes.password)
        return self._projects.change_share(share_id, values) if values else self.share(share_id)

    def revoke_share(self, share_id: str) -> Share:
        """Close the link for good, at once. ConflictError if it is revoked already."""
        self._unrevoked(share_id)
        return self._projects.change_share(share_id, {"revoked_at": utc_now()})

    def renew_share(self, share_id: str) -> NewShare:
        """Another token for the same share: the old link is dead."""
        self._unrevoked(share_id)
        token = new_token()
        return _new_share(self._projects.change_share(share_id, {"token_hash": token_hash(token)}), token)

    def show_on_share(self, share_id: str, record_ids: Sequence[str]) -> Share:
        """Show more versions. NotFoundError if one is not in the project."""
        self._unrevoked(share_id)
        return self._projects.show(share_id, record_ids)

    def hide_from_share(self, share_id: str, record_id: str) -> Share:
        """Show a version no longer."""
        return self._projects.hide(share_id, record_id)

    # --- the client -------------------------------------------------------------------------------------------------
    def open_share(self, token: str) -> OpenShare:
        """What is behind a token. NotFoundError, the same one whatever the reason."""
        opened = self._projects.open_share(token_hash(token), utc_now())
        if opened is None:
            raise NotFoundError(
                "this link does not open anything (any more)",
                allowed="a link that was neither revoked nor has expired",
                next_step="ask the designer for a new link",
            )
        return opened

    def unlock_share(self, opened: OpenShare, password: str) -> str:
        """A pass for the right password.

        Raises:
            TooManyError: Too many wrong ones; the password was not even looked at.
            ShareLockedError: It is wrong.
        """
        kept = opened.secrets.password_hash
        if kept is None:
            return make_pass(opened.share.id, opened.secrets, utc_now())
        wait_s = self._projects.take_guess(opened.share.id, utc_now(), limit=MAX_GUESSES, window_s=GUESS_WINDOW_S)
        if wait_s > 0:
            raise TooManyError("too many wrong passwords", wait_s=wait_s)
        if not is_password(password, kept):
            raise _locked("the password is wrong")
        self._projects.forget_guesses(opened.share.id)
        return make_pass(opened.share.id, opened.secrets, utc_now())

    def check_pass(self, opened: OpenShare, shown: str | None) -> None:
        """ShareLockedError if the share has a password and this is no pass for it."""
        if opened.secrets.password_hash is None:
            return
        if shown is None or not is_pass(shown, opened.share.id, opened.secrets, utc_now()):
            raise _locked("this link asks for a password")

    def share_mark(self) -> int:
        """Grows with everything that changes what a share page tells, but for what `opened.share` itself says."""
        return self._projects.last_event()

    def share_page(self, opened: OpenShare, token: str, *, locked: bool = False) -> SharePage:
        """All that a client may see; next to nothing while it is locked."""
        share = opened.share
        if locked:
            return SharePage(title=share.name, language=share.language, locked=True)
        last_event = self._projects.last_event()  # first, so that nothing falls between this and the events
        shown = self._projects.shown_records(share.id)
        place = f"/share/{token}/api/versions"
        labels = self._labels(share)
        reviews = self._projects.reviews(ReviewQuery(share=share.id, limit=REVIEWS_TOLD))
        ids = {record.id for record, _ in shown}
        versions = tuple(
            SharedVersion(
                id=record.id,
                parent=record.parent if record.parent in ids else None,
                number=number,
                width_px=record.width_px,
                height_px=record.height_px,
                added_at=added_at,
                picture=f"{place}/{record.id}/picture",
                thumbnail=f"{place}/{record.id}/thumbnail",
                prompt=record.plan.base.text.prompt if share.shown.prompts else None,
                labels=labels.get(record.id, ()),
            )
            for number, (record, added_at) in enumerate(shown, 1)
        )
        return SharePage(
            title=share.name,
            language=share.language,
            locked=False,
            expires_at=share.expires_at,
            last_event=last_event,
            versions=versions,
            reviews=tuple(shared_review(review, ids) for review in reversed(reviews)),
            brief=self._brief(share),
        )

    def shared_record(self, opened: OpenShare, record_id: str) -> Record:
        """A Record that this share shows. NotFoundError for every other one."""
        if record_id in opened.share.records:
            return self.record(record_id)
        raise NotFoundError(
            "this link shows no such picture", field="version", value=record_id, next_step="load the page again"
        )

    def shared_picture(self, opened: OpenShare, record_id: str) -> tuple[Record, bytes]:
        """Its picture, with nothing in it that tells how it was made."""
        record = self.shared_record(opened, record_id)
        return record, without_metadata(self.picture_bytes(record.picture))

    def shared_thumbnail(self, opened: OpenShare, record_id: str) -> bytes:
        """A small one, likewise."""
        return without_metadata(self.thumbnail_bytes(self.shared_record(opened, record_id).id))

    def share_events(self, opened: OpenShare, *, after: int = 0) -> AsyncGenerator[ProjectEvent]:
        """What happens in its project behind a number; the door tells only what concerns the share."""
        return self._feed.follow(opened.share.project, after)

    # --- inside -----------------------------------------------------------------------------------------------------
    def _unrevoked(self, share_id: str) -> Share:
        share = self.share(share_id)
        if share.revoked_at is not None:
            raise ConflictError("this link was revoked", value=share_id, next_step="make a new share")
        return share

    def _labels(self, share: Share) -> dict[str, tuple[str, ...]]:
        if not share.shown.labels:
            return {}
        return {item.record: item.labels for item in self._projects.items(share.project)}

    def _brief(self, share: Share) -> SharedBrief | None:
        if not share.shown.brief:
            return None
        brief = self._projects.project(share.project).brief
        return SharedBrief(words=brief.words, palette=brief.palette, do=brief.do, dont=brief.dont)


def shared_review(review: Review, shown: set[str]) -> SharedReview:
    """A review without what is none of the client's business.

    Args:
        review: As the designer sees it.
        shown: The Records that its share shows.
    """
    return SharedReview(
        id=review.id,
        version=review.record_id,
        reviewer=review.reviewer,
        picked=review.picked,
        starred=review.starred,
        approved=review.approved,
        note=review.note,
        language=review.language,
        created_at=review.created_at or utc_now(),
        suggestions=tuple(_shared_suggestion(one, shown) for one in review.suggestions),
    )


def _shared_suggestion(suggestion: Suggestion, shown: set[str]) -> SharedSuggestion:
    return SharedSuggestion(
        **suggestion.model_dump(include={"id", "box", "lasso", "prompt", "reason", "strength", "state"}),
        results=tuple(record_id for record_id in suggestion.results if record_id in shown),
    )


def _new_share(share: Share, token: str) -> NewShare:
    return NewShare(share=share, token=token, path=f"/share/{token}")


def _locked(message: str) -> ShareLockedError:
    return ShareLockedError(
        message, field="password", allowed="the password of this link", next_step="ask the designer for the password"
    )


def _check_expiry(moment: Any) -> None:
    if moment is not None and moment <= utc_now():
        raise InvalidRequestError(
            "the link would have expired already",
            field="expires_at",
            value=moment.isoformat(),
            allowed="a time to come",
            next_step="choose a later one, or null for never",
        )
