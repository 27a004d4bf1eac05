"""`danqing dataset` on the command line."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "sets"))
from set_makers import lay, picture


@pytest.fixture
def paintings(tmp_path):
    return lay(tmp_path / "in", {"a.png": picture(1), "a.txt": "a cat", "b.png": picture(2), "bad.png": b"x"})


def test_from_recipe_to_buckets_and_back(danqing, paintings):
    made = danqing("dataset", "new", "Wash", "--recipe", "张大千", "--mirror", "--json")
    assert made.json["set"]["trigger"] == "dqzhangdaqian"
    told = danqing("dataset", "new", "Wash2", "--recipe", "zhang-daqian")
    assert "Not free" in told.err
    taken = danqing("dataset", "import", "Wash", str(paintings))
    assert taken.code == 0, taken.err
    assert taken.out.strip() == "Wash: 2 pictures (plain): 1 captions, 1 left out"
    assert "bad.png" in taken.err
    checked = danqing("dataset", "check", "Wash", "--json").json
    assert {one["file"]: one["complaints"] for one in checked["complaints"]}["b.png"] == ["small", "no_caption"]
    rows = danqing("dataset", "buckets", "Wash", "--size", "128", "--step", "16", "--json").json["buckets"]
    assert sum(row["pictures"] for row in rows) == 2
    assert danqing("dataset", "crop", "Wash", "--way", "centre", "--aspect", "1:1", "--json").json["changed"] == 2
    assert "cropped" in danqing("dataset", "show", "Wash").out
    assert danqing("dataset", "pictures", "Wash", "--repeats", "3", "--file", "a.png", "--json").json["changed"] == 1
    assert danqing("dataset", "remove", "Wash", "a.png", "--json").json["changed"] == 1
    assert danqing("dataset", "undo", "Wash", "--json").json["what"] == "removal of 1 pictures"
    assert (
        danqing("dataset", "change", "Wash", "--rename", "Ink", "--trigger", "sks", "--json").json["set"]["name"]
        == "Ink"
    )
    assert danqing("dataset", "remove", "Ink").code == 0
    assert danqing("dataset", "restore", "Ink", "--json").json["set"]["trigger"] == "sks"
    assert [row["name"] for row in danqing("dataset", "--json").json["sets"]] == ["Ink", "Wash2"]
    assert "he-jiaying" in danqing("dataset", "recipes").out


def test_captions(danqing, paintings):
    assert danqing("dataset", "import", "Cats", str(paintings), "--new").code == 0
    made = danqing("dataset", "captions", "auto", "Cats", "--form", "tags", "--json")
    assert made.code == 0, made.err
    assert made.json["note"] == "1 captions"
    assert made.json["captions"]["b.png"]
    assert danqing("dataset", "captions", "edit", "Cats", "--add", "oil", "--first", "--json").json["changed"] == 2
    counted = danqing("dataset", "captions", "tags", "Cats", "--json").json["tags"]
    assert {"tag": "oil", "count": 2} in counted
    danqing("dataset", "change", "Cats", "--trigger", "sks")
    reads = danqing("dataset", "captions", "template", "Cats", "{caption} by {trigger}", "--json").json["reads"]
    assert reads["a.png"] == "oil, a cat by sks"


def test_pictures_of_the_gallery_join(danqing, studio):
    painted = danqing("paint", "a red apple", "--seed", "3", "--json")
    assert painted.code == 0, painted.err
    record = painted.json["pictures"][0]["record"]
    taken = danqing("dataset", "import", "Apples", "--record", record, "--new", "--json")
    assert taken.json["imports"][0]["captions"] == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ("show", "none"),
        ("new", "../x"),
        ("new", "x", "--kind", "zoo"),
        ("new", "x", "--recipe", "nobody"),
        ("new", "x", "--trigger", "y" * 99),
        ("new", "x", "--template", "{who}"),
        ("import", "none"),
        ("import", "none", "/nowhere"),
        ("crop", "none", "--way", "up"),
        ("crop", "none", "--aspect", "wide"),
        ("captions", "edit", "none"),
        ("captions", "edit", "none", "--add", "a", "--remove", "b"),
        ("captions", "auto", "none", "--form", "poem"),
        ("undo", "none"),
        ("builtin", "--out", "x", "--sizes", "9999"),
    ],
)
def test_refusals_say_what_is_allowed(danqing, arguments):
    told = danqing("dataset", *arguments, "--json")
    assert told.code == 2
    if arguments[0] != "builtin":
        assert told.error["message"]
