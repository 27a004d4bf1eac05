"""The interface of reviewers by model, and the list of them. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

from PIL import Image

from danqing.review.findings import Findings
from danqing.spec.errors import InvalidRequestError
from danqing.spec.registry.lookup import match, unknown

BUILTIN: Final = "builtin"
OPENAI: Final = "openai"
QWEN: Final = "qwen"
MAX_BRIEF_CHARS: Final = 4000


class Reviewer(Protocol):
    """Looks at a picture with the brief beside it."""

    def review(self, picture: Image.Image, brief: str, /) -> Findings:
        """What to change; boxes are in pixels of this picture.

        Raises:
            DanqingError: The reviewer cannot be asked. An answer that cannot be read is no error: it gives a note.
        """
        ...


@dataclass(frozen=True)
class ReviewerInfo:
    """One reviewer.

    Attributes:
        key: Stable name in code and requests.
        name: The label a person sees.
        aliases: Other names.
        hint: What it is, in a sentence.
    """

    key: str
    name: str
    aliases: tuple[str, ...]
    hint: str


REVIEWERS: Final[tuple[ReviewerInfo, ...]] = (
    ReviewerInfo(
        BUILTIN, "Danqing", ("mini_clip", "danqing"), "mini-CLIP against the brief, and checks of the pixels; offline."
    ),
    ReviewerInfo(
        OPENAI,
        "Vision endpoint",
        ("endpoint", "vllm", "ollama", "lm_studio"),
        "A vision-language model behind an OpenAI-compatible address (vLLM, Ollama, LM Studio …).",
    ),
    ReviewerInfo(
        QWEN, "Qwen-VL", ("qwen2_vl", "qwen2.5_vl", "qwen_vl"), "Qwen2-VL or Qwen2.5-VL from the folder models/VLM."
    ),
)


def find_reviewer(name: str) -> ReviewerInfo:
    """The reviewer of this key, label or alias, in any case.

    Raises:
        InvalidRequestError: There is none; it names the nearest.

    >>> find_reviewer("Ollama").key
    'openai'
    """
    found = match(REVIEWERS, name)
    if found is None:
        raise unknown(REVIEWERS, name, field="reviewer", what="reviewer")
    return found


def checked_brief(text: str) -> str:
    """The brief without blanks around it and without halves of signs.

    Raises:
        InvalidRequestError: It is empty or too long.
    """
    brief = text.encode("utf-8", "replace").decode().strip()
    if brief and len(brief) <= MAX_BRIEF_CHARS:
        return brief
    raise InvalidRequestError(
        "a review needs a brief to compare the picture with" if not brief else "the brief is too long",
        field="brief",
        value=f"{len(brief)} characters",
        allowed=f"1 to {MAX_BRIEF_CHARS} characters",
        next_step="say what the picture is to show" if not brief else "shorten it",
    )
