"""Midjourney's form."""

import pytest

from danqing.prompt.midjourney import expand_midjourney, parse_midjourney, permutations
from danqing.prompt.midjourney_flags import guidance_factor, size_for_aspect
from danqing.prompt.schedule import schedules
from danqing.spec.errors import PromptSyntaxError


def parts(text):
    return [(part.text, part.weight) for part in parse_midjourney(text).parts]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a cat", [("a cat", 1.0)]),
        ("hot:: dog", [("hot", 1.0), ("dog", 1.0)]),
        ("hot::2 dog", [("hot", 2.0), ("dog", 1.0)]),
        ("tulip field:: red::-.5", [("tulip field", 1.0), ("red", -0.5)]),
        ("a::.5 b::1.5", [("a", 0.5), ("b", 1.5)]),
        ("", [("", 1.0)]),
        ("16:9 poster", [("16:9 poster", 1.0)]),
    ],
)
def test_parts(text, expected):
    assert parts(text) == expected


def test_the_flags_with_a_meaning():
    read = parse_midjourney(
        "a fox --ar 3:2 --no cars, people --seed 7 --s 250 --q .5 --tile --stop 80 --r 3 --no text —raw --style raw"
    )
    effects = read.effects
    assert (effects.aspect, effects.negative, effects.seed) == ((3, 2), "cars, people, text", 7)
    assert (effects.guidance_factor, effects.steps_factor, effects.tile) == (guidance_factor(250), 0.5, True)
    assert (effects.stop_fraction, effects.repeat, read.text) == (0.8, 3, "a fox")
    assert read.refused == ()


@pytest.mark.parametrize(
    "flag",
    [
        "--v 6.1",
        "--version 7",
        "--niji 6",
        "--niji",
        "--chaos 30",
        "--c 0",
        "--weird 3000",
        "--w 10",
        "--sref random",
        "--cref a.png --cw 50",
        "--p",
        "--fast",
        "--style expressive",
        "--hd",
        "--iw 2",
        "--stealth",
    ],
)
def test_flags_without_a_meaning_are_refused_with_a_reason(flag):
    read = parse_midjourney(f"a fox {flag}")
    assert read.refused
    assert all(len(reason) > 20 for _, reason in read.refused)
    assert read.text == "a fox"


@pytest.mark.parametrize(
    "text",
    [
        "a --ar 3",
        "a --ar 0:1",
        "a --ar 3:2 more words",
        "a --ar 100:1",
        "a --seed -1",
        "a --seed 4294967296",
        "a --s 1001",
        "a --chaos 101",
        "a --q 3",
        "a --tile yes",
        "a --iw 4",
        "a --stop 5",
        "a --r 41",
        "a --no",
        "a --v six",
        "a --unknown 3",
        "a:: b::-1",
        "a::0",
    ],
)
def test_what_midjourney_rejects(text):
    with pytest.raises(PromptSyntaxError) as caught:
        parse_midjourney(text)
    assert caught.value.allowed
    assert caught.value.next_step


def test_image_prompts():
    read = parse_midjourney("ref.png sha256:" + "a" * 64 + " https://x.example/y.jpg a fox --iw 1.5")
    assert read.images == ("ref.png", "sha256:" + "a" * 64)
    assert read.text == "a fox"
    assert read.effects.image_weight == 1.5
    assert "opens no addresses" in read.refused[0][1]
    assert parse_midjourney("ref.png").images == ("ref.png",)
    assert parse_midjourney("a fox ref.png").images == ()


def test_permutations():
    assert permutations("a {red, blue} {cat, {small, big} dog}") == [
        "a red cat",
        "a red small dog",
        "a red big dog",
        "a blue cat",
        "a blue small dog",
        "a blue big dog",
    ]
    assert permutations(r"{a\, b, c} \{x\}") == ["a, b {x}", "c {x}"]
    assert [read.effects.aspect for read in expand_midjourney("x --ar {3:2, 1:1}")] == [(3, 2), (1, 1)]
    assert permutations("a, b") == ["a, b"]


@pytest.mark.parametrize("text", ["{a", "a}", "{a, {b}", "{" * 12 + "}" * 12, "{1,2,3,4,5,6,7}" * 2])
def test_permutations_that_cannot_be(text):
    with pytest.raises(PromptSyntaxError):
        permutations(text)


def test_the_same_in_a1111_s_grammar():
    assert parse_midjourney("a (cat) [x|y] AND BREAK").prompt == r"a \(cat\) \[x\|y\] and break"
    assert parse_midjourney("hot::3 dog").prompt == "hot :0.75 AND dog :0.25"
    assert parse_midjourney("ratio: 9").prompt == "ratio: 9 :1"
    literal = parse_midjourney("a (b) [c:3]").prompt
    assert schedules(literal, 10) == [(10, literal)]


def test_numbers():
    assert [guidance_factor(value) for value in (0, 100, 1000)] == [1.25, 1.0, 0.6]
    assert size_for_aspect((1, 1), 512) == (512, 512)
    assert size_for_aspect((16, 1), 128) == (512, 32)


def test_as_dict_is_json_ready():
    data = parse_midjourney("a::2 b --ar 3:2").as_dict()
    assert data["parts"] == [{"text": "a", "weight": 2.0}, {"text": "b", "weight": 1.0}]
    assert data["aspect"] == (3, 2)
    assert "seed" not in data
