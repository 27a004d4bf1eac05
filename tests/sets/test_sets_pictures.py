"""Buckets, captions, checks and crops."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFilter
from set_makers import lay, picture

from danqing.sets.buckets import bucket_table, make_buckets, place, place_picture
from danqing.sets.captions import check_template, count_tags, edited, fill, says, tags_of, trainer_caption
from danqing.sets.checks import BLUR_BELOW, check_set, sharpness_of
from danqing.sets.crop import suggest_crop
from danqing.spec.errors import InvalidRequestError
from danqing.spec.geometry import BoxPx
from danqing.spec.registry.style_projects import STYLE_PROJECTS, find_style_project
from danqing.spec.sight import LANGUAGES
from danqing.spec.training_edit import CaptionEdit
from danqing.spec.training_set import TrainingPicture, TrainingSet

sides = st.integers(1, 9000)


def one(file="a.png", **more):
    return TrainingPicture(**{"file": file, "sha256": "0" * 64, "width_px": 640, "height_px": 480} | more)


@given(size=st.integers(64, 2048), step=st.sampled_from([8, 16, 32, 64]))
def test_buckets_are_of_one_area_and_of_whole_steps(size, step):
    buckets = make_buckets(size, step)
    side = size // step * step
    assert any((b.width_px, b.height_px) == (side, side) for b in buckets)
    assert len(set(buckets)) == len(buckets)
    assert {(b.height_px, b.width_px) for b in buckets} == {(b.width_px, b.height_px) for b in buckets}
    for bucket in buckets:
        assert bucket.width_px % step == bucket.height_px % step == 0
        assert (
            bucket.pixels
            <= side * side
            < (min(bucket.width_px, bucket.height_px)) * (max(bucket.width_px, bucket.height_px) + step)
        )
        assert 1 / 4 <= bucket.aspect <= 4


@given(width=sides, height=sides, size=st.sampled_from([128, 512, 1024]))
def test_a_picture_goes_where_it_loses_least(width, height, size):
    buckets = make_buckets(size, 16 if size == 128 else 64)
    placed = place(width, height, buckets)
    box = placed.box
    assert 0 <= box.left_px < box.right_px <= width
    assert 0 <= box.top_px < box.bottom_px <= height
    kept = {b: min(width / height / b.aspect, b.aspect / (width / height)) for b in buckets}
    assert kept[placed.bucket] == max(kept.values())
    if min(width, height) > 200:
        assert abs(box.width_px / box.height_px / placed.bucket.aspect - 1) < 0.02
        assert abs(placed.lost - (1 - kept[placed.bucket])) < 0.02


def test_crops_and_repeats_count_in_the_table():
    crop = BoxPx(left_px=100, top_px=50, right_px=400, bottom_px=350)
    buckets = make_buckets(256)
    placed = place_picture(one(crop=crop), buckets)
    assert placed.box == crop
    (row, other) = bucket_table([one(crop=crop, repeats=3), one(width_px=100, height_px=400)], buckets)
    assert (str(row.bucket), row.enlarged) == ("128x512", 1)
    assert (str(other.bucket), other.pictures, other.shown, other.lost) == ("256x256", 1, 3, 0.0)
    kin = [one(file=f"{i}.png", repeats=i) for i in (0, 2, 0)]
    assert [row.alone for row in bucket_table(kin, buckets)] == ["2.png"]
    assert [row.alone for row in bucket_table([*kin, one(file="d.png")], buckets)] == [None]
    with pytest.raises(InvalidRequestError):
        make_buckets(32)


words = st.text(st.characters(codec="ascii", categories=("Ll", "Zs")), max_size=30)


@given(
    caption=words,
    trigger=words,
    kind=words,
    template=st.sampled_from(["{trigger}, {caption}", "{caption}, {class}", "a {class} by {trigger}, {caption}"]),
)
def test_templates_leave_no_empty_places(caption, trigger, kind, template):
    filled = fill(template, caption, trigger, kind)
    assert ", ," not in filled
    assert filled == filled.strip(" ,")
    assert "{" not in filled
    if caption.strip() and "trigger" in template and trigger.strip():
        assert says(filled, " ".join(trigger.split())) or "  " in trigger or trigger != trigger.strip()


def test_what_the_trainer_reads():
    found = TrainingSet(name="a", trigger="dqx", class_words="dog", caption_template="{trigger} {class}, {caption}")
    assert trainer_caption(found, one(caption="on grass")) == "dqx dog, on grass"
    assert trainer_caption(found, one(caption="a dqx, sitting")) == "dog, a dqx, sitting"
    assert trainer_caption(found, one(caption="on grass", regularisation=True)) == "dog, on grass"
    assert fill("{trigger}，{caption}", "一只猫", "丹青") == "丹青，一只猫"
    for bad in ("{trigger.__class__}", "{name}", "nothing"):
        with pytest.raises(InvalidRequestError):
            check_template(bad)


def test_edits_of_tags():
    caption = "Red, cat，red, 猫"
    cases = [
        (("set", " new "), "new"),
        (("add", "cat, dog"), "Red, cat, red, 猫, dog"),
        (("remove", "RED"), "cat, 猫"),
        (("remove", "fish"), caption),
        (("replace_text", "猫", "狗"), "Red, cat，red, 狗"),
        (("replace", "cat", "lion, 猫"), "Red, lion, 猫"),
    ]
    for (action, text, *by), wanted in cases:
        assert edited(caption, CaptionEdit(action=action, text=text, by=by[0] if by else "")) == wanted
    assert edited("b", CaptionEdit(action="add", text="a", where="start")) == "a, b"
    assert edited("a, b", CaptionEdit(action="replace", text="b")) == "a"
    with pytest.raises(InvalidRequestError):
        CaptionEdit(action="remove", text=" , ")
    with pytest.raises(InvalidRequestError):
        edited("x" * 3999, CaptionEdit(action="add", text="dog"))
    counts = count_tags([one(caption="Cat, dog, cat"), one(caption="cat")])
    assert [(c.tag.lower(), c.count) for c in counts] == [("cat", 2), ("dog", 1)]
    assert tags_of(" ,，") == []


def test_a_check_finds_copies_blur_small_and_broken(tmp_path):
    sharp = Image.open(io.BytesIO(picture(1, (600, 600))))
    blurred = Image.open(io.BytesIO(picture(2, (600, 600)))).filter(ImageFilter.GaussianBlur(8))
    smaller = sharp.resize((300, 300))
    brighter = sharp.point(lambda value: min(255, int(value * 1.15)))
    files = {}
    for name, image in {"a": sharp, "b": smaller, "c": brighter, "d": blurred}.items():
        buffer = io.BytesIO()
        image.save(buffer, "JPEG" if name == "b" else "PNG", quality=60)
        files[f"pictures/{name}.png"] = buffer.getvalue()
    lay(tmp_path, files | {"pictures/e.png": b"broken", "pictures/f.png": picture(5, (600, 500))})
    pictures = [one(f"{name}.png", caption="x" * (name != "f"), width_px=600, height_px=600) for name in "abcdef"]
    told = []
    found = check_set(
        tmp_path, TrainingSet(name="a", pictures=pictures), size_px=512, tell=lambda done, total: told.append(done)
    )
    assert {p.file[0]: p.complaints for p in found.pictures} == {
        "a": (),
        "b": ("small", "duplicate"),
        "c": ("duplicate",),
        "d": ("blurred",),
        "e": ("unreadable",),
        "f": ("no_caption",),
    }
    assert {p.file: p.like for p in found.pictures if p.like} == {"b.png": "a.png", "c.png": "a.png"}
    assert (found.pictures[1].width_px, told) == (300, [1, 2, 3, 4, 5, 6])  # it was exchanged by hand


@given(st.floats(0.2, 1.0), st.integers(0, 100))
@settings(max_examples=15, deadline=None)
def test_sharpness_does_not_depend_on_contrast_or_size(contrast, lift):
    base = Image.open(io.BytesIO(picture(3, (400, 400))))
    pale = base.point(lambda value: int(value * contrast * 0.6 + lift))
    assert sharpness_of(pale) == pytest.approx(sharpness_of(base), rel=0.35)
    assert sharpness_of(base.resize((900, 900), Image.Resampling.NEAREST)) > BLUR_BELOW
    assert sharpness_of(base.filter(ImageFilter.GaussianBlur(9))) < BLUR_BELOW
    assert sharpness_of(Image.new("RGB", (50, 50), "red")) == 0.0


@given(
    x=st.integers(0, 3), aspect=st.sampled_from([0.5, 1.0, 1.5]), way=st.sampled_from(["subject", "tight", "centre"])
)
@settings(max_examples=30, deadline=None)
def test_a_crop_is_inside_and_holds_what_stands_out(x, aspect, way):
    pixels = np.full((200, 400, 3), 240, np.uint8)
    pixels[70:130, 20 + 80 * x : 80 + 80 * x] = (200, 30, 30)
    box = suggest_crop(Image.fromarray(pixels), aspect, way)
    assert box.right_px <= 400
    assert box.bottom_px <= 200
    assert abs(box.width_px / box.height_px - aspect) < 0.05
    if way == "subject" and aspect == 1.0:
        assert box.left_px <= 30 + 80 * x
        assert box.right_px >= 70 + 80 * x


def test_the_style_projects_are_whole():
    assert [p.key for p in STYLE_PROJECTS] == ["van-gogh", "monet", "renoir", "zhang-daqian", "he-jiaying", "hokusai"]
    assert {p.key for p in STYLE_PROJECTS if not p.free} == {"zhang-daqian", "he-jiaying"}
    assert len({p.trigger for p in STYLE_PROJECTS}) == 6
    for project in STYLE_PROJECTS:
        for said in (project.names, project.looks, project.collect, project.rights, *(w.title for w in project.works)):
            assert set(said) == set(LANGUAGES)
            assert all(said.values())
        assert {one.base for one in project.recommended} == {"builtin", "sd1", "sdxl"}
        check_template(project.caption_template)
        assert all(says(fill(prompt, "", project.trigger), project.trigger) for prompt in project.prompts)
        assert find_style_project(project.names["zh-Hant"].split("·")[-1]).key == project.key
    assert "Not free" in find_style_project("张大千").rights["en"]
