"""A reviewer behind an OpenAI-compatible address (vLLM, Ollama, LM Studio …). No torch.

The address comes from the settings alone, never from a Request; it is asked only because a person asked for a review
by it. The key goes into one header and nowhere else: not into logs, errors, Records or answers. Redirects are not
followed.
"""

from __future__ import annotations

import base64
import io
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast
from urllib.parse import urlsplit

import httpx
from PIL import Image

from danqing.review.asking import SYSTEM, question, shrunk
from danqing.review.base import OPENAI
from danqing.review.findings import Findings
from danqing.review.grammar import Frame, Scale, parse_answer, plain
from danqing.spec.errors import DanqingError, InvalidRequestError, WorkerError

MAX_BODY_BYTES = 2 * 2**20
MAX_TOKENS = 1200
_RETRIES = 2
_WAIT_S = (0.5, 2.0)
_LONGEST_WAIT_S = 10.0
_JPEG_QUALITY = 88
_AGAIN = frozenset({408, 429, 500, 502, 503, 504})
_REFUSED = frozenset({401, 403})
_SHOWN_CHARS = 200


@dataclass(frozen=True)
class Endpoint:
    """Where to ask.

    Attributes:
        url: Base address, up to and with `/v1`.
        model: As the server names it.
        key: Bearer token; None for none.
        timeout_s: For one whole answer, retries apart.
        scale: What the model's coordinates count.
    """

    url: str
    model: str
    key: str | None = field(default=None, repr=False)
    timeout_s: float = 120.0
    scale: Scale = "auto"

    @property
    def host(self) -> str:
        """The part of the address that may be shown: a password inside it is left out."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.hostname or '?'}{f':{parts.port}' if parts.port else ''}{parts.path}"


class OpenAIReviewer:
    """Asks a vision model by HTTP.

    Args:
        endpoint: Where.
        transport: For tests of this class alone; the network if unset.
        sleep: How to wait between tries.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.endpoint = endpoint
        self._transport = transport
        self._sleep = sleep

    def review(self, picture: Image.Image, brief: str) -> Findings:
        """See `base.Reviewer`.

        Raises:
            InvalidRequestError: The server refuses key, model or address.
            WorkerError: It cannot be reached, is too slow, redirects, or answers nonsense that is no chat completion.
        """
        shown = shrunk(picture)
        text = self._ask(self._body(shown, brief))
        frame = Frame(picture.width, picture.height, shown.width, shown.height, self.endpoint.scale)
        parsed = parse_answer(text, frame)
        note = parsed.note or ("" if parsed.suggestions else "nothing to change")
        return Findings(
            reviewer=OPENAI,
            model=plain(self.endpoint.model)[:200],
            suggestions=parsed.suggestions,
            note=self._safe(note)[:4000],
        )

    def _body(self, shown: Image.Image, brief: str) -> dict[str, Any]:
        buffer = io.BytesIO()
        shown.save(buffer, "JPEG", quality=_JPEG_QUALITY)
        url = f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
        content = [
            {"type": "image_url", "image_url": {"url": url}},
            {"type": "text", "text": question(brief, shown.width, shown.height)},
        ]
        return {
            "model": self.endpoint.model,
            "messages": [{"role": "system", "content": SYSTEM}, {"role": "user", "content": content}],
            "temperature": 0.0,
            "max_tokens": MAX_TOKENS,
            "stream": False,
        }

    def _ask(self, body: dict[str, Any]) -> str:
        """The model's words."""
        key = self.endpoint.key
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        with httpx.Client(
            timeout=self.endpoint.timeout_s, follow_redirects=False, transport=self._transport, headers=headers
        ) as client:
            for tried in range(_RETRIES + 1):
                last = tried == _RETRIES
                try:
                    status, data, wait_s = self._post(client, body)
                except httpx.ConnectError as error:
                    if last:
                        raise self._trouble(f"it cannot be reached: {error}") from error
                    wait_s = None
                except (httpx.HTTPError, httpx.InvalidURL, UnicodeError, ValueError) as error:
                    raise self._trouble(_why(error)) from error
                else:
                    if status not in _AGAIN or last:
                        return self._words(status, data)
                self._sleep(_WAIT_S[tried] if wait_s is None else wait_s)
        raise self._trouble("it did not answer")

    def _post(self, client: httpx.Client, body: dict[str, Any]) -> tuple[int, bytes, float | None]:
        """Status, body and the wait that the server asks for; reads no more than the limit and the time allow."""
        until = time.monotonic() + self.endpoint.timeout_s
        with client.stream("POST", f"{self.endpoint.url}/chat/completions", json=body) as response:
            data = bytearray()
            for chunk in response.iter_bytes():
                data += chunk
                if len(data) > MAX_BODY_BYTES:
                    raise self._trouble(f"its answer is larger than {MAX_BODY_BYTES} bytes")
                if time.monotonic() > until:
                    raise self._trouble(f"its answer took longer than {self.endpoint.timeout_s:g} s")
            return response.status_code, bytes(data), _retry_after(response.headers.get("retry-after"))

    def _words(self, status: int, data: bytes) -> str:
        if 300 <= status < 400:
            raise self._trouble(f"it redirects ({status}), and the picture goes only where you said")
        if status in _REFUSED:
            raise InvalidRequestError(
                "the review endpoint refuses the key",
                field="reviewer",
                value=f"{status} from {self.endpoint.host}",
                next_step="set DANQING_REVIEW_KEY to a key that it takes",
            )
        if status != 200:
            raise self._trouble(f"it answers {status}: {self._excerpt(data)}")
        text = _content(data)
        if text is None:
            raise self._trouble(f"its answer is no chat completion: {self._excerpt(data)}")
        return text

    def _excerpt(self, data: bytes) -> str:
        return plain(self._safe(data[: 8 * _SHOWN_CHARS].decode("utf-8", "replace")))[:_SHOWN_CHARS]

    def _safe(self, text: str) -> str:
        """A server may repeat what it was sent: the key is taken out of everything that is shown."""
        key = self.endpoint.key
        return text.replace(key, "…") if key else text

    def _trouble(self, what: str) -> DanqingError:
        return WorkerError(
            f"the review endpoint gives no review: {self._safe(what)}",
            field="reviewer",
            value=self.endpoint.host,
            next_step="check that it runs, and DANQING_REVIEW_URL, DANQING_REVIEW_MODEL and DANQING_REVIEW_TIMEOUT_S",
        )


def _content(data: bytes) -> str | None:
    """`choices[0].message.content` of a chat completion: a text, or parts with texts."""
    try:
        answer: Any = json.loads(data)
        content = answer["choices"][0]["message"]["content"]
    except (ValueError, RecursionError, KeyError, IndexError, TypeError):
        return None
    if isinstance(content, list):
        parts = [cast("dict[str, Any]", part) for part in cast("list[Any]", content) if isinstance(part, dict)]
        content = "\n".join(str(part.get("text", "")) for part in parts)
    return "" if content is None else content if isinstance(content, str) else None


def _retry_after(value: str | None) -> float | None:
    try:
        return None if value is None else min(max(float(value), 0.0), _LONGEST_WAIT_S)
    except ValueError:
        return None


def _why(error: Exception) -> str:
    if isinstance(error, httpx.TimeoutException):
        return "it takes too long"
    return f"{type(error).__name__}: {error}"[:300]
