"""The part of the Studio that looks at pictures."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from danqing.spec.sight import Found, Interrogation
from danqing.store.base import RecordQuery
from danqing.studio.sight import BY_BUILTIN, Interrogating, Sight

LARGEST_PAGE = 1000


class Seeing(ABC):
    """Interrogate, search by look, score. Every method raises MissingWeightsError where mini-CLIP is not installed."""

    @property
    @abstractmethod
    def _sight(self) -> Sight:
        """The open studio's sight."""

    def interrogate(
        self, picture: bytes | str, *, tags: int | None = None, asked: Interrogating = BY_BUILTIN
    ) -> Interrogation:
        """Tags, colours and a caption.

        Args:
            picture: A file's bytes, `record:<id>` or `sha256:<hex>`.
            tags: At most so many; None for what the interrogator gives by itself.
            asked: Who is to look, and what counts as seen.

        Raises:
            InvalidRequestError: There is no such interrogator, or it takes no threshold.
            MissingWeightsError: It is not installed.
        """
        return self._sight.interrogate(picture, tags=tags, asked=asked)

    def search(self, text: str = "", *, like: bytes | str | None = None, limit: int = 20, **only: Any) -> list[Found]:
        """Records by look, best first: by words, by a picture like theirs, or by both (the mean of the cosines).

        Args:
            text: What the picture shows, in any of the three languages.
            like: A picture, as for `interrogate`.
            limit: How many.
            **only: `kind`, `model`, `before`, `include_deleted`, as for `records`.
        """
        return self._sight.search(text, like, RecordQuery(limit=min(max(limit, 0), LARGEST_PAGE), **only))

    def score(self, picture: bytes | str, prompt: str) -> float:
        """From 0 to 1, how likely mini-CLIP holds it that this prompt belongs to this picture (σ of SigLIP's logit).

        Good for ranking pictures of one prompt; numbers of different mini-CLIPs cannot be compared.
        """
        return self._sight.score(picture, prompt)
