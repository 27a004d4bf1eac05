"""What a picture reference names once the studio has resolved it."""

from __future__ import annotations

from danqing.spec.errors import InvalidRequestError


def content_of(reference: str, field: str) -> str:
    """The content hash, 64 hex digits, of a resolved picture reference.

    Raises:
        InvalidRequestError: It is no `sha256:` reference; `field` says where it stood.
    """
    kind, _, value = reference.partition(":")
    if kind != "sha256":
        raise InvalidRequestError(
            "a picture must be resolved to its content before planning",
            field=field,
            value=reference,
            allowed="sha256:<hex>",
            next_step="submit the request through the studio, which resolves record ids",
        )
    return value
