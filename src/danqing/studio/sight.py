"""What the studio sees: interrogation, search by look, scores. The workers look; here is only arithmetic on vectors."""

from __future__ import annotations

import base64
import io
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from danqing.spec.errors import InvalidRequestError, NotFoundError, WorkerError
from danqing.spec.registry.interrogators import BUILTIN, check_threshold, find_interrogator
from danqing.spec.sight import Found, Interrogation
from danqing.store.base import RecordQuery, Store
from danqing.store.blobs import BlobStore
from danqing.store.ids import new_id
from danqing.store.vectors import Vectors, from_text, pack, sigmoid, unpack
from danqing.studio.answering import answer_of
from danqing.studio.stored import stored_picture
from danqing.studio.uploads import UploadLimits, check_picture
from danqing.workers.pool import WorkerPool
from danqing.workers.protocol import (
    EmbedCommand,
    EmbeddedMessage,
    InterrogateCommand,
    InterrogatedMessage,
    PictureSource,
)

Picture = bytes | str
ANSWER_TIMEOUT_S = 600.0  # a worker may have to start, load and embed a vocabulary first
MAX_TEXT_CHARS = 2000
BATCH = 32
_SHOWN_PX = 512  # mini-CLIP looks at 128 px; colours need no more than this
_EVERY_RECORD = 1_000_000


@dataclass(frozen=True)
class Interrogating:
    """Who is to look at a picture.

    Attributes:
        interrogator: Key, label or alias of `spec.registry.interrogators`.
        threshold: Tags less likely are left out; None for its own.
        character_threshold: The same for names of characters.
    """

    interrogator: str = BUILTIN
    threshold: float | None = None
    character_threshold: float | None = None


BY_BUILTIN = Interrogating()


@dataclass(frozen=True)
class _Seen:
    """An EmbeddedMessage with its vectors as arrays."""

    model: str
    dim: int
    texts: Vectors
    pictures: Vectors
    scale: float
    bias: float


