"""The error tree.

DanqingError
├── InvalidRequestError      the person's input is wrong: a field, its value, what is allowed
│   ├── PromptSyntaxError    a prompt that cannot be read, with its position
│   └── UnsupportedError     well formed, but this model, file or build cannot do it
├── NotFoundError            a record, job, model or file that is not there
├── ConflictError            the state does not allow it (cancel a finished job, …)
├── BadFileError             a file that is damaged, too large, of the wrong kind, or not trusted
├── MissingWeightsError      weights that are not installed; says where they come from and where they go
├── OutOfMemoryError         a picture that does not fit, after every fallback
├── WorkerError              a worker died or answered nonsense
└── CancelledError           the person stopped it
"""

from __future__ import annotations

import json
from typing import Any, cast


class DanqingError(Exception):
    """Something a person can be told: what was wrong, the value, what is allowed and the next step.

    Args:
        message: What was wrong, in a sentence.
        field: The request field (dotted path) that caused it, if one did.
        value: The offending value.
        allowed: What would have been accepted, in words.
        next_step: What to do now.
    """

    code: str = "error"
    http_status: int = 500

    def __init__(
        self,
        message: str,
        *,
        field: str | None = None,
        value: Any = None,
        allowed: str | None = None,
        next_step: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.field = field
        self.value = value
        self.allowed = allowed
        self.next_step = next_step

    def __str__(self) -> str:
        """The whole message on one line, as the CLI prints it."""
        parts = [self.message]
        if self.field is not None:
            parts.append(f"field: {self.field}")
        if self.value is not None:
            shown = repr(self.value)
            parts.append(f"got: {shown if len(shown) <= 120 else shown[:117] + '...'}")
        if self.allowed is not None:
            parts.append(f"allowed: {self.allowed}")
        if self.next_step is not None:
            parts.append(f"next: {self.next_step}")
        return " · ".join(parts)

    def as_dict(self) -> dict[str, Any]:
        """The same as JSON: code, message and the keys that are set."""
        data: dict[str, Any] = {"code": self.code, "message": self.message}
        for key in ("field", "value", "allowed", "next_step"):
            item = getattr(self, key)
            if item is not None:
                data[key] = _plain(item)
        return data

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> DanqingError:
        """The error that `as_dict` described; an unknown code gives a plain DanqingError."""
        kind = _BY_CODE.get(str(data.get("code")), DanqingError)
        return kind(
            str(data.get("message", "unknown error")),
            field=data.get("field"),
            value=data.get("value"),
            allowed=data.get("allowed"),
            next_step=data.get("next_step"),
        )


class InvalidRequestError(DanqingError):
    """The person's input is wrong."""

    code = "invalid_request"
    http_status = 422


class PromptSyntaxError(InvalidRequestError):
    """A prompt that cannot be read."""

    code = "prompt_syntax"


class UnsupportedError(InvalidRequestError):
    """Well formed, but this model, file or build cannot do it."""

    code = "unsupported"


class NotFoundError(DanqingError):
    """A record, job, model or file that is not there."""

    code = "not_found"
    http_status = 404


class ConflictError(DanqingError):
    """The state does not allow it."""

    code = "conflict"
    http_status = 409


class BadFileError(DanqingError):
    """A file that is damaged, too large, of the wrong kind, or not trusted."""

    code = "bad_file"
    http_status = 415


class MissingWeightsError(DanqingError):
    """Weights that are not installed."""

    code = "missing_weights"
    http_status = 424


class OutOfMemoryError(DanqingError):
    """A picture that does not fit, after every fallback."""

    code = "out_of_memory"
    http_status = 507


class WorkerError(DanqingError):
    """A worker died or answered nonsense."""

    code = "worker"
    http_status = 502


class CancelledError(DanqingError):
    """The person stopped it."""

    code = "cancelled"
    http_status = 409


def _plain(item: Any) -> Any:
    """The value if strict JSON in UTF-8 can carry it (no NaN, no lone surrogate), else how Python writes it."""
    if not isinstance(item, (str, int, list, dict)):
        return repr(item)
    try:
        json.dumps(item, allow_nan=False, ensure_ascii=False).encode()
    except (ValueError, TypeError, RecursionError):
        return ascii(cast("Any", item))
    return cast("Any", item)


def _leaves(kind: type[DanqingError]) -> list[type[DanqingError]]:
    return [kind, *(leaf for sub in kind.__subclasses__() for leaf in _leaves(sub))]


_BY_CODE: dict[str, type[DanqingError]] = {kind.code: kind for kind in _leaves(DanqingError)}
