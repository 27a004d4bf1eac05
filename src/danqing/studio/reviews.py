"""The part of the Studio that takes reviews and carries suggestions out."""

from __future__ import annotations

import hashlib
import json
from abc import abstractmethod
from typing import Any

from danqing.spec.errors import ConflictError, InvalidRequestError
from danqing.spec.project import Project
from danqing.spec.record import Job, Record
from danqing.spec.request import Request
from danqing.spec.review import Review, ReviewBody, ReviewSource, Suggestion, SuggestionState
from danqing.store.base import Upload
from danqing.store.projects_base import OpenShare, ReviewQuery, Sent, Tie
from danqing.studio.edits import changed_request, edit_request, fitted, mask_png, place_of
from danqing.studio.project_parts import ProjectParts


class Reviews(ProjectParts):
    """Reviews and their suggestions."""

    @abstractmethod
    def live_project(self, project_id: str) -> Project:
        """A project that is not deleted."""

    @abstractmethod
    def version_record(self, project_id: str, record_id: str) -> Record:
        """A Record that is in the project."""

    @abstractmethod
    def shared_record(self, opened: OpenShare, record_id: str) -> Record:
        """A Record that a share shows."""

    @abstractmethod
    def upload(self, data: bytes, *, name: str = "") -> Upload:
        """Keep a picture."""

    @abstractmethod
    def submit(self, request: Request, *, user: str = "local", priority: int = 0, tie: Tie | None = None) -> Job:
        """Queue a Request."""

    # --- taking -----------------------------------------------------------------------------------------------------
    def add_review(self, project_id: str, body: ReviewBody, *, source: ReviewSource = "person") -> tuple[Review, bool]:
        """A review by the designer or by a model; False beside it if its key was sent before.

        Raises:
            NotFoundError: No such project, or the picture is no version of it.
            InvalidRequestError: A place outside the picture.
            ConflictError: The key was used for another review, or the project is deleted.
        """
        self.live_project(project_id)
        record = self.version_record(project_id, body.record)
        return self._keep(body, record, project=project_id, source=source)

    def send_review(self, opened: OpenShare, body: ReviewBody) -> tuple[Review, bool]:
        """A review by the client behind a share; as `add_review`."""
        record = self.shared_record(opened, body.record)
        return self._keep(body, record, project=opened.share.project, share=opened.share.id)

    def _keep(self, body: ReviewBody, record: Record, **about: Any) -> tuple[Review, bool]:
        said = [fitted(one, record.width_px, record.height_px) for one in body.suggestions]
        review = Review(
            **body.model_dump(exclude={"key", "record", "suggestions", "reviewer"}),
            record_id=record.id,
            reviewer=" ".join(body.reviewer.split()),
            suggestions=tuple(Suggestion(**one.model_dump()) for one in said),
            **about,
        )
        return self._projects.add_review(review, Sent(body.key, fingerprint(body)))

    # --- reading ----------------------------------------------------------------------------------------------------
    def reviews(self, query: ReviewQuery) -> list[Review]:
        """Newest first. NotFoundError if the project or share it names is not there."""
        if query.project is not None:
            self._projects.project(query.project)
        if query.share is not None:
            self._projects.share(query.share)
        return self._projects.reviews(query)

    def review(self, review_id: str) -> Review:
        """NotFoundError."""
        return self._projects.review(review_id)

    def suggestion(self, suggestion_id: str) -> tuple[Review, Suggestion]:
        """A suggestion and the review it stands in. NotFoundError."""
        return self._projects.suggestion(suggestion_id)

    def set_suggestion(self, suggestion_id: str, state: SuggestionState) -> Suggestion:
        """Dismiss it, or open it again.

        Raises:
            NotFoundError: There is none.
            InvalidRequestError: `applied` comes from `apply_suggestion` alone.
        """
        if state == "applied":
            raise InvalidRequestError(
                "a suggestion is applied by painting it",
                field="state",
                value=state,
                allowed="open, dismissed",
                next_step="apply it",
            )
        return self._projects.set_suggestion(suggestion_id, state)

    # --- carrying out -----------------------------------------------------------------------------------------------
    def draft(self, suggestion_id: str, changes: dict[str, Any] | None = None) -> Request:
        """The Request that would carry a suggestion out; paints nothing.

        Raises:
            NotFoundError: No such suggestion, or its picture is gone.
            InvalidRequestError: A change that makes no sense.
        """
        review, suggestion = self.suggestion(suggestion_id)
        record = self.version_record(review.project or "", review.record_id)
        place = place_of(suggestion, record.width_px, record.height_px)
        mask = None
        if place is not None:
            made = self.upload(mask_png(place, record.width_px, record.height_px), name=f"mask-{suggestion_id}.png")
            mask = f"sha256:{made.sha256}"
        request = edit_request(record, suggestion, place, mask)
        if changes:
            request = changed_request(request, changes).model_copy(update={"parent": record.id})
        return request

    def apply_suggestion(
        self,
        suggestion_id: str,
        changes: dict[str, Any] | None = None,
        *,
        show: bool = True,
        user: str = "local",
    ) -> Job:
        """Carry a suggestion out: the results have its picture as parent and join its project.

        Claiming the suggestion and queueing the job are one transaction, so that two designers who press at once get
        one job between them.

        Args:
            suggestion_id: Which one.
            changes: Fields of the Request, over the draft.
            show: Whether the results appear on the share that it came by.
            user: Whose job it is.

        Raises:
            ConflictError: It is applied already and its job has not failed, or the project is deleted.
            NotFoundError: No such suggestion, or its picture is gone.
            InvalidRequestError: A change that makes no sense.
            MissingWeightsError: The picture's model is not here any more.
        """
        review, _ = self.suggestion(suggestion_id)
        if review.project is None:
            raise ConflictError("this review belongs to no project", value=review.id)
        self.live_project(review.project)
        request = self.draft(suggestion_id, changes)
        return self.submit(request, user=user, tie=Tie(review.project, suggestion_id, show))


def fingerprint(body: ReviewBody) -> str:
    """Equal for equal reviews: sha256 of the canonical JSON."""
    data = body.model_dump(mode="json", exclude={"key"})
    return hashlib.sha256(json.dumps(data, sort_keys=True, ensure_ascii=True).encode()).hexdigest()
