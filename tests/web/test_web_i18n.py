"""Three languages with the same keys, all of them used, none missing, nothing hard-coded."""

from __future__ import annotations

import contextlib
import re

import pytest

from danqing.annotators.pose_drawing import POINTS
from danqing.spec.errors import DanqingError
from danqing.spec.errors import InvalidRequestError as Invalid
from danqing.spec.registry.annotators import find_annotator
from danqing.spec.registry.control_filters import CONTROL_FILTERS
from danqing.spec.registry.samplers import SAMPLERS
from danqing.spec.registry.schedules import SCHEDULES
from danqing.web.assets import CANVAS, PROJECTS, TRAINING
from danqing.web.controls import DRAWN, KINDS
from danqing.web.errors import explain
from danqing.web.fields import CONTROLS
from danqing.web.form import KEPT_PATHS, NAMES
from danqing.web.i18n import LANGUAGES, negotiate, say, words

WEB = CANVAS.parents[1]
SCRIPTS = sorted([*CANVAS.glob("*.js"), *PROJECTS.glob("*.js"), *TRAINING.glob("*.js")])


def test_the_three_files_have_the_same_keys():
    keys = {language: set(words(language)) for language in LANGUAGES}
    assert keys["en"] == keys["zh-Hans"] == keys["zh-Hant"]


def test_placeholders_and_blanks():
    for key in words("en"):
        found = [set(re.findall(r"{(\w+)}", words(language)[key])) for language in LANGUAGES]
        assert found[0] == found[1] == found[2], key
        assert all(words(language)[key].strip() for language in LANGUAGES), key


@pytest.mark.parametrize(("language", "charset"), [("zh-Hans", "gb2312"), ("zh-Hant", "big5")])
def test_each_chinese_uses_its_own_characters(language, charset):
    """GB 2312 has no traditional-only character, Big5 no simplified-only one."""
    for key, text in words(language).items():
        for character in re.findall(r"[\u4e00-\u9fff]", text):
            assert character.encode(charset, "ignore"), f"{key}: {character}"


def test_every_control_has_words():
    for language in LANGUAGES:
        for control in CONTROLS.values():
            assert control.label(language)
            assert control.tip(language)
            assert len(control.choices(language)) == len(control.options)
        for name in NAMES:
            assert say(language, f"f.{name}")
        for info in SAMPLERS:
            assert say(language, f"h.sampler.{info.key}")
        for info in SCHEDULES:
            assert say(language, f"h.schedule.{info.key}")


def test_every_kept_field_has_a_name():
    for path in KEPT_PATHS - {"parent"}:
        for language in LANGUAGES:
            assert say(language, f"k.{path}")


def test_every_kind_of_map_has_words_and_so_have_its_settings():
    for key in (key for keys in KINDS.values() for key in keys):
        settings = [] if key in DRAWN else find_annotator(key).parameters
        wanted = [f"c.kind.{key}", f"c.kind.{key}.tip"]
        wanted += [f"c.param.{key}.{item.key}{end}" for item in settings for end in ("", ".tip")]
        wanted += [f"c.param.{key}.{item.key}.{word}" for item in settings for word in item.choices]
        for language in LANGUAGES:
            assert all(say(language, one) for one in wanted)
        for item in settings:
            assert say("en", f"c.param.{key}.{item.key}") == item.name
            assert say("en", f"c.param.{key}.{item.key}.tip") == item.hint


def test_every_control_type_has_words():
    for language in LANGUAGES:
        names = [say(language, f"c.type.{info.key}") for info in CONTROL_FILTERS]
        assert len(set(names)) == len(CONTROL_FILTERS)


def test_every_joint_has_a_name():
    for language in LANGUAGES:
        names = [say(language, f"c.pose.point.{name}") for name in POINTS]
        assert len(set(names)) == 18


def test_every_error_kind_has_words():
    kinds = [DanqingError, *DanqingError.__subclasses__(), *Invalid.__subclasses__()]
    for kind in (kind for kind in kinds if kind.__module__ == "danqing.spec.errors"):
        for language in LANGUAGES:
            assert say(language, f"e.code.{kind.code}")


def without_comments(script):
    return re.sub(r"/\*.*?\*/|(?<!:)//[^\n]*", "", script.read_text(encoding="utf-8"), flags=re.DOTALL)


