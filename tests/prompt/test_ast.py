"""The tree is lossless, total and unique."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from danqing.prompt.ast import (
    AND,
    MAX_DEPTH,
    Alternate,
    Break,
    Escape,
    Network,
    Part,
    Prompt,
    Round,
    Scheduled,
    Square,
    Stray,
    Text,
    find_breaks,
    parse,
    parse_nodes,
)
from danqing.prompt.printer import to_text

PIECES = [
    "[",
    "]",
    "(",
    ")",
    ":",
    "|",
    "\\",
    "a",
    " ",
    "\n",
    ".5",
    "3",
    "AND",
    "BREAK",
    "<lora:x:1>",
    "[a:b:.5]",
    "(c:1.2)",
]
texts = st.one_of(st.text(), st.lists(st.sampled_from(PIECES)).map("".join))

words = st.from_regex(r"[a-z é,.!]{1,8}", fullmatch=True).filter(lambda text: not re.search(r"and|break", text))
leaves = st.one_of(
    words.map(Text),
    st.sampled_from("()[]:|\\xé").map(lambda char: Escape("\\" + char)),
    st.tuples(st.sampled_from(["lora", "hypernet"]), st.from_regex(r"[a-z]{1,4}(:[0-9.]{1,3})?", fullmatch=True)).map(
        lambda pair: Network(*pair)
    ),
)


def unique(nodes):
    """Drops neighbours that would be read as one node."""
    kept = []
    for node in nodes:
        if not (kept and isinstance(node, Text) and isinstance(kept[-1], Text)):
            kept.append(node)
    return tuple(kept)


def groups(children):
    bodies = st.lists(children, max_size=3).map(unique)
    whens = st.sampled_from(["3", ".5", " 0.25", "12 ", "-1"])
    return st.one_of(
        bodies.map(Round),
        st.tuples(bodies, bodies).map(lambda pair: Round(*pair)),
        bodies.map(Square),
        st.tuples(st.none() | bodies, bodies, whens).map(lambda parts: Scheduled(*parts)),
        st.lists(bodies, min_size=2, max_size=3).map(lambda options: Alternate(tuple(options))),
    )


nodes = st.lists(st.recursive(leaves, groups, max_leaves=8), max_size=5).map(unique)
prompts = st.lists(
    # The empty squares keep AND a word of its own and the weight apart from the nodes.
    st.tuples(nodes, st.sampled_from(["", " :1.2 ", ":.5 "])).map(
        lambda pair: Part((Square(()), *pair[0], Square(())), pair[1])
    ),
    min_size=1,
    max_size=3,
).map(lambda parts: Prompt(tuple(parts)))


@settings(max_examples=150, deadline=None)
@given(texts)
def test_print_of_parse_is_the_text(text):
    tree = parse(text)
    assert to_text(tree) == text
    assert parse(to_text(tree)) == tree
    assert to_text(parse_nodes(text, tags=False)) == text


@settings(max_examples=60, deadline=None)
@given(nodes)
def test_parse_of_print_is_the_tree(tree):
    assert parse_nodes(to_text(tree)) == tree


@settings(max_examples=40, deadline=None)
@given(prompts)
def test_parse_of_print_is_the_prompt(tree):
    assert parse(to_text(tree)) == tree


def test_kinds_of_nodes():
    tree = parse(r"a (b:1.3) [c] [d:e:.5] [f|g] \( BREAK <lora:x:0.5> ] AND z :2")
    assert tree.parts[0].nodes == (
        Text("a "),
        Round((Text("b"),), (Text("1.3"),)),
        Text(" "),
        Square((Text("c"),)),
        Text(" "),
        Scheduled((Text("d"),), (Text("e"),), ".5"),
        Text(" "),
        Alternate(((Text("f"),), (Text("g"),))),
        Text(" "),
        Escape("\\("),
        Break(" BREAK "),
        Network("lora", "x:0.5"),
        Text(" "),
        Stray("]"),
        Text(" "),
    )
    assert tree.parts[1] == Part((Text(" z"),), " :2")
    assert [node.weight for node in tree.parts[0].nodes if isinstance(node, Round)] == ["1.3"]


def test_and_inside_a_tag_does_not_split():
    assert len(parse("<lora:AND:1> a").parts) == 1


@pytest.mark.parametrize("pair", ["()", "[]"])
def test_depth_is_bounded(pair):
    text = pair[0] * 3000 + "a" + pair[1] * 3000
    tree = parse(text)
    assert to_text(tree) == text
    depth, node = 0, next(node for node in tree.parts[0].nodes if isinstance(node, (Round, Square)))
    while isinstance(node, (Round, Square)):
        depth, node = depth + 1, node.body[0]
    assert depth == MAX_DEPTH


def test_operators_are_words():
    assert AND.search("SAND") is None
    assert list(find_breaks("BREAKFAST")) == []
