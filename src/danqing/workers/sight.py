"""Answers questions about pictures: mini-CLIP loaded when first asked, word embeddings kept in the data folder."""

from __future__ import annotations

import base64
import io
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from danqing.models.clip import MiniClip, load
from danqing.models.clip_files import find_clip
from danqing.models.interrogate import Interrogator
from danqing.models.interrogators.opening import Looker, open_interrogator
from danqing.models.interrogators.taggers import Look
from danqing.models.vocabulary import load_vocabulary
from danqing.models.word_vectors import WordVectors
from danqing.spec.errors import BadFileError, DanqingError, WorkerError
from danqing.spec.registry.interrogators import BUILTIN
from danqing.store.blobs import BlobStore
from danqing.store.vectors import to_text
from danqing.workers.critic import Critic
from danqing.workers.protocol import (
    EmbedCommand,
    EmbeddedMessage,
    InterrogateCommand,
    InterrogatedMessage,
    JudgeCommand,
    PictureSource,
    ReviewCommand,
    TaskCommand,
    TaskFailedMessage,
    TaskMessage,
)

CACHE_DIR = Path("cache") / "mini-clip"
_log = logging.getLogger(__name__)


class Sight:
    """mini-CLIP at work.

    Args:
        data_dir: Blobs are read, and word embeddings kept, below it.
        models_dir: A `mini-clip/` in it goes before the built-in one.
        device: Where it computes.
    """

    def __init__(self, data_dir: Path, models_dir: Path | None, device: torch.device) -> None:
        self._blobs = BlobStore(data_dir)
        self._cache = data_dir / CACHE_DIR
        self._models_dir = models_dir
        self._device = device
        self._clip: MiniClip | None = None
        self._interrogator: Interrogator | None = None
        self._other: tuple[str, Looker] | None = None
        self._critic = Critic(self.open, self._open, models_dir, device)

    def prepare(self, command: TaskCommand) -> None:
        """Load what a question needs: by the thread that loads models, for loading changes torch's defaults.

        Raises:
            MissingWeightsError: It is not installed.
            BadFileError: It is damaged.
        """
        if isinstance(command, InterrogateCommand) and command.interrogator != BUILTIN:
            self._named(command.interrogator)
        elif isinstance(command, ReviewCommand | JudgeCommand):
            self._critic.prepare(command)
        else:
            self.open()

    def open(self) -> MiniClip:
        """Load mini-CLIP once.

        Raises:
            MissingWeightsError: It is not installed.
            BadFileError: It is damaged.
        """
        if self._clip is None:
            self._clip = load(find_clip(self._models_dir), self._device)
        return self._clip

    def answer(self, command: TaskCommand) -> TaskMessage:
        """The answer, or the failure; never raises. One call at a time, from any thread."""
        try:
            if isinstance(command, InterrogateCommand):
                return self._interrogate(command)
            if isinstance(command, ReviewCommand | JudgeCommand):
                return self._critic.answer(command)
            return self._embed(command)
        except DanqingError as error:
            return failed(command, error)
        except Exception as error:  # noqa: BLE001  a question must not take the painting down
            _log.exception("question %s failed", command.task_id)
            return failed(command, WorkerError(f"{type(error).__name__}: {error}", next_step="see the worker's log"))

    def _interrogate(self, command: InterrogateCommand) -> InterrogatedMessage:
        picture = self._open(command.picture)
        if command.interrogator == BUILTIN:
            found = self._words_of().look(picture, command.tags)
        else:
            how = Look(command.tags, command.threshold, command.character_threshold)
            found = self._named(command.interrogator).look(picture, how)
        return InterrogatedMessage(task_id=command.task_id, interrogation=found)

    def _embed(self, command: EmbedCommand) -> EmbeddedMessage:
        clip = self.open()
        pictures = np.zeros((len(command.pictures), clip.dim), np.float32)
        readable: list[int] = []
        images: list[Image.Image] = []
        for place, source in enumerate(command.pictures):
            try:
                images.append(self._open(source))
            except DanqingError as error:
                _log.warning("a picture cannot be embedded: %s", error)
            else:
                readable.append(place)
        pictures[readable] = clip.embed_images(images)
        return EmbeddedMessage(
            task_id=command.task_id,
            model=clip.sha256,
            dim=clip.dim,
            scale=clip.head.scale,
            bias=clip.head.bias,
            texts=to_text(clip.embed_texts(command.texts)),
            pictures=to_text(pictures),
        )

    def _named(self, name: str) -> Looker:
        """An interrogator that is not built in; the last one stays in memory."""
        if self._other is None or self._other[0] != name:
            self._other = None
            self._other = (name, open_interrogator(name, self._models_dir, self._cache, self._device))
        return self._other[1]

    def _words_of(self) -> Interrogator:
        if self._interrogator is None:
            clip = self.open()
            words = WordVectors(self._embed_words, self._cache, clip.sha256)
            self._interrogator = Interrogator(clip, load_vocabulary(clip.files.vocabulary), words, clip.files.styles())
        return self._interrogator

    def _embed_words(self, texts: Sequence[str]) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        return self.open().embed_texts(texts)

    def _open(self, source: PictureSource) -> Image.Image:
        try:
            data = (
                self._blobs.read(source.sha256)
                if source.sha256 is not None
                else base64.b64decode(source.data_base64 or "", validate=True)
            )
            image = Image.open(io.BytesIO(data), formats=("PNG", "JPEG", "WEBP"))
            image.load()
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise BadFileError(
                f"this picture cannot be read: {error}", value=source.sha256, next_step="choose another picture"
            ) from error
        return image


def failed(command: TaskCommand, error: DanqingError) -> TaskFailedMessage:
    """The message that a question failed."""
    return TaskFailedMessage(task_id=command.task_id, error=error.as_dict())
