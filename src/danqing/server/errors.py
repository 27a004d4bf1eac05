"""Errors that only the HTTP door knows.

DanqingError
├── InvalidRequestError
│   ├── MalformedBodyError       400  the body is not JSON, or not finite JSON
│   ├── MediaTypeError           415  a body of another media type
│   └── ForeignOriginError       403  another site's page tried to change something here
├── BadFileError
│   └── BodyTooLargeError        413  more bytes than the limit
├── AuthenticationError          401  no password, or a wrong one
└── HostError                    421  a Host header that this server does not answer to
"""

from __future__ import annotations

from danqing.spec.errors import BadFileError, DanqingError, InvalidRequestError


class MalformedBodyError(InvalidRequestError):
    """The body cannot be read as JSON."""

    code = "malformed_body"
    http_status = 400


class MediaTypeError(InvalidRequestError):
    """The body has another media type than the route takes."""

    code = "media_type"
    http_status = 415


class ForeignOriginError(InvalidRequestError):
    """A page of another site asked for a change."""

    code = "foreign_origin"
    http_status = 403


class BodyTooLargeError(BadFileError):
    """More bytes than the limit."""

    code = "too_large"
    http_status = 413


class AuthenticationError(DanqingError):
    """The password is missing or wrong."""

    code = "authentication"
    http_status = 401


class HostError(DanqingError):
    """The Host header names another machine (DNS rebinding looks like this)."""

    code = "host"
    http_status = 421
