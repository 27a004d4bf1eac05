from __future__ import annotations

import io
import struct
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from studio_helpers import picture

from danqing.spec.errors import BadFileError
from danqing.studio.uploads import UploadLimits, check_picture

LIMITS = UploadLimits(max_bytes=1_000_000, max_pixels=1_000_000)


@pytest.mark.parametrize(("form", "media_type"), [("PNG", "image/png"), ("JPEG", "image/jpeg"), ("WEBP", "image/webp")])
def test_good_pictures_are_kept_as_they_are(form: str, media_type: str):
    data = picture(40, 30, form)
    checked = check_picture(data, LIMITS)
    assert (checked.data, checked.width_px, checked.height_px, checked.media_type) == (data, 40, 30, media_type)


@pytest.mark.parametrize("form", ["JPEG", "WEBP", "PNG"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(form: str, orientation: int):
    exif = Image.Exif()
    exif[0x0112] = orientation
    checked = check_picture(picture(40, 30, form, exif=exif), LIMITS)
    assert (checked.width_px, checked.height_px) == ((30, 40) if orientation >= 5 else (40, 30))
    with Image.open(io.BytesIO(checked.data)) as image:
        assert image.size == (checked.width_px, checked.height_px)
        assert image.getexif().get(0x0112, 1) == 1


def bomb(width_px: int, height_px: int) -> bytes:
    """A PNG that says it is huge and has next to no data."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width_px, height_px, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.parametrize("size", [(1001, 1000), (60_000, 60_000), (2**31 - 1, 2**31 - 1)])
def test_decompression_bombs_are_not_decoded(size: tuple[int, int], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Image.Image, "load", lambda *_: pytest.fail("decoded"))
    with pytest.raises(BadFileError, match="pixels") as caught:
        check_picture(bomb(*size), LIMITS)
    assert "1,000,000" in str(caught.value.allowed)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"hello",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        picture(8, 8, "GIF"),
        picture(8, 8, "TIFF"),
        picture(8, 8, "BMP"),
        picture(64, 64, "PNG")[:-30],
        picture(64, 64, "JPEG")[:100],
        picture(64, 64, "WEBP")[:60],
        bomb(100, 100),
        b"\0" * 2_000_000,
    ],
    ids=["empty", "text", "svg", "gif", "tiff", "bmp", "cut png", "cut jpeg", "cut webp", "no data", "large"],
)
def test_bad_files_are_refused_with_a_way_out(data: bytes):
    with pytest.raises(BadFileError) as caught:
        check_picture(data, LIMITS)
    assert caught.value.next_step
    assert caught.value.allowed


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_damaged_bytes_give_our_error_and_no_other(data: st.DataObject):
    good = data.draw(st.sampled_from([picture(24, 24, form) for form in ("PNG", "JPEG", "WEBP")]))
    place = data.draw(st.integers(0, len(good) - 1))
    bad = good[:place] + data.draw(st.binary(max_size=20)) + good[place + data.draw(st.integers(0, 20)) :]
    try:
        checked = check_picture(bad, LIMITS)
    except BadFileError:
        return
    assert checked.width_px * checked.height_px <= LIMITS.max_pixels
