"""Imports: the layouts of other programs, masks, hostile ZIPs."""

from __future__ import annotations

import io
import json
import stat
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from set_makers import lay, pack, picture, sticker

from danqing.sets.folder import mask_path, read_set, write_set
from danqing.sets.importing import ImportOptions, take_pictures
from danqing.sets.layouts import plan_import
from danqing.sets.pictures import open_mask, open_rgb, ready_picture
from danqing.sets.sources import FolderSource, GivenSource, ImportLimits, ZipSource
from danqing.spec.errors import BadFileError, InvalidRequestError, NotFoundError
from danqing.spec.training_set import TrainingSet


def given_source(files, title=""):
    ready = {name: (lambda c=c: c.encode() if isinstance(c, str) else c) for name, c in sorted(files.items())}
    return GivenSource(ready, title=title)


def taken(folder, files, title="", **options):
    found, report = take_pictures(
        folder, TrainingSet(name=folder.name), given_source(files, title), ImportOptions(**options)
    )
    write_set(folder, found)
    assert read_set(folder).pictures == found.pictures
    return found, report


def test_pictures_with_captions_beside_them(tmp_path):
    found, report = taken(
        tmp_path,
        {
            "a.png": picture(1),
            "a.txt": "a cat\n",
            "sub/a.jpg": picture(2, kind="JPEG"),
            "sub/a.caption": "一只狗",
            "b.bmp": picture(3, kind="BMP"),
            "c.png": picture(1),
            "bad.png": b"no picture",
            "notes.md": "x",
        },
    )
    assert report.layout == "plain"
    assert {p.file: p.caption for p in found.pictures} == {"a.png": "a cat", "b.png": "", "a-2.jpg": "一只狗"}
    assert {s.file: s.reason for s in report.skipped} == {
        "bad.png": "the file is no picture, or a damaged one",
        "c.png": "the same picture is there already: a.png",
    }
    assert (tmp_path / "pictures" / "a.txt").read_text() == "a cat"
    again, more = take_pictures(tmp_path, found, given_source({"a.png": picture(4)}), ImportOptions())
    assert [p.file for p in again.pictures][-1] == "a-3.png"
    assert more.added == ("a-3.png",)


def test_kohya_folders(tmp_path):
    files = {
        "img/10_sks dog/1.png": picture(1),
        "img/10_sks dog/2.png": picture(2),
        "img/10_sks dog/2.txt": "sks dog on grass",
        "img/3_ohwx cat/1.png": picture(3),
        "reg/1_dog/1.png": picture(4),
    }
    found, report = taken(tmp_path, files)
    assert (report.layout, found.kind, found.trigger, found.class_words) == ("kohya", "subject", "sks", "dog")
    assert [(p.caption, p.repeats, p.regularisation) for p in found.pictures] == [
        ("sks dog", 10, False),
        ("sks dog on grass", 10, False),
        ("ohwx cat", 3, False),
        ("dog", 1, True),
    ]
    assert "ohwx cat" in report.notes[0]
    only = plan_import(given_source({"1.png": picture(1)}, "5_blue vase"))
    assert (only.pictures[0].repeats, only.trigger, only.class_words) == (5, "blue", "vase")


def test_lists_of_captions(tmp_path):
    kohya = {"/home/me/train/a.png": {"caption": "a cat", "tags": "cat, red"}, "b": {"tags": "dog"}}
    files = {
        "a.png": picture(1),
        "b.png": picture(2),
        "c.png": picture(3),
        "d.png": picture(4),
        "metadata.json": json.dumps(kohya),
        "captions.json": json.dumps({"c.png": "a fish"}),
        "metadata.jsonl": json.dumps({"file_name": "d.png", "text": "a fox"}) + "\n",
    }
    found, report = taken(tmp_path, files)
    assert [p.caption for p in found.pictures] == ["a cat, cat, red", "dog", "a fish", "a fox"]
    assert report.captions == 4


