"""`danqing explore`, with a studio in memory."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image


def test_a_sheet_and_its_records(danqing):
    answer = danqing("explore", "red apple, 3d", "--x", "CFG Scale=1-3", "--y", "Seed=1,2", "-o", "s.png", "--json")
    assert answer.code == 0, answer.err
    told = answer.json
    assert len(told["pictures"]) == len({p["record"] for p in told["pictures"]}) == 6
    with Image.open("s.png") as sheet:
        assert sheet.size == (told["width_px"], told["height_px"])


def test_the_axes_are_listed(danqing):
    answer = danqing("explore", "x", "--axes")
    assert answer.code == 0, answer.err
    assert "Prompt S/R" in answer.out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "needs an axis"),
        (("--x", "Seed"), "no axis"),
        (("--x", "Sede=1-3"), "did you mean"),
        (("--x", "Seed=1-3", "--z", "Steps=1,2"), "second"),
        (("--x", "Seed=1-3", "-o", "."), "file name"),
        (("--x", "Prompt S/R=whale,fox"), "does not stand in the prompt"),
        (("--x", "Steps=0"), "Steps '0'"),
    ],
)
def test_mistakes_are_told_before_anything_is_painted(danqing, studio, arguments, words):
    answer = danqing("explore", "a cat", *arguments)
    assert answer.code == 2, answer
    assert words in answer.err
    assert "Traceback" not in answer.err
    assert studio.jobs() == []
    assert not list(Path().glob("**/*.png"))


def test_pictures_join_a_project_by_its_name_or_id(danqing, studio):
    project = studio.create_project("Tea house")
    for called, seeds in (("tea house", "1,2"), (project.id, "3")):
        answer = danqing("explore", "a fox", "--x", f"Seed={seeds}", "--project", called, "-o", "s.png", "--json")
        assert answer.code == 0, answer.err
        assert answer.json["project"] == project.id
    assert len(studio.version_tree(project.id).versions) == 3
    wrong = danqing("explore", "a fox", "--x", "Seed=1", "--project", "Coffee", "--json")
    assert (wrong.code, wrong.error["field"], wrong.error["value"]) == (2, "--project", "Coffee")
    assert len(studio.jobs()) == 3
