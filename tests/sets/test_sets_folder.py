"""Sets on the disk: round trips, captions that were edited by hand, hostile lists, undo."""

from __future__ import annotations

import json
import threading

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from set_makers import lay, picture

from danqing.sets.atomic import locked, write_all
from danqing.sets.folder import find_sets, picture_path, read_set, set_digest, write_set
from danqing.sets.history import KEPT_EDITS, commit, last_edit, undo
from danqing.sets.names import checked_set_name, free_name, is_plain_name
from danqing.spec.errors import BadFileError, ConflictError, DanqingError, InvalidRequestError, NotFoundError
from danqing.spec.geometry import BoxPx
from danqing.spec.training_set import TrainingPicture, TrainingSet

captions = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=200).map(str.strip)


def one(file="cat.png", **more):
    return TrainingPicture(file=file, sha256="0" * 64, width_px=48, height_px=32, **more)


def a_set(folder, *pictures, **more):
    found = TrainingSet(name=folder.name, pictures=pictures, **more)
    lay(folder / "pictures", {each.file: picture(number) for number, each in enumerate(pictures)})
    write_set(folder, found)
    return found


@given(words=st.lists(captions, max_size=4), trigger=captions.map(lambda text: text[:80]), repeats=st.integers(0, 9))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_set_comes_back_as_it_was_written(tmp_path_factory, words, trigger, repeats):
    folder = tmp_path_factory.mktemp("s") / "丹青"
    box = BoxPx(left_px=1, top_px=2, right_px=30, bottom_px=32)
    pictures = [one(f"{n}.png", caption=text, crop=box, repeats=repeats) for n, text in enumerate(words)]
    written = a_set(folder, *pictures, trigger=trigger, mirror=True)
    assert read_set(folder) == written
    assert find_sets(folder.parent) == [folder]
    assert set_digest(read_set(folder)) == set_digest(written)


def test_a_caption_edited_by_hand_wins_and_a_picture_taken_away_is_gone(tmp_path):
    folder = tmp_path / "a"
    a_set(folder, one("cat.png", caption="a cat"), one("dog.png", caption="a dog", mask="dog.png"))
    (folder / "pictures" / "cat.txt").write_bytes("屋顶上的一只黑猫".encode("gb18030"))
    assert [p.caption for p in read_set(folder).pictures] == ["屋顶上的一只黑猫", "a dog"]
    assert read_set(folder).pictures[1].mask is None  # there is no such file
    (folder / "pictures" / "dog.png").unlink()
    (folder / "pictures" / "cat.txt").unlink()
    assert [(p.file, p.caption) for p in read_set(folder).pictures] == [("cat.png", "a cat")]
    folder.rename(tmp_path / "b")
    assert read_set(tmp_path / "b").name == "b"


@pytest.mark.parametrize("name", ["../out.png", "/etc/passwd", "a/b.png", "..", ".hidden", "c:\\x.png", "a\x00.png"])
@pytest.mark.parametrize("field", ["file", "mask", "conditioning"])
def test_names_that_lead_out_are_refused(tmp_path, name, field):
    folder = tmp_path / "a"
    a_set(folder, one())
    data = json.loads((folder / "set.json").read_text())
    data["pictures"][0][field] = name
    (folder / "set.json").write_text(json.dumps(data))
    with pytest.raises(BadFileError) as told:
        read_set(folder)
    assert told.value.next_step


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        '{"name": "a", "pictures": 3}',
        '{"name": "a", "surprise": 1}',
        "[" * 100_000,
        '{"name": "a", "pictures": [{"file": "a.png", "sha256": "' + "0" * 64 + '", "width_px": 1, "height_px": 1,'
        '"crop": {"left_px": 5, "top_px": 0, "right_px": 2, "bottom_px": 2}}]}',
        '{"name": "a", "pictures": ['
        + ", ".join(['{"file": "a.png", "sha256": "' + "0" * 64 + '", "width_px": 1, "height_px": 1}'] * 2)
        + "]}",
    ],
)
def test_broken_lists_are_told_of(tmp_path, text):
    lay(tmp_path, {"set.json": text})
    with pytest.raises(BadFileError):
        read_set(tmp_path)


def test_numbers_that_a_trainer_would_choke_on_are_refused(tmp_path):
    folder = tmp_path / "a"
    a_set(folder, one())
    good = json.loads((folder / "set.json").read_text())
    beyond = {"left_px": 0, "top_px": 0, "right_px": 49, "bottom_px": 32}
    for change in ({"width_px": 10**9}, {"crop": beyond}, {"width_px": 0}, {"repeats": -1}):
        good_picture = {**good["pictures"][0], **change}
        (folder / "set.json").write_text(json.dumps({**good, "pictures": [good_picture]}))
        with pytest.raises(BadFileError):
            read_set(folder)


