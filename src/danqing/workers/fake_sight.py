"""A stand-in for mini-CLIP that sees colours only, for tests of what stands on a pool. No torch."""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from danqing.models.backdrop import measure_palette
from danqing.models.interrogate import wording
from danqing.models.vocabulary import Concept
from danqing.spec.errors import BadFileError, DanqingError
from danqing.spec.registry.colors import COLORS
from danqing.spec.sight import LANGUAGES, Interrogation
from danqing.store.blobs import BlobStore
from danqing.store.vectors import Vectors, to_text, unit
from danqing.workers.protocol import (
    EmbedCommand,
    EmbeddedMessage,
    InterrogateCommand,
    InterrogatedMessage,
    PictureSource,
    TaskCommand,
    TaskFailedMessage,
    TaskMessage,
)

SQUARE = Concept("25A0", {"en": ("square",), "zh": ("方块",), "zh-hant": ("方塊",)})
_SCALE, _BIAS = 10.0, -5.0


class FakeSight:
    """Embeds a picture as its mean colour, and a text as the mean of the colours it names, unless a vector was planted.

    Args:
        data_dir: Blobs are read below it.
        planted: Vectors of width 3 for texts, and for pictures by their sha256.
        model: Name of the stand-in; another one is another mini-CLIP.
    """

    def __init__(
        self, data_dir: Path, planted: Mapping[str, Sequence[float]] | None = None, *, model: str = "fake"
    ) -> None:
        self._blobs = BlobStore(data_dir)
        self._planted = dict(planted or {})
        self.model = hashlib.sha256(model.encode()).hexdigest()

    def answer(self, command: TaskCommand) -> TaskMessage:
        """What a worker would answer."""
        try:
            if isinstance(command, InterrogateCommand):
                return self._interrogate(command)
            return self._embed(command)
        except DanqingError as error:
            return TaskFailedMessage(task_id=command.task_id, error=error.as_dict())

    def _interrogate(self, command: InterrogateCommand) -> InterrogatedMessage:
        palette = measure_palette(self._open(command.picture))
        found = Interrogation(
            words={language: wording(SQUARE, None, palette, language) for language in LANGUAGES},
            concept=SQUARE.hexcode,
            score=0.5,
            colors=palette.colors,
            background=palette.background,
            model=self.model,
        )
        return InterrogatedMessage(task_id=command.task_id, interrogation=found)

    def _embed(self, command: EmbedCommand) -> EmbeddedMessage:
        texts = np.array([self._text(text) for text in command.texts], np.float32).reshape(-1, 3)
        pictures = np.array([self._picture(source) for source in command.pictures], np.float32).reshape(-1, 3)
        return EmbeddedMessage(
            task_id=command.task_id,
            model=self.model,
            dim=3,
            scale=_SCALE,
            bias=_BIAS,
            texts=to_text(unit(texts)),
            pictures=to_text(unit(pictures)),
        )

    def _text(self, text: str) -> Vectors:
        if text in self._planted:
            return np.array(self._planted[text], np.float32)
        named = [COLORS[word].rgb for word in text.lower().replace(",", " ").split() if word in COLORS]
        return np.mean(named or [(128, 128, 128)], axis=0, dtype=np.float32)

    def _picture(self, source: PictureSource) -> Vectors:
        if source.sha256 in self._planted:
            return np.array(self._planted[source.sha256], np.float32)
        try:
            pixels = np.asarray(self._open(source).convert("RGB"), np.float32)
        except DanqingError:
            return np.zeros(3, np.float32)
        return pixels.reshape(-1, 3).mean(axis=0)

    def _open(self, source: PictureSource) -> Image.Image:
        data = self._blobs.read(source.sha256) if source.sha256 else base64.b64decode(source.data_base64 or "")
        try:
            image = Image.open(io.BytesIO(data))
            image.load()
        except OSError as error:
            raise BadFileError("this picture cannot be read", value=source.sha256) from error
        return image
