"""Which textual-inversion embeddings a prompt mentions.

Names are found as A1111 finds them: by their tokens, the longest first, whatever the case. Before anything is loaded
the words of CLIP's tokenizer rule stand for its tokens, so that a Plan can name the files; the tokens decide in the
end.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_WORDS = re.compile(r"[^\W\d_]+|\d|(?:[^\w\s]|_)+")
_SYNTAX = re.compile(r"[()\[\]{}|:\\,]")


def mentioned(text: str, names: Iterable[str]) -> tuple[str, ...]:
    """Those of the names that stand in a text as whole words, the longest first where they overlap; sorted.

    >>> mentioned("a (birb-style:1.2) of Foo2, football", ["foo2", "birb-style", "foot", "birb"])
    ('birb-style', 'foo2')
    """
    folded = text.lower()
    found: set[str] = set()
    by_first: dict[str, list[tuple[list[str], str]]] = {}
    for name in sorted(names, key=len, reverse=True):
        words = _WORDS.findall(name.lower())
        if _has_signs(name):
            # Signs run together with those beside them, so that such a name is looked for as it is written.
            if name.lower() in folded:
                found.add(name)
                folded = folded.replace(name.lower(), " ")
        elif words:
            by_first.setdefault(words[0], []).append((words, name))
    words = _WORDS.findall(_SYNTAX.sub(" ", folded))
    position = 0
    while position < len(words):
        candidates = by_first.get(words[position], [])
        match = next((one for one in candidates if words[position : position + len(one[0])] == one[0]), None)
        if match is not None:
            found.add(match[1])
        position += len(match[0]) if match is not None else 1
    return tuple(sorted(found))


def set_apart(text: str, names: Iterable[str]) -> str:
    """The text with spaces around names that begin or end with a sign, so that `<ink>,` is read as `<ink>` and a comma.

    >>> set_apart("a (<ink>), cat", ["<ink>", "cat"])
    'a ( <ink> ), cat'
    """
    for name in sorted(names, key=len, reverse=True):
        if _has_signs(name):
            text = re.sub(rf"\s?({re.escape(name)})\s?", r" \1 ", text, flags=re.IGNORECASE)
    return text


def _has_signs(name: str) -> bool:
    return bool(name) and (not (name[0].isalnum() and name[-1].isalnum()) or _SYNTAX.search(name) is not None)
