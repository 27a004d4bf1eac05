"""How the command line tells of errors."""

from __future__ import annotations

import json

import typer

from danqing.spec.errors import BadFileError, CancelledError, DanqingError, InvalidRequestError, NotFoundError

FAILED = 1
BAD_INPUT = 2
INTERRUPTED = 130
_INPUT_ERRORS = (InvalidRequestError, BadFileError, NotFoundError)


def exit_code(error: Exception) -> int:
    """2 for what the person can correct, 130 for what they stopped, 1 for the rest."""
    if isinstance(error, CancelledError):
        return INTERRUPTED
    return BAD_INPUT if isinstance(error, _INPUT_ERRORS) else FAILED


def report(error: Exception, *, as_json: bool) -> int:
    """Tell of an error on stderr; never with a traceback.

    Args:
        error: What was raised.
        as_json: As one JSON object, `{"error": {code, message, …}}`.

    Returns:
        The exit code.
    """
    known = error if isinstance(error, DanqingError) else _unforeseen(error)
    if as_json:
        typer.echo(json.dumps({"error": known.as_dict()}, ensure_ascii=False), err=True)
    else:
        typer.secho(_words(known), fg=typer.colors.RED, err=True)
    return exit_code(known)


def _unforeseen(error: Exception) -> DanqingError:
    if isinstance(error, OSError) and error.strerror:
        return DanqingError(
            f"{error.strerror}: {error.filename}" if error.filename else error.strerror,
            next_step="check the path, its permissions and the free space",
        )
    return DanqingError(
        f"something went wrong in Danqing itself: {type(error).__name__}: {error}",
        next_step="run it again with DANQING_DEBUG=1 to see where",
    )


def _words(error: DanqingError) -> str:
    lines = [f"error: {error.message}"]
    for label, value in (
        ("where", error.field),
        ("got", None if error.value is None else _shown(error.value)),
        ("allowed", error.allowed),
        ("next", error.next_step),
    ):
        if value is not None:
            lines.append(f"  {label}: {value}")
    return "\n".join(lines)


def _shown(value: object) -> str:
    text = value if isinstance(value, str) else repr(value)
    text = text.encode("unicode_escape").decode("ascii") if not text.isprintable() else text
    return text if len(text) <= 120 else f"{text[:117]}..."
