"""Rows of projects, shares and reviews to models and back."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, cast

from pydantic import TypeAdapter

from danqing.spec.project import Brief, Project, ProjectItem
from danqing.spec.review import Review, ReviewSource, Suggestion, SuggestionState
from danqing.spec.share import EventKind, ProjectEvent, Share, ShareLanguage, Shown
from danqing.store.projects_base import Sent
from danqing.store.tables import (
    ProjectEventRow,
    ProjectItemRow,
    ProjectRow,
    ReviewRow,
    ShareRow,
    SuggestionRow,
)

_LABELS: TypeAdapter[tuple[str, ...]] = TypeAdapter(tuple[str, ...])
_OF_STORE = {"id", "state", "job", "results"}
"""What a suggestion has of the store; the rest is what its reviewer drew and said."""


def search_text(name: str, brief: Brief) -> str:
    """What a search for projects looks into, case-folded."""
    return "\n".join((name, brief.words, *brief.do, *brief.dont)).casefold()


def project_row(project: Project) -> ProjectRow:
    """The row of a new project."""
    return ProjectRow(
        id=project.id,
        name=project.name,
        search_text=search_text(project.name, project.brief),
        brief_json=project.brief.model_dump_json(),
        current=project.current,
        user_name=project.user,
        created_at=project.created_at,
        updated_at=project.updated_at,
        archived_at=project.archived_at,
        deleted_at=project.deleted_at,
    )


def project_of(row: ProjectRow) -> Project:
    """The project of a row."""
    return Project(
        id=row.id,
        name=row.name,
        brief=Brief.model_validate_json(row.brief_json),
        current=row.current,
        user=row.user_name,
        created_at=row.created_at,
        updated_at=row.updated_at,
        archived_at=row.archived_at,
        deleted_at=row.deleted_at,
    )


def item_of(row: ProjectItemRow) -> ProjectItem:
    """The item of a row."""
    return ProjectItem(
        project=row.project_id,
        record=row.record_id,
        labels=_LABELS.validate_json(row.labels_json),
        note=row.note,
        starred=row.starred,
        added_at=row.added_at,
        removed_at=row.removed_at,
    )


def share_of(row: ShareRow, record_ids: Sequence[str]) -> Share:
    """The share of a row."""
    return Share(
        id=row.id,
        project=row.project_id,
        name=row.name,
        records=tuple(record_ids),
        follow=row.follow,
        shown=Shown.model_validate_json(row.shown_json),
        language=cast("ShareLanguage", row.language),
        has_password=row.password_hash is not None,
        created_at=row.created_at,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
    )


def review_scope(review: Review) -> str:
    """Within what the key of a review is unique: the link it came by, else its project and kind of reviewer."""
    return f"share:{review.share}" if review.share else f"project:{review.project}:{review.source}"


def review_values(review: Review, sent: Sent) -> dict[str, Any]:
    """The columns of a new review."""
    return {
        "id": review.id,
        "project_id": review.project,
        "share_id": review.share,
        "record_id": review.record_id,
        "scope": review_scope(review),
        "key": sent.key,
        "fingerprint": sent.fingerprint,
        "reviewer": review.reviewer,
        "source": review.source,
        "picked": review.picked,
        "starred": review.starred,
        "approved": review.approved,
        "note": review.note,
        "language": review.language,
        "created_at": review.created_at,
    }


def review_of(row: ReviewRow, suggestions: Sequence[Suggestion]) -> Review:
    """The review of a row."""
    return Review(
        id=row.id,
        record_id=row.record_id,
        project=row.project_id,
        share=row.share_id,
        reviewer=row.reviewer,
        source=cast("ReviewSource", row.source),
        suggestions=tuple(suggestions),
        picked=row.picked,
        starred=row.starred,
        approved=row.approved,
        note=row.note,
        language=row.language,
        created_at=row.created_at,
    )


def suggestion_row(suggestion: Suggestion, review_id: str, position: int) -> SuggestionRow:
    """The row of a new suggestion."""
    return SuggestionRow(
        id=suggestion.id,
        review_id=review_id,
        position=position,
        state=suggestion.state,
        job_id=None,
        body_json=suggestion.model_dump_json(exclude=_OF_STORE),
    )


def suggestion_of(row: SuggestionRow, results: Sequence[str]) -> Suggestion:
    """The suggestion of a row."""
    said = Suggestion.model_validate_json(row.body_json)
    return said.model_copy(
        update={
            "id": row.id,
            "state": cast("SuggestionState", row.state),
            "job": row.job_id,
            "results": tuple(results),
        }
    )


def event_of(row: ProjectEventRow) -> ProjectEvent:
    """The event of a row."""
    return ProjectEvent(
        number=row.number,
        kind=cast("EventKind", row.kind),
        project=row.project_id,
        share=row.share_id,
        record=row.record_id,
        review=row.review_id,
        suggestion=row.suggestion_id,
        at=row.at,
    )


def labels_json(labels: Sequence[str]) -> str:
    """Labels as they are kept."""
    return json.dumps(list(labels), ensure_ascii=False)
