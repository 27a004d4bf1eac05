"""Text files as people's systems write them."""

from __future__ import annotations

from danqing.spec.errors import BadFileError

_BOMS = ((b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))


def decode_text(data: bytes, name: str) -> str:
    """UTF-8 (with or without a mark), UTF-16 with a mark, or GB 18030, which Chinese Windows writes.

    Raises:
        BadFileError: It is none of these.
    """
    encoding = next((encoding for mark, encoding in _BOMS if data.startswith(mark)), None)
    for guess in (encoding,) if encoding else ("utf-8-sig", "gb18030"):
        try:
            text = data.decode(guess)
        except UnicodeDecodeError:
            continue
        if "\x00" not in text:
            return text
    raise BadFileError(
        "the text cannot be read", value=name, allowed="text in UTF-8", next_step="save it again in UTF-8"
    )