def test_what_is_not_there_or_lies_elsewhere(tmp_path):
    with pytest.raises(NotFoundError):
        read_set(tmp_path / "none")
    assert find_sets(tmp_path / "none") == []
    folder = tmp_path / "a"
    a_set(folder, one("cat.png"), one("dog.png"))
    secret = tmp_path / "secret.txt"
    secret.write_text("secret")
    (folder / "pictures" / "cat.txt").symlink_to(secret)
    (folder / "pictures" / "dog.png").unlink()
    (folder / "pictures" / "dog.png").symlink_to(secret)
    found = read_set(folder)
    assert [(p.file, p.caption) for p in found.pictures] == [("cat.png", "")]
    with pytest.raises(BadFileError):
        picture_path(folder, one("dog.png"))
    write_set(folder, found.model_copy(update={"pictures": (one("cat.png", caption="mine"),)}))
    assert secret.read_text() == "secret"
    (folder / "masks").rename(folder / "m")
    (folder / "masks").symlink_to(tmp_path)
    with pytest.raises(BadFileError):
        read_set(folder)


def test_a_file_is_whole_or_as_it_was(tmp_path):
    lay(tmp_path, {"a": "old", "b": "old"})

    class Bad(bytes):
        pass

    with pytest.raises(OSError, match="directory"):
        write_all({tmp_path / "a": b"new", tmp_path / "none" / "b": b"new"})
    assert (tmp_path / "a").read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]
    write_all({tmp_path / str(n): b"x" for n in range(70)})
    assert (tmp_path / "69").read_text() == "x"


def test_a_lock_holds(tmp_path):
    order = []

    def second():
        with locked(tmp_path):
            order.append("second")

    with locked(tmp_path):
        thread = threading.Thread(target=second)
        thread.start()
        thread.join(0.1)
        order.append("first")
    thread.join(5)
    assert order == ["first", "second"]


@given(st.text(max_size=80), st.sampled_from([".png", ".jpg"]))
def test_any_name_becomes_a_plain_one_that_is_free(wanted, suffix):
    first = free_name(wanted, suffix, set())
    assert is_plain_name(first)
    assert first.endswith(suffix)
    second = free_name(wanted, suffix, {first.removesuffix(suffix).lower()})
    assert second.lower() != first.lower()


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\\b", "x" * 81, " a", "a.", "\ud800", "😀" * 70, "a\n"])
def test_names_that_no_set_can_have(name):
    with pytest.raises(InvalidRequestError):
        checked_set_name(name)


def test_edits_are_taken_back_one_by_one(tmp_path):
    folder = tmp_path / "a"
    first = a_set(folder, one("cat.png", caption="a"), one("dog.png", caption="b"))
    second = commit(folder, first, _caption(first, "cat.png", "aa"), "captions")
    third = commit(folder, second, second.model_copy(update={"pictures": second.pictures[:1], "trigger": "sks"}), "out")
    assert not (folder / "pictures" / "dog.png").exists()
    assert last_edit(folder).what == "out"
    back, report = undo(folder, read_set(folder))
    assert (back, report.undone, report.kept) == (second, 1, 0)
    assert read_set(folder) == second
    assert undo(folder, back)[0] == first
    assert third.trigger == "sks"
    with pytest.raises(ConflictError):
        undo(folder, first)


def test_what_was_changed_since_stays(tmp_path):
    folder = tmp_path / "a"
    first = a_set(folder, one("cat.png", caption="a"), one("dog.png", caption="b"))
    second = _caption(_caption(first, "cat.png", "x"), "dog.png", "y")
    commit(folder, first, second, "captions")
    (folder / "pictures" / "dog.txt").write_text("by hand")
    back, report = undo(folder, read_set(folder))
    assert [p.caption for p in back.pictures] == ["a", "by hand"]
    assert (report.undone, report.kept) == (1, 1)


def test_complaints_are_no_edit_and_only_the_last_edits_are_kept(tmp_path):
    folder = tmp_path / "a"
    current = a_set(folder, one("cat.png", complaints=("no_caption", "blurred")), one("dog.png"))
    assert commit(folder, current, current, "nothing") == current
    assert last_edit(folder) is None
    current = commit(folder, current, _caption(current, "cat.png", "a cat"), "caption")
    assert current.pictures[0].complaints == ("blurred",)
    current = commit(folder, current, current.model_copy(update={"pictures": current.pictures[:1]}), "out")
    assert (folder / "removed" / "pictures-dog.png").is_file()
    for number in range(KEPT_EDITS):
        current = commit(folder, current, _caption(current, "cat.png", f"{number}"), "caption")
    assert len(list((folder / "history").iterdir())) == KEPT_EDITS
    assert list((folder / "removed").iterdir()) == []


def test_a_folder_that_cannot_be_written_is_told_of(tmp_path):
    lay(tmp_path, {"a": "a file where a folder should be"})
    with pytest.raises(DanqingError) as told:
        write_set(tmp_path / "a", TrainingSet(name="a"))
    assert told.value.next_step


def _caption(training_set, file, text):
    pictures = tuple(p.model_copy(update={"caption": text}) if p.file == file else p for p in training_set.pictures)
    return training_set.model_copy(update={"pictures": pictures})
