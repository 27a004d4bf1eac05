"""Training sets as the studio keeps them: whole lives, undo, captions by looking, works in threads."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "sets"))
from set_makers import lay, pack, picture

from danqing.sets.importing import ImportOptions
from danqing.spec.errors import (
    BadFileError,
    CancelledError,
    ConflictError,
    InvalidRequestError,
    NotFoundError,
)
from danqing.spec.geometry import BoxPx
from danqing.spec.sight import Background, Interrogation, Tag, Wording
from danqing.spec.training_edit import AutoCaptions, CaptionEdit, PictureChanges, SetChanges
from danqing.studio.set_shelf import plain_words
from danqing.studio.set_works import SetWorks, caption, check
from danqing.studio.training_sets import TrainingSets


class Eyes:
    """Sees an apple everywhere."""

    def __init__(self, gate=None):
        self.asked = []
        self.gate = gate
        self.looking = threading.Event()

    def interrogate(self, shown, *, tags=None, asked=None):
        self.looking.set()
        if self.gate is not None:
            assert self.gate.wait(20)
        self.asked.append((tags, asked.interrogator))
        en = Wording(
            caption="apple, 3d, red", label="apple", tags=(Tag(text="fruit", score=0.5), Tag(text="red", score=0.4))
        )
        zh = Wording(caption="苹果", label="苹果", tags=(Tag(text="水果", score=0.5),))
        return Interrogation(
            words={"en": en, "zh-Hans": zh, "zh-Hant": zh}, score=0.9, background=Background(kind="busy"), model="m"
        )


@pytest.fixture
def sets(tmp_path):
    return TrainingSets(tmp_path / "sets")


@pytest.fixture
def filled(sets):
    sets.create("Starry", recipe="梵高")
    sets.import_files("Starry", {f"{n}.png": picture(n) for n in range(3)} | {"0.txt": b"a night"})
    return sets


def test_a_set_is_begun_from_a_recipe(sets):
    made = sets.create("Starry", recipe="van-gogh", changes=SetChanges(mirror=True))
    assert (made.kind, made.trigger, made.recipe, made.mirror) == ("style", "dqvangogh", "van-gogh", True)
    assert "public domain" in made.licence_note
    for name in ("Starry", "STARRY"):
        with pytest.raises(ConflictError):
            sets.create(name)
    with pytest.raises(InvalidRequestError):
        sets.create("x", recipe="nobody")
    with pytest.raises(InvalidRequestError):
        sets.create("../x")
    with pytest.raises(InvalidRequestError):
        sets.change("Starry", SetChanges(caption_template="{who}"))
    with pytest.raises(NotFoundError):
        sets.get("none")


def test_imports_edits_and_undo(filled):
    sets = filled
    assert [(p.file, p.caption) for p in sets.get("Starry").pictures] == [
        ("0.png", "a night"),
        ("1.png", ""),
        ("2.png", ""),
    ]
    assert sets.edit_captions("Starry", CaptionEdit(action="add", text="oil"), ["1.png", "2.png"]).changed == 2
    assert sets.change_pictures("Starry", PictureChanges(repeats=4, crop_way="subject", aspect=1.0)).changed == 3
    assert sets.get("Starry").pictures[0].crop.width_px == 32
    assert sets.remove_pictures("Starry", ["1.png"]).changed == 1
    assert sets.summary("Starry").undo == "removal of 1 pictures"
    for _ in range(3):
        sets.undo("Starry")
    assert [p.caption for p in sets.get("Starry").pictures] == ["a night", "", ""]
    assert sets.undo("Starry").what == "import of 3 pictures"
    assert sets.get("Starry").pictures == ()
    with pytest.raises(ConflictError):
        sets.undo("Starry")
    assert [p.name for p in (sets.folder("Starry") / "pictures").iterdir()] == []


def test_refusals_change_nothing(filled):
    before = filled.get("Starry")
    beyond = BoxPx(left_px=0, top_px=0, right_px=999, bottom_px=9)
    refused = [
        (NotFoundError, lambda: filled.remove_pictures("Starry", ["0.png", "none.png"])),
        (InvalidRequestError, lambda: filled.change_pictures("Starry", PictureChanges(crop=beyond))),
        (InvalidRequestError, lambda: filled.change_pictures("Starry", PictureChanges(crop_way="centre", whole=True))),
        (BadFileError, lambda: filled.set_mask("Starry", "0.png", b"no picture")),
        (BadFileError, lambda: filled.import_zip("Starry", pack({"../x.png": picture(8)}))),
        (NotFoundError, lambda: filled.picture_file("Starry", "0.png", "masks")),
        (NotFoundError, lambda: filled.import_path("Starry", Path("/nowhere"))),
    ]
    for kind, act in refused:
        with pytest.raises(kind) as told:
            act()
        assert told.value.message
    assert filled.get("Starry") == before


def test_folders_zips_and_single_files_come_in(sets, tmp_path):
    sets.create("a")
    lay(tmp_path / "in", {"2_sks dog/1.png": picture(1)})
    (tmp_path / "b.zip").write_bytes(pack({"x.png": picture(2), "x.txt": "two"}).getvalue())
    lay(tmp_path, {"one.png": picture(3), "one.txt": "three"})
    for source in ("in", "b.zip", "one.png"):
        sets.import_path("a", tmp_path / source)
    class_pictures = ImportOptions(regularisation=True)
    sets.import_files("a", {"r.png": picture(4)}, class_pictures)
    found = sets.get("a")
    assert [(p.file, p.caption, p.repeats) for p in found.pictures] == [
        ("1.png", "sks dog", 2),
        ("one.png", "three", 1),
        ("r.png", "", 1),
        ("x.png", "two", 1),
    ]
    assert [p.file for p in found.pictures if p.regularisation] == ["r.png"]
    assert found.trigger == "sks"


def test_masks_and_maps_are_given_and_taken_back(filled):
    assert filled.set_mask("Starry", "0.png", picture(7)).mask == "0.png"
    assert filled.set_mask("Starry", "0.png", picture(8)).mask == "0-2.png"
    assert filled.set_conditioning("Starry", "0.png", picture(9)).conditioning == "0.png"
    assert filled.picture_file("Starry", "0.png", "masks").is_file()
    filled.undo("Starry")
    filled.undo("Starry")
    assert filled.picture("Starry", "0.png").mask == "0.png"
    assert filled.set_mask("Starry", "0.png", None).mask is None
    assert filled.thumbnail("Starry", "0.png")[:4] == b"RIFF"


def test_sets_are_renamed_removed_and_restored(filled):
    assert filled.rename("Starry", "夜").name == "夜"
    filled.create("b")
    with pytest.raises(ConflictError):
        filled.rename("b", "夜")
    filled.remove("夜")
    assert [row.name for row in filled.summaries()] == ["b"]
    assert filled.removed() == ["夜"]
    assert len(filled.restore("夜").pictures) == 3
    filled.remove("夜")
    assert TrainingSets(filled.root, undo_window_s=-1).purge() == 1
    with pytest.raises(NotFoundError):
        filled.restore("夜")


def test_a_set_that_cannot_be_read_says_so_in_the_list(filled):
    (filled.folder("Starry") / "set.json").write_text("{")
    (row,) = filled.summaries()
    assert "not JSON" in row.error


def test_two_at_once_lose_nothing(filled):
    def add(n):
        filled.edit_captions("Starry", CaptionEdit(action="add", text=f"tag{n}"))

    threads = [threading.Thread(target=add, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {tag.tag for tag in filled.tags("Starry")} == {"a night", *(f"tag{n}" for n in range(8))}


def test_captions_by_looking(filled):
    eyes = Eyes()
    note = caption(filled, "Starry", eyes, AutoCaptions(form="tags", language="zh-Hans"))
    assert note == "2 captions"
    assert [p.caption for p in filled.get("Starry").pictures] == ["a night", "苹果, 水果", "苹果, 水果"]
    caption(filled, "Starry", eyes, AutoCaptions(keep="add", form="both", leave_out="3d", interrogator="WD tagger"))
    assert filled.get("Starry").pictures[0].caption == "a night, apple, red, fruit"
    assert eyes.asked[-1] == (None, "wd14")
    filled.undo("Starry")
    assert filled.get("Starry").pictures[0].caption == "a night"
    with pytest.raises(InvalidRequestError):
        caption(filled, "Starry", eyes, AutoCaptions(threshold=0.5))


def test_captions_that_are_stopped_keep_what_is_done(filled):
    def stop(done, total):
        if done == 1:
            raise CancelledError("stopped")

    with pytest.raises(CancelledError):
        caption(filled, "Starry", Eyes(), AutoCaptions(keep="replace"), stop)
    assert [p.caption for p in filled.get("Starry").pictures] == ["apple, 3d, red", "", ""]


def test_works_run_in_threads_one_for_each_set(filled):
    gate = threading.Event()
    eyes = Eyes(gate)
    works = SetWorks(filled, eyes)
    begun = works.start_captions("Starry", AutoCaptions(keep="replace"))
    assert eyes.looking.wait(20)  # what is written by hand before it has read the set is replaced, after that it stays
    with pytest.raises(ConflictError):
        works.start_check("Starry")
    filled.edit_captions("Starry", CaptionEdit(action="set", text="by hand"), ["0.png"])
    gate.set()
    ended = _ended(works, begun.id)
    assert (ended.state, ended.done, ended.note) == ("done", 3, "2 captions")
    assert filled.get("Starry").pictures[0].caption == "by hand"
    checked = _ended(works, works.start_check("Starry", 512).id)
    assert (checked.state, checked.note) == ("done", "3 of 3 pictures have something against them")
    assert [one.id for one in works.of_set("Starry")] == [checked.id, ended.id]
    with pytest.raises(ConflictError):
        works.cancel(ended.id)
    with pytest.raises(NotFoundError):
        works.get("none")


def test_a_check_is_kept_and_is_no_edit(filled):
    before = filled.summary("Starry").undo
    found = check(filled, "Starry", 16)
    assert [p.complaints for p in found.pictures] == [(), ("no_caption",), ("no_caption",)]
    assert filled.summary("Starry").undo == before
    assert filled.summary("Starry").complaints == {"no_caption": 2}


def test_prompts_become_plain_words():
    assert plain_words("a (red:1.3) cat <lora:x:1>, AND sky") == "a red cat, sky"


def _ended(works, work_id):
    for _ in range(1000):
        if works.get(work_id).state != "running":
            break
        threading.Event().wait(0.01)
    return works.get(work_id)
