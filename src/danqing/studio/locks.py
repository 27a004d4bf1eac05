"""Tokens, passwords and the passes that a right password buys. Only hashes are kept, compared in constant time."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
import unicodedata
from datetime import UTC, datetime, timedelta

from danqing.store.projects_base import Secrets

TOKEN_BYTES = 24
"""192 random bits: 32 letters of base64url."""
PASS_LASTS = timedelta(hours=12)
_COST, _BLOCK, _PARALLEL = 2**14, 8, 1  # 16 MiB and some 50 ms a try (RFC 7914, interactive use)
_SALT_BYTES, _KEY_BYTES = 16, 32


def new_token() -> str:
    """A token that nobody can guess, for a URL."""
    return secrets.token_urlsafe(TOKEN_BYTES)


def token_hash(token: str) -> str:
    """What is kept of a token. It is random, so that one plain hash is enough."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def hash_password(password: str) -> str:
    """What is kept of a password: `scrypt$N$r$p$salt$key`."""
    salt = secrets.token_bytes(_SALT_BYTES)
    key = _scrypt(password, salt, (_COST, _BLOCK, _PARALLEL))
    return "$".join(("scrypt", str(_COST), str(_BLOCK), str(_PARALLEL), _text(salt), _text(key)))


def is_password(password: str, kept: str) -> bool:
    """Whether a password is the one whose hash was kept."""
    _, cost, block, parallel, salt, key = kept.split("$")
    found = _scrypt(password, base64.b64decode(salt), (int(cost), int(block), int(parallel)))
    return hmac.compare_digest(found, base64.b64decode(key))


def make_pass(share_id: str, kept: Secrets, moment: datetime) -> str:
    """What a browser shows instead of the password for the next `PASS_LASTS`; dead when token or password change."""
    until = int((moment + PASS_LASTS).timestamp())
    return f"{until}.{_sign(share_id, kept, until)}"


def is_pass(shown: str, share_id: str, kept: Secrets, moment: datetime) -> bool:
    """Whether a pass opens this share now."""
    head, _, signature = shown.partition(".")
    if not (head.isascii() and head.isdecimal() and len(head) <= 12):
        return False
    right = _sign(share_id, kept, int(head))
    fits = hmac.compare_digest(signature.encode("utf-8", "replace"), right.encode())
    return fits and datetime.fromtimestamp(int(head), UTC) > moment


def _sign(share_id: str, kept: Secrets, until: int) -> str:
    # The password's hash never leaves the server, so that it can be the key.
    key = (kept.password_hash or "").encode()
    message = f"{share_id}|{kept.token_hash}|{until}".encode()
    return hmac.new(key, message, hashlib.sha256).hexdigest()


def _scrypt(password: str, salt: bytes, cost: tuple[int, int, int]) -> bytes:
    # The same word typed on another system may come in other code points.
    plain = unicodedata.normalize("NFC", password).encode("utf-8", "surrogatepass")
    return hashlib.scrypt(plain, salt=salt, n=cost[0], r=cost[1], p=cost[2], dklen=_KEY_BYTES, maxmem=64 * 2**20)


def _text(data: bytes) -> str:
    return binascii.b2a_base64(data, newline=False).decode()
