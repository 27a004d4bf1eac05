from __future__ import annotations

import hashlib
import io
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from danqing.spec.errors import BadFileError, InvalidRequestError, NotFoundError
from danqing.store import blobs as blobs_module
from danqing.store.blobs import BlobStore
from danqing.store.ids import new_id
from danqing.store.thumbnails import make_thumbnail, thumbnail_of_bytes


@pytest.fixture
def blobs(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path)


def files(blobs: BlobStore) -> list[Path]:
    return [path for path in blobs.root.rglob("*") if path.is_file()]


@given(data=st.binary(max_size=200), media_type=st.sampled_from(["image/png", "image/jpeg", "image/webp"]))
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_goes_in_comes_out(blobs: BlobStore, data: bytes, media_type: str):
    sha256 = blobs.put(data, media_type)
    assert sha256 == hashlib.sha256(data).hexdigest()
    assert blobs.read(sha256, verify=True) == data
    assert blobs.put(data, media_type) == sha256


def test_the_place_and_the_type(blobs: BlobStore):
    sha256 = blobs.put(b"x", "image/webp")
    path = blobs.path(sha256)
    assert path == blobs.root / sha256[:2] / sha256[2:4] / f"{sha256}.webp"
    assert blobs.media_type(sha256) == "image/webp"
    assert files(blobs) == [path]


def test_the_order_of_a_durable_write(blobs: BlobStore, monkeypatch: pytest.MonkeyPatch):
    """The file is on the disk before it has its name, and the name before `put` returns."""
    steps: list[str] = []
    real_sync, real_replace = os.fsync, Path.replace

    def sync(handle: int) -> None:
        steps.append("sync folder" if Path(f"/proc/self/fd/{handle}").is_dir() else "sync file")
        real_sync(handle)

    def replace(self: Path, target: Path) -> Path:
        assert self.parent == target.parent
        steps.append("rename")
        return real_replace(self, target)

    monkeypatch.setattr(blobs_module.os, "fsync", sync)
    monkeypatch.setattr(Path, "replace", replace)
    blobs.put(b"x")
    assert steps[:3] == ["sync file", "rename", "sync folder"]


def test_a_full_disk_leaves_nothing_behind(blobs: BlobStore, monkeypatch: pytest.MonkeyPatch):
    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(blobs_module.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        blobs.put(b"x")
    assert files(blobs) == []


def test_many_writers_of_the_same_bytes(blobs: BlobStore):
    with ThreadPoolExecutor(8) as threads:
        assert len(set(threads.map(lambda _: blobs.put(b"same"), range(32)))) == 1
    assert len(files(blobs)) == 1


def test_damage_is_noticed(blobs: BlobStore):
    sha256 = blobs.put(b"good")
    blobs.path(sha256).write_bytes(b"bad")
    assert blobs.read(sha256) == b"bad"
    with pytest.raises(BadFileError, match="damaged"):
        blobs.read(sha256, verify=True)


@pytest.mark.parametrize("name", ["", "0" * 64, "0" * 63, "../../../etc/passwd", "A" * 64, "0" * 64 + "\n"])
def test_names_that_are_no_blob(blobs: BlobStore, name: str):
    with pytest.raises(NotFoundError):
        blobs.path(name)
    assert not blobs.exists(name)
    assert not blobs.remove(name)


def test_other_types_are_refused(blobs: BlobStore):
    with pytest.raises(InvalidRequestError, match="image/png"):
        blobs.put(b"x", "text/html")


def test_removing_spares_what_was_just_stored_again(blobs: BlobStore):
    sha256 = blobs.put(b"x")
    os.utime(blobs.path(sha256), (0, 0))
    blobs.put(b"x")
    assert not blobs.remove(sha256, unused_for_s=3600)
    os.utime(blobs.path(sha256), (0, 0))
    assert blobs.remove(sha256, unused_for_s=3600)
    assert not blobs.exists(sha256)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"])
def test_thumbnails(mode: str):
    image = Image.new(mode, (1000, 500))
    with Image.open(io.BytesIO(make_thumbnail(image))) as small:
        assert small.format == "WEBP"
        assert small.size == (256, 128)


def test_thumbnails_do_not_enlarge():
    buffer = io.BytesIO()
    Image.new("RGB", (20, 10)).save(buffer, "PNG")
    with Image.open(io.BytesIO(thumbnail_of_bytes(buffer.getvalue()))) as small:
        assert small.size == (20, 10)


def test_ids_sort_by_time_and_are_unique():
    with ThreadPoolExecutor(8) as threads:
        ids = list(threads.map(lambda _: new_id(), range(2000)))
    assert len(set(ids)) == 2000
    row = [new_id() for _ in range(1000)]
    assert row == sorted(row)
    assert {len(name) for name in ids} == {26}
