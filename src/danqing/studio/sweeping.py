"""What a server clears away at its start: drafts of pages that are gone, uploads that nothing names."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Final

from danqing.store.base import Store
from danqing.store.blobs import BlobStore
from danqing.store.owners import utc_now

DRAFTS: Final = "drafts"
"""The user that draft jobs belong to, so that a page that is loaded again does not take one for a painting."""
UPLOADS_KEPT: Final = timedelta(days=1)
"""How long an upload waits for a job that names it: a page may hold it in its form."""
_WATCHED: Final = timedelta(hours=1)
_log = logging.getLogger(__name__)


def sweep(store: Store, blobs: BlobStore) -> None:
    """Clear up behind pages that are gone. Nothing is touched that a Record or a job names, nor what another holds."""
    drafts = store.forget_user(DRAFTS, ended_before=utc_now())
    unused = store.sweep_uploads(utc_now() - UPLOADS_KEPT)
    # Bytes that were stored again since then count as new.
    removed = sum(blobs.remove(sha256, unused_for_s=UPLOADS_KEPT.total_seconds()) for sha256 in unused)
    if drafts or removed:
        _log.info("cleared away: %d drafts, %d uploads that nothing named", drafts, removed)


def forget_drafts(store: Store) -> None:
    """Let go of the drafts of a process that is gone, so that nobody paints them; those that a page watches stay."""
    store.forget_user(DRAFTS, ended_before=utc_now() - _WATCHED)