def test_masks_beside_in_a_folder_and_of_the_alpha_channel(tmp_path):
    white = io.BytesIO()
    Image.new("L", (48, 32), 255).save(white, "PNG")
    files = {
        "a.png": picture(1),
        "a-masklabel.png": white.getvalue(),
        "b.png": picture(2),
        "masks/b.png": picture(9, (24, 16)),
        "c.png": sticker(),
    }
    found, report = taken(tmp_path, files, alpha_masks=True)
    assert {p.file: p.mask for p in found.pictures} == {"a.png": "a.png", "b.png": "b.png", "c.png": "c.png"}
    assert report.masks == 3
    by_name = {p.file: p for p in found.pictures}
    assert open_mask(tmp_path, by_name["a.png"]).getextrema() == (255, 255)
    assert open_mask(tmp_path, by_name["b.png"]).size == (48, 32)
    alpha = open_mask(tmp_path, by_name["c.png"])
    assert (alpha.getpixel((2, 2)), alpha.getpixel((38, 2))) == (255, 0)
    assert open_rgb(tmp_path, by_name["c.png"]).getpixel((38, 2)) == (255, 255, 255)
    without, _ = taken(tmp_path / "n", {"c.png": sticker()})
    assert mask_path(tmp_path, without.pictures[0]) is None


@pytest.mark.parametrize(
    "files",
    [
        {"images/1.png": picture(1), "conditioning/1.png": picture(2), "images/1.txt": "a cat"},
        {"1.png": picture(1), "conditioning/1.jpg": picture(2, kind="JPEG"), "1.txt": "a cat"},
        {
            "source/1.png": picture(2),
            "target/1.png": picture(1),
            "prompt.json": json.dumps({"source": "source/1.png", "target": "target/1.png", "prompt": "a cat"}),
        },
        {
            "conditioning_images/x.png": picture(2),
            "images/1.png": picture(1),
            "train.jsonl": json.dumps(
                {"image": "images/1.png", "conditioning_image": "conditioning_images/x.png", "text": "a cat"}
            ),
        },
    ],
)
def test_controlnet_sets(tmp_path, files):
    found, report = taken(tmp_path, files)
    assert (report.layout, found.kind) == ("control", "control")
    (only,) = found.pictures
    assert (only.caption, Path(only.conditioning).stem) == ("a cat", "1")
    assert report.conditioning == 1


def test_pairs_of_refine_export(tmp_path):
    line = {"brief": "a red apple", "before": "pictures/A.png", "after": "pictures/B.png"}
    files = {"pictures/A.png": picture(1), "pictures/B.png": picture(2), "pairs.jsonl": json.dumps(line)}
    found, report = taken(tmp_path, files)
    assert (report.layout, found.kind) == ("pairs", "pairs")
    assert [(p.file, p.conditioning, p.caption) for p in found.pictures] == [("B.png", "B.png", "a red apple")]


def test_a_set_of_ours_comes_whole(tmp_path):
    first, _ = taken(tmp_path / "a", {"5_sks dog/1.png": picture(1), "5_sks dog/1-masklabel.png": picture(2)})
    write_set(tmp_path / "a", first.model_copy(update={"licence_note": "mine", "mirror": True}))
    second, report = take_pictures(
        tmp_path / "b", TrainingSet(name="b"), FolderSource(tmp_path / "a", ImportLimits()), ImportOptions()
    )
    assert report.layout == "danqing"
    assert second.pictures == first.pictures
    assert (second.trigger, second.mirror, second.licence_note) == ("sks", True, "mine")


def test_pictures_are_made_ready():
    turned = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 20)).save(turned, "JPEG", exif=exif)
    ready = ready_picture(turned.getvalue())
    assert (ready.width_px, ready.height_px, ready.suffix) == (20, 40, ".png")
    deep = io.BytesIO()
    Image.new("I;16", (8, 8), 65535).save(deep, "PNG")
    with Image.open(io.BytesIO(ready_picture(deep.getvalue()).data)) as eight:
        assert eight.convert("RGB").getpixel((0, 0)) == (255, 255, 255)
    cmyk = picture(kind="JPEG", mode="CMYK")
    assert ready_picture(cmyk).suffix == ".png"
    with pytest.raises(BadFileError) as told:
        ready_picture(picture(), max_pixels=100)
    assert "48×32" in told.value.value


@given(st.binary(max_size=200))
@settings(max_examples=60, deadline=None)
def test_any_bytes_are_told_of(data):
    with pytest.raises(BadFileError):
        ready_picture(data)
    with pytest.raises(BadFileError):
        ZipSource(io.BytesIO(data), ImportLimits())


