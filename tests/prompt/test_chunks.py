"""Chunks of 75 tokens, with a tokenizer of one token per word."""

import pytest

from danqing.prompt.chunks import Chunk, EmbeddingIndex, EmbeddingSlot, chunk_prompt, token_count
from danqing.prompt.emphasis import EmphasisMode, pieces_for
from danqing.spec.errors import UnsupportedError


class Words:
    """Ids by order of first appearance; a comma is a word of its own."""

    bos_id, eos_id, pad_id, comma_id = 900, 901, 902, 1

    def __init__(self):
        self.ids = {",": 1}

    def encode(self, text):
        return [self.ids.setdefault(word, len(self.ids) + 1) for word in text.replace(",", " , ").split()]

    def token(self, token_id):
        return next(word for word, known in self.ids.items() if known == token_id)


def chunks_of(text, **options):
    tokenizer = options.pop("tokenizer", None) or Words()
    return chunk_prompt(pieces_for(text, EmphasisMode.ORIGINAL), tokenizer, **options)


def words(count, start=0):
    return " ".join(f"w{index}" for index in range(start, start + count))


def counts(text, **options):
    return [chunk.count for chunk in chunks_of(text, **options)]


def test_shape_of_a_chunk():
    (chunk,) = chunks_of("a (b:1.5)")
    assert chunk == Chunk((900, 2, 3, 901, *[902] * 73), (1.0, 1.0, 1.5, *[1.0] * 74), (), 2)
    assert len(chunk.ids) == len(chunk.multipliers) == 77


def test_an_empty_prompt_is_one_empty_chunk():
    assert counts("") == [0]
    assert token_count(chunks_of("")) == 0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (words(75), [75]),
        (words(76), [75, 1]),
        (words(150), [75, 75]),
        # The comma is 66th: ten words after it move to the next chunk.
        (f"{words(65)}, {words(20, 65)}", [66, 19 + 1]),
        # The comma is the 55th of 75: just near enough. One place earlier it is too far.
        (f"{words(55)}, {words(30, 55)}", [56, 30]),
        (f"{words(54)}, {words(30, 54)}", [75, 10]),
        # A comma as the 76th token simply begins the next chunk.
        (f"{words(75)}, x", [75, 2]),
        # A comma as the 75th stays, and nothing moves.
        (f"{words(74)}, x y", [75, 2]),
    ],
)
def test_comma_backtracking(text, expected):
    assert counts(text) == expected


def test_no_backtracking():
    assert counts(f"{words(65)}, {words(20, 65)}", comma_backtrack=0) == [75, 11]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a b BREAK c", [2, 1]),
        ("BREAK c", [0, 1]),
        ("a BREAK", [1]),
        ("a BREAK BREAK b", [1, 0, 1]),
        # Inside brackets BREAK has another weight, and is a word.
        ("(a BREAK b)", [3]),
    ],
)
def test_break(text, expected):
    assert counts(text) == expected


def test_weights_move_with_their_words():
    first, second = chunks_of(f"{words(65)}, (n1 n2 n3 n4 n5 n6 n7 n8 n9 n10 n11:1.3)")
    assert (first.count, second.count) == (66, 11)
    assert set(first.multipliers) == {1.0}
    assert second.multipliers[:13] == (1.0, *[1.3] * 11, 1.0)


def test_embeddings_take_their_vectors_and_are_never_split():
    tokenizer = Words()
    index = EmbeddingIndex(tokenizer, [("mono", 3), ("mono pict", 5)])
    (chunk,) = chunks_of("a (mono pict:1.2) b mono c", tokenizer=tokenizer, embeddings=index)
    assert chunk.slots == (EmbeddingSlot(2, "mono pict", 5), EmbeddingSlot(8, "mono", 3))
    assert chunk.ids[2:7] == (0,) * 5
    assert chunk.multipliers[1:8] == (1.0, *[1.2] * 5, 1.0)
    first, second = chunks_of(f"{words(72)} mono pict z", tokenizer=tokenizer, embeddings=index)
    assert (first.count, second.count, second.slots) == (72, 6, (EmbeddingSlot(1, "mono pict", 5),))


def test_embeddings_move_with_the_text_after_a_comma():
    tokenizer = Words()
    index = EmbeddingIndex(tokenizer, [("mono", 3)])
    first, second = chunks_of(
        f"{words(65)}, mono {words(10, 65)}", tokenizer=tokenizer, embeddings=index, comma_backtrack=20
    )
    assert (first.count, first.slots) == (66, ())
    assert second.slots == (EmbeddingSlot(1, "mono", 3),)
    assert second.ids[1:4] == (0, 0, 0)


def test_an_embedding_that_cannot_fit():
    tokenizer = Words()
    with pytest.raises(UnsupportedError, match="huge"):
        chunks_of("huge", tokenizer=tokenizer, embeddings=EmbeddingIndex(tokenizer, [("huge", 76)]))


def test_token_count_counts_full_chunks():
    assert token_count(chunks_of(f"a BREAK {words(5)}")) == 80
