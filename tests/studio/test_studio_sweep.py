"""What a server clears away when it starts, and what it leaves alone."""

from __future__ import annotations

import os
import time

from studio_helpers import picture

from danqing.spec.events import RecordEvent
from danqing.spec.painting import Img2ImgRequest, Txt2ImgRequest
from danqing.studio.sweeping import DRAFTS, UPLOADS_KEPT


def age(studio, sha256):
    """Make an upload older than it may get without being named."""
    from sqlalchemy import update

    from danqing.store.owners import utc_now
    from danqing.store.tables import UploadRow

    long_ago = utc_now() - 2 * UPLOADS_KEPT
    with studio._store.database.write() as session:
        session.execute(update(UploadRow).where(UploadRow.sha256 == sha256).values(created_at=long_ago))
    os.utime(studio.picture_path(sha256), (time.time() - 2 * UPLOADS_KEPT.total_seconds(),) * 2)


def test_a_draft_that_a_killed_server_left_is_gone_at_the_next_start(open_studio):
    studio = open_studio(eager=True)
    kept = studio.submit(Txt2ImgRequest(prompt="mine", seed=1))
    draft = studio.submit(Txt2ImgRequest(prompt="a stroke", seed=2), user=DRAFTS)
    for job in (kept, draft):
        assert any(isinstance(event, RecordEvent) for _, event in studio.watch(job.id, timeout_s=30))
    assert len(studio.records()) == 2
    studio.close()
    again = open_studio(eager=True)
    (left,) = again.records()
    assert left.job_id == kept.id
    assert again.picture_bytes(left.picture)


def test_a_waiting_draft_is_not_painted_after_a_restart(open_studio):
    studio = open_studio()
    draft = studio.submit(Txt2ImgRequest(prompt="a stroke"), user=DRAFTS)
    studio._store.leave(studio._owner.id)  # as if the process had ended here
    studio.close()
    again = open_studio(eager=True)
    assert [job.id for job in again.jobs(user=DRAFTS) if job.state not in ("done", "cancelled")] == []
    assert [record for record in again.records() if record.job_id == draft.id] == []


def test_old_uploads_that_nothing_names_go_and_all_others_stay(open_studio):
    studio = open_studio(eager=True)
    stroke = studio.upload(picture(40, 40)).sha256
    fresh = studio.upload(picture(41, 40)).sha256
    named = studio.upload(picture(42, 40)).sha256
    job = studio.submit(Img2ImgRequest(image=f"sha256:{named}", prompt="x", seed=3))
    studio.wait(job.id, timeout_s=30)
    for sha256 in (stroke, named):
        age(studio, sha256)
    studio.close()
    again = open_studio(eager=True)
    assert not again.blobs.exists(stroke)
    for sha256 in (fresh, named):
        assert again.picture_bytes(sha256)
    assert again.records()[0].plan.init.image == named


def test_a_command_line_beside_a_server_sweeps_nothing(open_studio):
    studio = open_studio()
    stroke = studio.upload(picture(40, 40)).sha256
    age(studio, stroke)
    studio.close()
    open_studio()
    assert open_studio(start=False).blobs.exists(stroke)