def test_a_zip_comes_in_with_names_as_chinese_windows_writes_them(tmp_path):
    buffer = pack({"__MACOSX/x.png": picture(1), ".DS_Store": "x", "a.png": picture(2)})
    with zipfile.ZipFile(buffer, "a") as packed:
        info = zipfile.ZipInfo("猫.png".encode("gb18030").decode("cp437"))
        info.flag_bits = 0
        packed.writestr(info, picture(3))
    data = buffer.getvalue().replace("猫.png".encode("gb18030").decode("cp437").encode(), "猫.png".encode("gb18030"))
    with ZipSource(pack({"猫.png": picture(1)}), ImportLimits()) as source:
        assert source.names == ("猫.png",)
    buffer.seek(0)
    with ZipSource(buffer, ImportLimits()) as source:
        found, report = take_pictures(tmp_path, TrainingSet(name="a"), source, ImportOptions())
    assert len(found.pictures) == 2
    assert not report.skipped
    assert data


@pytest.mark.parametrize(
    "name", ["../a.png", "/a.png", "a/../../b.png", "..\\b.png", "\\b.png", "C:\\b.png", "c:/b.png"]
)
def test_a_zip_that_leads_out_is_refused(name):
    with pytest.raises(BadFileError) as told:
        ZipSource(pack({"ok.png": picture(), name: picture(1)}), ImportLimits())
    assert told.value.message == "a name in the ZIP leads out of it"


def test_bombs_links_and_broken_entries(tmp_path):
    with pytest.raises(BadFileError, match="too large when"):
        ZipSource(pack({"a.png": bytes(5000)}), ImportLimits(max_total_bytes=4000))
    with pytest.raises(BadFileError, match="too many files"):
        ZipSource(pack({f"{n}.png": b"" for n in range(5)}), ImportLimits(max_files=4))
    buffer = pack({"a.png": picture()})
    with zipfile.ZipFile(buffer, "a") as packed:
        link = zipfile.ZipInfo("b.png")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        packed.writestr(link, "/etc/passwd")
    buffer.seek(0)
    with ZipSource(buffer, ImportLimits(max_file_bytes=100)) as source:
        assert source.names == ("a.png",)
        found, report = take_pictures(tmp_path, TrainingSet(name="a"), source, ImportOptions())
    assert (found.pictures, report.skipped[0].reason) == ((), "the file is too large")
    broken = bytearray(pack({"a.png": picture()}).getvalue())
    broken[60:70] = bytes(10)
    with ZipSource(io.BytesIO(bytes(broken)), ImportLimits()) as source:
        assert "damaged" in take_pictures(tmp_path, TrainingSet(name="a"), source, ImportOptions())[1].skipped[0].reason
    secret = bytearray(pack({"a.png": picture()}).getvalue())
    place = secret.rindex(b"PK\x01\x02")
    secret[place + 8] |= 1
    with pytest.raises(BadFileError, match="password"):
        ZipSource(io.BytesIO(bytes(secret)), ImportLimits())


def test_links_in_folders_are_left_and_broken_lists_told_of(tmp_path):
    lay(tmp_path / "in", {"a.png": picture(), ".hidden/b.png": picture(1)})
    (tmp_path / "in" / "c.png").symlink_to(tmp_path / "in" / "a.png")
    assert FolderSource(tmp_path / "in", ImportLimits()).names == ("a.png",)
    with pytest.raises(NotFoundError):
        FolderSource(tmp_path / "none", ImportLimits())
    for name in ("metadata.json", "pairs.jsonl", "captions.json"):
        with pytest.raises(BadFileError) as told:
            plan_import(given_source({"a.png": picture(), name: "{"}))
        assert told.value.value == name


def test_an_import_that_is_stopped_leaves_nothing(tmp_path):
    def stop(done, total):
        if done == 2:
            raise InvalidRequestError("stopped")

    files = {f"{n}.png": picture(n) for n in range(4)}
    with pytest.raises(InvalidRequestError):
        take_pictures(tmp_path, TrainingSet(name="a"), given_source(files), ImportOptions(tell=stop))
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
