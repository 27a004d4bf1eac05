"""Upscaling in a worker: a Session on the painter's engine, and its picture written beside the painting."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass

from PIL import Image

from danqing.engine import Engine, Finished, SessionEvent
from danqing.pipelines.upscale import expected_tiles, upscale
from danqing.spec.errors import BadFileError, DanqingError, WorkerError
from danqing.spec.upscale import UpscalePlan
from danqing.store.blobs import BlobStore
from danqing.store.metadata import encode_picture, read_metadata
from danqing.workers.protocol import TaskFailedMessage, TaskMessage, UpscaleCommand, UpscaledMessage
from danqing.workers.saving import BlobPictures

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Upscaling:
    """What upscaling needs of a worker.

    Attributes:
        engine: Runs the Sessions.
        blobs: Pictures are read and written here.
        saver: Encodes and writes.
        send: Tells the front; may be called from the saver's thread.
    """

    engine: Engine
    blobs: BlobStore
    saver: Executor
    send: Callable[[TaskMessage], None]

    def start(self, command: UpscaleCommand) -> None:
        """Put a plan on the engine; the answer is sent when it is done, or why it could not be."""
        pictures = BlobPictures(self.blobs)
        try:
            session = upscale(command.plan, pictures)
            calls = expected_tiles(command.plan, pictures)
        except DanqingError as error:
            self._fail(command, error)
            return
        self.engine.submit(command.task_id, session, self._sink(command), user=command.user, expected_calls=calls)

    def _sink(self, command: UpscaleCommand) -> Callable[[SessionEvent], None]:
        def sink(event: SessionEvent) -> None:
            if not isinstance(event, Finished):
                return
            if event.error is not None:
                self._fail(command, event.error)
            else:
                self.saver.submit(self._save, command, event.result, event.total_s)

        return sink

    def _save(self, command: UpscaleCommand, image: Image.Image, seconds: float) -> None:
        try:
            infotext = upscaled_infotext(command.plan, self.blobs.read(command.plan.image))
            encoded = encode_picture(image, command.plan.output, infotext=infotext)
            message = UpscaledMessage(
                task_id=command.task_id,
                picture=self.blobs.put(encoded.data, encoded.media_type),
                media_type=encoded.media_type,
                width_px=image.width,
                height_px=image.height,
                seconds=round(seconds, 3),
            )
        except DanqingError as error:
            self._fail(command, error)
        except Exception as error:  # noqa: BLE001  the asker waits for an answer, whatever it is
            self._fail(command, WorkerError(f"the picture could not be written: {error}", next_step="free disk space"))
        else:
            self.send(message)

    def _fail(self, command: UpscaleCommand, error: DanqingError) -> None:
        if error.__cause__ is not None:
            logger.error("upscaling %s failed", command.task_id, exc_info=error.__cause__)
        self.send(TaskFailedMessage(task_id=command.task_id, error=error.as_dict()))


def upscaled_infotext(plan: UpscalePlan, source: bytes) -> str:
    """The source's infotext with A1111's words for what was done to it; these words alone if it has none.

    The Plan of the source is left out: it would paint the small picture.
    """
    done = f"Postprocess upscale by: {plan.scale:g}, Postprocess upscaler: {plan.upscaler}"
    try:
        before = read_metadata(source).infotext.rstrip()
    except BadFileError:
        before = ""
    return f"{before}, {done}" if before else done
