"""Dynamic prompts and wildcards."""

import contextlib
from collections import Counter
from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from danqing.prompt.dynamic import expand, expand_all, is_dynamic
from danqing.prompt.wildcards import WildcardFolder, WildcardTexts, wildcard_lines
from danqing.spec.errors import BadFileError, InvalidRequestError, PromptSyntaxError

WILD = WildcardTexts(
    {
        "colours": "# warm\nred\n\ngold\n",
        "animals/cats": ["lion", "__colours__ cat"],
        "animals/dogs": ["3::wolf", "0::poodle"],
        "loop": ["a __other__"],
        "other": ["__loop__"],
        "empty": "# nothing",
    }
)


def every(prompt, wildcards=None):
    return list(expand_all(prompt, wildcards))


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("a {b|c} d", ["a b d", "a c d"]),
        ("{a|{b|c}} {d|e}", ["a d", "a e", "b d", "b e", "c d", "c e"]),
        ("{2$$a|b|c}", ["a, b", "a, c", "b, c"]),
        ("{1-2$$ and $$a|b}", ["a", "b", "a and b"]),
        ("{0-1$$a|b}", ["", "a", "b"]),
        ("{2-$$a|b|c}", ["a, b", "a, c", "b, c", "a, b, c"]),
        ("{-1$$a|b}", ["a", "b"]),
        ("{9$$a|b}", ["a, b"]),
        ("{0.5::a|2::b}", ["a", "b"]),
        ("{a}", ["a"]),
        ("{|a}", ["", "a"]),
        (r"\{a\|b\}", ["{a|b}"]),
        (r"{a\|b|c}", ["a|b", "c"]),
        ("{[a|b]|c}", ["[a|b]", "c"]),
        ("{[a|b}", ["[a", "b"]),
        ("[a:{b|c}:.5]", ["[a:b:.5]", "[a:c:.5]"]),
        ("{a|b", ["{a|b"]),
        ("a}|b", ["a}|b"]),
        ("$$ {a$$b}", ["$$ a$$b"]),
        (r"\(x\)", [r"\(x\)"]),
        ("__colours__", ["__colours__"]),
    ],
)
def test_all_expansions(prompt, expected):
    assert every(prompt) == expected


def test_wildcards():
    assert every("a __colours__ x", WILD) == ["a red x", "a gold x"]
    assert every("__animals/*__", WILD) == ["lion", "red cat", "gold cat", "wolf", "poodle"]
    assert every("{2$$__colours__}", WILD) == ["red, gold"]
    assert every("{__colours__|blue}", WILD) == ["red", "gold", "blue"]
    assert {expand("__animals/dogs__", seed, WILD) for seed in range(30)} == {"wolf"}


def test_random_is_reproducible_from_the_seed():
    prompt = "{a|b|c} {2$$x|y|z} __colours__ {1-3$$ $$p|q|r}"
    assert [expand(prompt, seed, WILD) for seed in range(50)] == [expand(prompt, seed, WILD) for seed in range(50)]
    assert len({expand(prompt, seed, WILD) for seed in range(50)}) > 20
    # These hold in every version of Python and of Danqing, or old pictures cannot be painted again.
    assert [expand("{a|b|c|d} {2$$x|y|z}", seed) for seed in (0, 1, 2**32)] == ["d x, z", "d x, y", "b y, z"]


def test_weights_are_frequencies():
    counted = Counter(expand("{1::a|3::b}", seed) for seed in range(4000))
    assert 0.70 < counted["b"] / 4000 < 0.80
    assert set(expand("{0::a|b}", seed) for seed in range(100)) == {"b"}  # noqa: C401
    assert expand("{0::a|0::b}", 1) in {"a", "b"}


def test_is_dynamic():
    assert is_dynamic("a {b|c}")
    assert is_dynamic("__a__", WILD)
    assert not is_dynamic("__a__")
    assert not is_dynamic("a [b|c] {d")


@pytest.mark.parametrize("prompt", ["__loop__", "x {y|__other__}"])
def test_a_circle_is_told(prompt):
    with pytest.raises(PromptSyntaxError, match="contains itself") as caught:
        every(prompt, WILD)
    assert "__loop__" in str(caught.value.value)
    with pytest.raises(PromptSyntaxError, match="contains itself"):
        [expand(prompt, seed, WILD) for seed in range(20)]


@pytest.mark.parametrize("name", ["__nothing__", "__empty__", "__nowhere/*__"])
def test_missing_and_empty_wildcards(name):
    with pytest.raises(InvalidRequestError, match="wildcard"):
        expand(name, 0, WILD)


@pytest.mark.parametrize(
    "prompt", ["{" * 60 + "a" + "}" * 60, "{a|b}" * 4001, "{a|" * 6000, "[" * 19_000, "__a" * 6000, "\\" * 19_999]
)
def test_hostile_prompts_are_text_or_a_clear_error(prompt):
    with contextlib.suppress(InvalidRequestError):
        expand(prompt, 1, WILD)
    with contextlib.suppress(InvalidRequestError):
        list(islice(expand_all(prompt, WILD), 3))


def test_growth_is_bounded():
    wild = WildcardTexts({f"w{level}": [f"__w{level + 1}__ " * 9] for level in range(11)} | {"w11": ["word"]})
    with pytest.raises(PromptSyntaxError, match="too"):
        expand("__w0__", 1, wild)


@settings(max_examples=150, deadline=None)
@given(st.text(alphabet="{}|[]_$-1.: ab\\,", max_size=40), st.integers(0, 2**64))
def test_every_random_expansion_is_among_all_expansions_in_some_order(prompt, seed):
    text = expand(prompt, seed)
    found = list(islice(expand_all(prompt), 300))
    assert len(found) >= 1
    if len(found) < 300:
        assert sorted(text) in [sorted(other) for other in found]


def test_a_folder(tmp_path):
    (tmp_path / "animals").mkdir()
    (tmp_path / "animals" / "big cats.txt").write_text("\ufefflion\n# no\n tiger \n", encoding="utf-8")
    (tmp_path / "bad.txt").write_bytes(b"\xff\xfe\xff")
    outside = tmp_path.parent / "secret.txt"
    outside.write_text("secret")
    (tmp_path / "link.txt").symlink_to(outside)
    folder = WildcardFolder(tmp_path)
    assert folder.names() == ("animals/big cats", "bad")
    assert every("__animals/big cats__", folder) == ["lion", "tiger"]
    with pytest.raises(BadFileError, match="UTF-8"):
        expand("__bad__", 1, folder)
    assert WildcardFolder(tmp_path / "none").names() == ()
    assert wildcard_lines("a\r\n#b\n\n c") == ("a", "c")
