"""Styles and styles.csv."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from danqing.prompt.styles import (
    Style,
    apply_styles,
    extract_styles,
    format_styles,
    parse_styles,
    read_styles,
    write_styles,
)
from danqing.spec.errors import BadFileError, NotFoundError

STYLES = {
    style.name: style
    for style in (
        Style("oil", "oil painting of {prompt}, thick paint", "photo"),
        Style("dark", "dark", ""),
        Style("clean", "", "lowres, blurry"),
        Style("none"),
    )
}


def test_apply():
    assert apply_styles("a cat", "", ["oil", "dark"], STYLES) == ("oil painting of a cat, thick paint, dark", "photo")
    assert apply_styles("a cat", "text", ["clean"], STYLES) == ("a cat", "text, lowres, blurry")
    assert apply_styles("", "", ["dark"], STYLES) == ("dark", "")
    with pytest.raises(NotFoundError, match="style"):
        apply_styles("a", "", ["nope"], STYLES)


@pytest.mark.parametrize("names", [(), ("oil",), ("dark",), ("oil", "dark"), ("oil", "dark", "clean")])
def test_extract_is_the_inverse(names):
    prompt, negative = apply_styles("a cat", "ugly", names, STYLES)
    found, rest, negative_rest = extract_styles(prompt, negative, STYLES)
    assert (sorted(found), rest, negative_rest) == (sorted(names), "a cat", "ugly")
    assert apply_styles(rest, negative_rest, found, STYLES) == (prompt, negative)


def test_extract_finds_no_style_inside_a_word():
    styles = {"cat": Style("cat", "cat")}
    assert extract_styles("bobcat", "", styles) == ((), "bobcat", "")
    assert extract_styles("bob,  cat", "", styles) == (("cat",), "bob", "")
    twice = {"twice": Style("twice", "{prompt} and {prompt}")}
    assert extract_styles("a and a", "", twice) == (("twice",), "a", "")
    assert extract_styles("a and b", "", twice) == ((), "a and b", "")


def test_old_and_spaced_files():
    assert parse_styles("name,text\nold,an old one\n") == {"old": Style("old", "an old one")}
    assert parse_styles('\ufeffname, prompt, negative_prompt\na, "b, c", d\n') == {"a": Style("a", "b, c", "d")}
    assert parse_styles("") == {}
    with pytest.raises(BadFileError, match="name"):
        parse_styles("foo,bar\n1,2\n")


# A carriage return alone and NUL have no CSV form.
cells = st.text(st.characters(exclude_characters="\r\0", exclude_categories=["Cs"])).filter(
    lambda text: text == text.lstrip(" ")
)


@given(st.lists(st.builds(Style, cells.filter(bool), cells, cells), unique_by=lambda style: style.name))
def test_csv_round_trip(styles):
    assert list(parse_styles(format_styles(styles)).values()) == styles


def test_files(tmp_path):
    path = tmp_path / "styles.csv"
    assert read_styles(path) == {}
    write_styles(path, STYLES.values())
    assert path.read_bytes().startswith(b"\xef\xbb\xbfname,prompt,negative_prompt\r\n")
    assert read_styles(path) == STYLES
    write_styles(path, [])
    assert read_styles(path) == {}
    assert read_styles(tmp_path / "styles.csv.bak") == STYLES
    path.write_bytes(b"\xff\xff")
    with pytest.raises(BadFileError, match="UTF-8"):
        read_styles(path)
