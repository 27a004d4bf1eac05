"""What the trainer and the sets say in English is known to the Training page, so that it is said in its language."""

from __future__ import annotations

import ast
import json
import re
from functools import cache
from pathlib import Path

import pytest

import danqing
from danqing.training.own.methods import artaug, controlnet, distill, embedding, finetune, hypernetwork, lora, slider
from danqing.web.assets import TRAINING
from danqing.web.i18n import LANGUAGES, words

ROOT = Path(danqing.__file__).parent
SOURCES = [
    *sorted((ROOT / "training" / "own").rglob("*.py")),
    *sorted((ROOT / "sets").glob("*.py")),
    *sorted((ROOT / "studio").glob("train*.py")),
    *sorted((ROOT / "studio").glob("set_*.py")),
    ROOT / "spec" / "training_edit.py",
]
SPEAKERS = {"warn", "note", "NoteEvent", "Skipped"}
OURS = re.compile(r"^(?!Value|Type|NotImplemented|OS|Runtime|Key)\w+Error$")
# That nobody is told of, and an error that nobody foresaw.
ELSEWHERE = re.compile(r"^(the sheet was stopped|the person stopped it|something went wrong: |7: )")


@cache
def known_patterns():
    """The page's patterns, and the words that each leads to."""
    script = (TRAINING / "told.js").read_text(encoding="utf-8")
    found = re.findall(r"^  \[/(.*)/, '(tr\.told\.[\w.]+)'\],$", script, flags=re.MULTILINE)
    return [(re.compile(pattern.replace("(?<", "(?P<")), key) for pattern, key in found]


def said_by(node):
    """The sentences that an expression can be: its places are filled with 7."""
    match node:
        case ast.Constant(value=str(text)):
            return [text]
        case ast.IfExp():
            return said_by(node.body) + said_by(node.orelse)
        case ast.JoinedStr():
            parts = ["7" if isinstance(part, ast.FormattedValue) else part.value for part in node.values]
            return ["".join(parts)]
    return []


def sentences():
    for path in SOURCES:
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(call, ast.Call):
                continue
            name = getattr(call.func, "id", getattr(call.func, "attr", ""))
            spoken = [one.value for one in call.keywords if one.arg in {"words", "note"}]
            if OURS.match(name) or name in SPEAKERS:
                spoken += call.args[:1]
            for text in (text for one in spoken for text in said_by(one) if " " in text):
                yield pytest.param(text, id=f"{path.stem}: {text[:50]}")


@pytest.mark.parametrize("text", list(sentences()))
def test_the_page_knows_every_sentence(text):
    if not ELSEWHERE.match(text):
        assert any(pattern.search(text) for pattern, _ in known_patterns()), text


def test_the_named_parts_of_a_sentence_are_its_placeholders():
    patterns = known_patterns()
    assert len(patterns) > 80
    for pattern, key in patterns:
        for language in LANGUAGES:
            places = set(re.findall(r"{(\w+)}", words(language)[key])) - {"allowed"}
            if key != "tr.told.template":  # its places are those of the template itself
                assert places <= set(pattern.groupindex), (language, key)


def test_quick_and_thorough_are_shares_of_the_methods_own_steps():
    script = (TRAINING / "methods.js").read_text(encoding="utf-8")
    found = re.findall(r"^  (\w+): { method: '(\w+)'.*?steps: (\[\d+, \d+\])", script, flags=re.MULTILINE)
    shown = {card: json.loads(steps) for card, _, steps in found}
    own = {
        "style": lora,
        "subject": lora,
        "word": embedding,
        "negword": embedding,
        "hypernetwork": hypernetwork,
        "control": controlnet,
        "whole": finetune,
        "fewer": distill,
        "slider": slider,
        "artaug": artaug,
    }
    for card, module in own.items():
        assert shown[card] == [module.DEFAULTS["danqing"].steps, module.DEFAULTS["*"].steps], card
