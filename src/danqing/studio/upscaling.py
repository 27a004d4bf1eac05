"""The part of the Studio that makes pictures larger."""

from __future__ import annotations

import io
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from PIL import Image

from danqing.spec.errors import WorkerError
from danqing.spec.upscale import UpscalePlan, UpscaleRequest, UpscalerFile
from danqing.store.base import Store, Upload
from danqing.store.blobs import BlobStore
from danqing.store.ids import new_id
from danqing.studio.stored import stored_picture
from danqing.workers.pool import WorkerPool
from danqing.workers.protocol import UpscaleCommand, UpscaledMessage

if TYPE_CHECKING:
    from danqing.models.catalog import Catalog


@dataclass(frozen=True)
class Upscaled:
    """A picture made larger. It lies in the store like an upload, so that a Request can name it.

    Attributes:
        picture: Hash, size and type.
        plan: What was done.
        seconds: In the worker.
    """

    picture: Upload
    plan: UpscalePlan
    seconds: float


class Upscaling(ABC):
    """Upscaling by a worker."""

    blobs: BlobStore
    pool: WorkerPool

    @property
    @abstractmethod
    def _store(self) -> Store:
        """The open studio's store."""

    @property
    @abstractmethod
    def catalog(self) -> Catalog:
        """The models."""

    def upscalers(self) -> Sequence[UpscalerFile]:
        """Every upscaler file that can be named, here and in a hires pass."""
        return self.catalog.upscalers()

    def upscale(self, request: UpscaleRequest, *, user: str = "local") -> Upscaled:
        """Make a picture larger; returns when that is done.

        Raises:
            NotFoundError: The picture is not there.
            InvalidRequestError: No such upscaler, or a result that is too large.
            BadFileError: The upscaler's file is damaged or not to be trusted.
            WorkerError: The worker died.
        """
        from danqing.planning.upscaling import plan_upscale

        sha256 = stored_picture(request.image, self._store, self.blobs)
        with Image.open(io.BytesIO(self.blobs.read(sha256))) as image:
            size = image.size
        plan = plan_upscale(request.model_copy(update={"image": f"sha256:{sha256}"}), self.catalog, size)
        answer = self.pool.ask(UpscaleCommand(task_id=new_id(), plan=plan, user=user)).result()
        if not isinstance(answer, UpscaledMessage):
            raise WorkerError("the worker answered another question", value=answer.type)
        upload = Upload(answer.picture, answer.width_px, answer.height_px, answer.media_type, "upscaled")
        self._store.add_upload(upload)
        return Upscaled(upload, plan, answer.seconds)
