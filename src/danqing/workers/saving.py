"""From a finished picture to its bytes in the blob store: metadata in, file out, thumbnail beside it."""

from __future__ import annotations

import io
from dataclasses import dataclass, replace

from PIL import Image, UnidentifiedImageError

from danqing.prompt.infotext import to_infotext
from danqing.spec.errors import BadFileError
from danqing.spec.plan import Plan
from danqing.spec.record import Timings, Versions
from danqing.store.blobs import BlobStore
from danqing.store.metadata import encode_picture
from danqing.store.thumbnails import THUMBNAIL_TYPE, make_thumbnail
from danqing.workers.protocol import PictureMessage

MEDIA_TYPES = {"png": "image/png", "jpeg": "image/jpeg", "webp": "image/webp"}


@dataclass(frozen=True)
class Saved:
    """A finished picture and, once saved, where it lies.

    Attributes:
        job_id: Whose.
        index: Which of the job.
        plan: What made it.
        image: RGB.
        timings: Seconds.
        versions: What painted it.
        picture: Content hash of the file.
        thumbnail: Content hash of its thumbnail.
        infotext: As written into the file.
    """

    job_id: str
    index: int
    plan: Plan
    image: Image.Image
    timings: Timings
    versions: Versions
    picture: str = ""
    thumbnail: str | None = None
    infotext: str = ""

    def message(self) -> PictureMessage:
        """What the front is told."""
        return PictureMessage(
            job_id=self.job_id,
            index=self.index,
            picture=self.picture,
            thumbnail=self.thumbnail,
            media_type=MEDIA_TYPES[self.plan.output.format],
            width_px=self.image.width,
            height_px=self.image.height,
            infotext=self.infotext,
            timings=self.timings,
            versions=self.versions,
        )


def save(blobs: BlobStore, finished: Saved) -> Saved:
    """Write a picture with its metadata, and its thumbnail.

    Raises:
        OSError: The disk is full or the folder is not writable.
    """
    plan = finished.plan
    # The precision that was really used goes into the file, so that `reproduce` asks for the same.
    exact = plan.model_copy(update={"precision": finished.versions.precision})
    infotext = to_infotext(exact)
    encoded = encode_picture(finished.image, plan.output, infotext=infotext, plan=exact)
    picture = blobs.put(encoded.data, encoded.media_type)
    thumbnail = blobs.put(make_thumbnail(finished.image), THUMBNAIL_TYPE)
    return replace(finished, picture=picture, thumbnail=thumbnail, infotext=infotext)


class BlobPictures:
    """Input pictures of a pipeline, from the blob store.

    Args:
        blobs: Where they are.
    """

    def __init__(self, blobs: BlobStore) -> None:
        self._blobs = blobs

    def open(self, sha256: str) -> Image.Image:
        """The picture with this content hash, decoded.

        Raises:
            NotFoundError: It is not in the store.
            BadFileError: It is damaged.
        """
        data = self._blobs.read(sha256)
        try:
            image = Image.open(io.BytesIO(data))
            image.load()
        except (UnidentifiedImageError, OSError) as error:
            raise BadFileError(
                "a stored picture is damaged", value=sha256[:10], next_step="upload the picture again"
            ) from error
        return image
