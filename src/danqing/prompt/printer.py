"""The text of a syntax tree; the inverse of `danqing.prompt.ast.parse`."""

from __future__ import annotations

from collections.abc import Sequence

from danqing.prompt.ast import Alternate, Network, Node, Part, Prompt, Round, Scheduled, Square


def to_text(tree: Prompt | Part | Sequence[Node]) -> str:
    r"""The text that a tree stands for, character for character as it was written.

    >>> from danqing.prompt.ast import parse
    >>> print(to_text(parse(r"a [b|(c:1.2)] AND d\( :.5")))
    a [b|(c:1.2)] AND d\( :.5
    """
    if isinstance(tree, Prompt):
        return "AND".join(to_text(part) for part in tree.parts)
    if isinstance(tree, Part):
        return to_text(tree.nodes) + tree.weight
    return "".join(_node(node) for node in tree)


def _node(node: Node) -> str:
    match node:
        case Network(kind, arguments):
            return f"<{kind}:{arguments}>"
        case Round(body, None):
            return f"({to_text(body)})"
        case Round(body, tail):
            return f"({to_text(body)}:{to_text(tail or ())})"
        case Square(body):
            return f"[{to_text(body)}]"
        case Scheduled(None, after, when):
            return f"[{to_text(after)}:{when}]"
        case Scheduled(before, after, when):
            return f"[{to_text(before or ())}:{to_text(after)}:{when}]"
        case Alternate(options):
            return f"[{'|'.join(to_text(option) for option in options)}]"
        case _:
            return node.text
