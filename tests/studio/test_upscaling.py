"""The studio's upscaling, over fake workers."""

from __future__ import annotations

import io
from collections.abc import Callable

import pytest
from PIL import Image
from studio_helpers import picture

from danqing.spec.errors import InvalidRequestError, NotFoundError, WorkerError
from danqing.spec.upscale import UpscaleRequest
from danqing.studio.service import Studio
from danqing.workers.pool import FakePool

OpenStudio = Callable[..., Studio]


def test_an_upload_becomes_larger_and_can_be_used_again(open_studio: OpenStudio):
    studio = open_studio()
    upload = studio.upload(picture(40, 30))
    done = studio.upscale(UpscaleRequest(image=f"sha256:{upload.sha256}", scale=2, upscaler="Lanczos"))
    assert (done.picture.width_px, done.picture.height_px, done.plan.upscaler) == (80, 60, "lanczos")
    with Image.open(io.BytesIO(studio.picture_bytes(done.picture.sha256))) as image:
        assert image.size == (80, 60)
    again = studio.upscale(UpscaleRequest(image=f"sha256:{done.picture.sha256}", width_px=100, upscaler="Nearest"))
    assert (again.picture.width_px, again.picture.height_px) == (100, 75)


def test_what_cannot_be_done_is_told(open_studio: OpenStudio):
    pool = FakePool()
    studio = open_studio(pool)
    with pytest.raises(NotFoundError):
        studio.upscale(UpscaleRequest(image=f"sha256:{'0' * 64}"))
    with pytest.raises(NotFoundError):
        studio.upscale(UpscaleRequest(image="record:none"))
    upload = studio.upload(picture(40, 30))
    with pytest.raises(InvalidRequestError, match="no such upscaler"):
        studio.upscale(UpscaleRequest(image=f"sha256:{upload.sha256}", upscaler="4x-none"))
    pool.error = WorkerError("the worker died")
    with pytest.raises(WorkerError, match="died"):
        studio.upscale(UpscaleRequest(image=f"sha256:{upload.sha256}", upscaler="Lanczos"))