@pytest.mark.parametrize("language", LANGUAGES)
def test_annotators_that_the_training_page_names_are_ones_it_can_take(language):
    named: list[str] = []
    for word in re.findall(r"[a-z][a-z_]+", words(language)["tr.f.annotator.tip"]):
        with contextlib.suppress(DanqingError):
            info = find_annotator(word)
            assert info.weights is None, word
            named.append(info.key)
    assert len(named) >= 3


def test_no_word_is_unused():
    sources = [*SCRIPTS, *WEB.rglob("*.py")]
    text = "".join(source.read_text(encoding="utf-8") for source in sources)
    built = ("k.", "f.", "o.", "h.", "c.", "l.", "sec.", "s.d.", "s.stage.", "s.brief.", "s.send.", "s.history.")
    built += ("e.code.", "e.image", "e.mask", "n.kind.", "n.none.", "ax.", "x.axis.", "x.group.")
    built += ("r.engine.", "r.weight.", "r.feather.", "r.prompt.", "r.negative.", "r.box", "r.lasso", "r.brush")
    built += ("w.", "t.")
    built += ("g.end.", "p.kind.", "p.is.", "p.none.", "p.send.", "p.share.shown.", "p.source.", "p.state.", "p.tab.")
    built += ("e.reviewer.", "m.", "p.end.", "p.lacks.", "p.outcome.", "p.refine.", "p.rev.", "p.score.", "p.step.")
    built += ("p.way.",)
    built += ("tr.asked.", "tr.auto.", "tr.complaint.", "tr.crop.", "tr.edit.", "tr.explain.", "tr.f.", "tr.kind.")
    built += ("tr.m.", "tr.makes.", "tr.o.", "tr.only.", "tr.part.", "tr.quality.", "tr.set.", "tr.stage.", "tr.state.")
    built += ("tr.tab.", "tr.what.", "tr.work.", "tr.group.", "tr.learn.", "tr.repeats")
    built += ("tr.buckets.of.", "tr.card.", "tr.figure.round.", "tr.side.")
    keys = [key for key in words("en") if not key.startswith(built)]
    assert [key for key in keys if key.removesuffix(".one") not in text] == []


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_name_only_keys_that_exist(script):
    code = without_comments(script)
    named = re.findall(r"\bt\(\s*'([\w.-]+)'", code)
    named += re.findall(r"\bt(?:Aria|Title|Placeholder|Label)?: '([\w.-]+)'", code)
    assert set(named) - {"aria-label", "title", "placeholder", "label"} <= set(words("en"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_write_no_words_of_their_own(script):
    """A string of two English words or any Chinese would be text that no translation reaches."""
    code = without_comments(script)
    assert not re.search(r"[\u4e00-\u9fff]", code)
    sentences = re.findall(r"text: '([^']*)'", code)
    assert [text for text in sentences if re.search(r"[A-Za-z]", text)] == []


def test_the_language_of_a_browser():
    assert negotiate("zh-TW,zh;q=0.9,en;q=0.8") == "zh-Hant"
    assert negotiate("zh-HK") == "zh-Hant"
    assert negotiate("zh-Hans-HK") == "zh-Hans"
    assert negotiate("zh-CN,en") == "zh-Hans"
    assert negotiate("de-DE,de;q=0.9") == "en"
    assert negotiate("en;q=0.2, zh-SG;q=0.7") == "zh-Hans"
    assert negotiate("zh;q=oops") == "en"


def test_an_unknown_key_is_an_error():
    with pytest.raises(KeyError):
        say("en", "no.such.key")


@pytest.mark.parametrize("language", LANGUAGES)
def test_errors_are_said_in_the_language_with_their_field(language):
    error = Invalid("sampling.steps: too small", field="sampling.steps", value=0, allowed="≥ 1 and ≤ 500")
    shown = explain(error, language)
    assert shown["field"] == "steps"
    assert "≥ 1, ≤ 500" in shown["text"]
    assert "0" in shown["text"]
    assert explain(Invalid("missing", field="mask"), language)["text"] == say(language, "e.mask")
    assert explain(DanqingError.from_dict({"code": "worker", "message": "gone"}), "zh-Hant")["text"].startswith("作畫")