class Sight:
    """Questions about pictures.

    Args:
        store: Records and embeddings.
        blobs: Pictures.
        pool: Workers, started.
        limits: For pictures from outside.
    """

    def __init__(self, store: Store, blobs: BlobStore, pool: WorkerPool, limits: UploadLimits) -> None:
        self._store = store
        self._blobs = blobs
        self._pool = pool
        self._limits = limits
        self._looking = threading.Lock()

    def interrogate(
        self, picture: Picture, *, tags: int | None = None, asked: Interrogating = BY_BUILTIN
    ) -> Interrogation:
        """See `Studio.interrogate`."""
        info = find_interrogator(asked.interrogator)
        check_threshold(info, asked.threshold, "threshold")
        check_threshold(info, asked.character_threshold, "character_threshold")
        command = InterrogateCommand(
            task_id=new_id(),
            picture=self._source(picture),
            tags=info.tags if tags is None else tags,
            interrogator=info.key,
            threshold=asked.threshold,
            character_threshold=asked.character_threshold,
        )
        answer = answer_of(self._pool.ask(command), ANSWER_TIMEOUT_S)
        if not isinstance(answer, InterrogatedMessage):
            raise WorkerError("the worker answered another question", value=answer.type)
        return answer.interrogation

    def search(self, text: str, like: Picture | None, query: RecordQuery) -> list[Found]:
        """See `Studio.search`."""
        if not text.strip() and like is None:
            raise InvalidRequestError(
                "a search by look needs words or a picture",
                field="search",
                value=text,
                allowed="words, a picture, or both",
                next_step="say what the picture shows, or give one that it resembles",
            )
        wanted = self._embed([_checked(text)] if text.strip() else [], [] if like is None else [self._source(like)])
        if like is not None:
            _check_readable(wanted.pictures[0])
        self.look(wanted.model)
        rows = [row for row in self._store.embeddings(wanted.model, replace(query, limit=_EVERY_RECORD)) if row[1]]
        if not rows:
            return []
        vectors = unpack([vector for _, vector in rows], wanted.dim)
        cosines = np.concatenate([wanted.texts, wanted.pictures]) @ vectors.T
        cosine = np.clip(cosines.mean(axis=0), -1.0, 1.0)
        best = np.argsort(-cosine, kind="stable")[: query.limit]
        return [Found(record=self._store.record(rows[i][0]), score=float(cosine[i])) for i in best]

    def score(self, picture: Picture, prompt: str) -> float:
        """See `Studio.score`."""
        seen = self._embed([_checked(prompt)], [self._source(picture)])
        _check_readable(seen.pictures[0])
        return float(sigmoid(np.float32(seen.texts[0] @ seen.pictures[0]) * seen.scale + seen.bias))

    def look(self, model: str, *, batches: int | None = None) -> int:
        """Have the workers look at the Records' pictures that this mini-CLIP has not seen; gives how many.

        Args:
            model: Its content hash.
            batches: Stop after so many.
        """
        done = 0
        with self._looking:  # a second search waits for the first one's work rather than doing it again
            while batches is None or batches > 0:
                pictures = self._store.unseen(model, BATCH)
                if not pictures:
                    break
                seen = self._embed([], [PictureSource(sha256=picture) for picture in pictures])
                packed = [pack(vector) if vector.any() else b"" for vector in seen.pictures]
                self._store.add_embeddings(seen.model, dict(zip(pictures, packed, strict=True)))
                if seen.model != model:
                    raise WorkerError(
                        "the workers have different mini-CLIPs",
                        value=seen.model[:10],
                        allowed=model[:10],
                        next_step="install the same Danqing for every worker",
                    )
                done += len(pictures)
                batches = None if batches is None else batches - 1
        return done

    def keep_up(self) -> None:
        """A little of the looking, ahead of the next search; only where somebody has searched before.

        Workers that paint are left alone.
        """
        workers = self._pool.status()
        if not any(worker.state == "ready" for worker in workers) or any(worker.inflight for worker in workers):
            return
        behind = [model for model in self._store.seeing_models() if self._store.unseen(model, 1)]
        if behind and (newest := self._embed([""], []).model) in behind:
            self.look(newest, batches=1)

    def _embed(self, texts: Sequence[str], pictures: Sequence[PictureSource]) -> _Seen:
        command = EmbedCommand(task_id=new_id(), texts=tuple(texts), pictures=tuple(pictures))
        answer = answer_of(self._pool.ask(command), ANSWER_TIMEOUT_S)
        if not isinstance(answer, EmbeddedMessage):
            raise WorkerError("the worker answered another question", value=answer.type)
        seen = _Seen(
            answer.model,
            answer.dim,
            from_text(answer.texts, answer.dim),
            from_text(answer.pictures, answer.dim),
            answer.scale,
            answer.bias,
        )
        if (len(seen.texts), len(seen.pictures)) != (len(texts), len(pictures)):
            raise WorkerError("the worker did not answer everything it was asked", value=answer.task_id)
        return seen

    def _source(self, picture: Picture) -> PictureSource:
        """What the worker is to look at: a blob by its hash, or a small copy of a file's picture."""
        if isinstance(picture, bytes):
            small = _small(check_picture(picture, self._limits).data)
            return PictureSource(data_base64=base64.b64encode(small).decode())
        return PictureSource(sha256=stored_picture(picture, self._store, self._blobs))


def _small(data: bytes) -> bytes:
    with Image.open(io.BytesIO(data)) as image:
        small = image.convert("RGBA" if image.has_transparency_data else "RGB")
    small.thumbnail((_SHOWN_PX, _SHOWN_PX), Image.Resampling.BOX)
    buffer = io.BytesIO()
    small.save(buffer, "PNG")
    return buffer.getvalue()


def _checked(text: str) -> str:
    if len(text) > MAX_TEXT_CHARS:
        raise InvalidRequestError(
            "the text is too long to be compared with a picture",
            field="search",
            value=f"{len(text)} characters",
            allowed=f"up to {MAX_TEXT_CHARS} characters; mini-CLIP reads the first 75 tokens",
            next_step="shorten it",
        )
    return text.encode("utf-8", "replace").decode()


def _check_readable(vector: Vectors) -> None:
    if not vector.any():
        raise NotFoundError("the picture cannot be read", field="image", next_step="choose another picture")
