"""Two prompts side by side."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from danqing.prompt.alignment import (
    PLACES,
    differences,
    is_exchange,
    longest_common,
    placed,
    plain_text,
    spans_of,
    token_map,
    words_in,
)
from danqing.prompt.emphasis import EmphasisMode
from danqing.prompt.tokenizer import default_tokenizer
from danqing.spec.errors import InvalidRequestError

WORDS = st.lists(
    st.sampled_from(["a", "red", "apple", ",", "cat's", "on", "marmalade", "grass", "红苹果"]), max_size=30
)


def place(text: str):
    return placed(text, EmphasisMode.ORIGINAL, default_tokenizer())


def test_tokens_know_where_they_stand():
    found = place("a (red:1.3) apple, 3d")
    assert found.plain == "a red apple, 3d"
    assert found.places_of("apple") == [3]
    assert found.places_of("Red apple") == [2, 3]
    assert found.places_of("pear") == []
    assert found.places_of("3d") == [5, 6]
    assert found.tails == (tuple(range(7, 77)),)
    assert found.length == PLACES
    assert place("红苹果，立体").places_of("苹果")
    assert place("a " + "cat " * 80 + "BREAK dog").places_of("dog")[0] > PLACES


def test_words_are_found_whole():
    assert spans_of("a category, a cat", "cat") == [(14, 17)]
    assert spans_of("long  grass", "long grass") == [(0, 11)]
    assert spans_of("anything", " ") == []
    assert words_in(plain_text("an [old] (cat's:1.2) hat")) == ["an", "old", "cat's", "hat"]


def test_exchanged_words():
    assert is_exchange("a cat on grass", "a dog on sand")
    assert not is_exchange("a cat", "a cat")
    assert not is_exchange("a cat", "a big cat")
    assert differences("a cat", "a cat with a hat") == [([], ["with", "a", "hat"])]


def test_replace_shares_a_word_among_the_tokens_of_the_new_one():
    old, new = place("a red apple, 3d"), place("a marmalade apple, 3d")
    tokens = new.places_of("marmalade")
    assert len(tokens) > 1
    found = token_map(old, new, "replace")
    assert found.own == ()
    assert [pair for pair in found.pairs if pair[0] == 2] == [(2, place, 1 / len(tokens)) for place in tokens]
    assert (old.places_of("apple")[0], new.places_of("apple")[0], 1.0) in found.pairs


def test_refine_keeps_what_is_common():
    found = token_map(place("a red apple, 3d"), place("a red and very fresh apple, 3d"), "refine")
    new = place("a red and very fresh apple, 3d")
    assert list(found.own) == new.places_of("and very fresh")


def test_another_number_of_words_is_told_by_its_words():
    with pytest.raises(InvalidRequestError, match="nothing has become 'fresh apple'") as caught:
        token_map(place("a red apple"), place("a red apple fresh apple"), "replace")
    assert caught.value.field == "prompt"


def test_texts_of_unlike_chunks_do_not_fit():
    with pytest.raises(InvalidRequestError, match="75 tokens"):
        token_map(place("a cat"), place("a cat " * 60), "refine")


@given(WORDS, WORDS)
def test_every_place_of_the_target_is_reached_or_its_own(first: list[str], second: list[str]):
    old, new = place(" ".join(first)), place(" ".join(second))
    if len(old.tails) != len(new.tails):
        return
    found = token_map(old, new, "refine")
    reached = {target for _, target, _ in found.pairs}
    assert reached | set(found.own) == set(range(new.length))
    assert not reached & set(found.own)
    if first == second:
        assert all(source == target and share == 1.0 for source, target, share in found.pairs)


@given(st.lists(st.integers(0, 4), max_size=12), st.lists(st.integers(0, 4), max_size=12))
def test_a_common_subsequence_is_common_and_in_order(first: list[int], second: list[int]):
    pairs = longest_common(first, second)
    assert all(first[a] == second[b] for a, b in pairs)
    assert pairs == sorted(pairs)
    assert len({a for a, _ in pairs}) == len({b for _, b in pairs}) == len(pairs)
    assert len(longest_common(first, first)) == len(first)
