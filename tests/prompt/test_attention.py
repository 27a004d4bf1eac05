"""Attention weights and emphasis modes against A1111's published values."""

import numpy as np
import pytest

from danqing.prompt.attention import weighted_texts
from danqing.prompt.emphasis import EmphasisMode, apply_emphasis, pieces_for
from danqing.spec.errors import PromptSyntaxError


def lists(text):
    return [list(piece) for piece in weighted_texts(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("normal text", [["normal text", 1.0]]),
        ("an (important) word", [["an ", 1.0], ["important", 1.1], [" word", 1.0]]),
        ("(unbalanced", [["unbalanced", 1.1]]),
        (r"\(literal\]", [["(literal]", 1.0]]),
        ("(unnecessary)(parens)", [["unnecessaryparens", 1.1]]),
        (
            "a (((house:1.3)) [on] a (hill:0.5), sun, (((sky))).",
            [
                ["a ", 1.0],
                ["house", 1.5730000000000004],
                [" ", 1.1],
                ["on", 1.0],
                [" a ", 1.1],
                ["hill", 0.55],
                [", sun, ", 1.1],
                ["sky", 1.4641000000000006],
                [".", 1.1],
            ],
        ),
    ],
)
def test_published_values(text, expected):
    assert lists(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", [["", 1.0]]),
        ("a BREAK b", [["a", 1.0], ["BREAK", -1.0], ["b", 1.0]]),
        ("(a BREAK b)", [["a", 1.1], ["BREAK", -1.1], ["b", 1.1]]),
        ("a\\b", [["ab", 1.0]]),
        ("a\\", [["a", 1.0]]),
        ("\\\\(a)", [["\\", 1.0], ["a", 1.1]]),
        ("([a)b]", [["a", 1.1 * (1 / 1.1)], ["b", 1 / 1.1]]),
        ("a:1.3)", [["a:1.3)", 1.0]]),
        ("[a:1.3)]", [["a:1.3)", 1 / 1.1]]),
        ("(a : 1.3 )", [["a ", 1.3]]),
        ("(a:-1)", [["a", -1.0]]),
        ("(a:1e2)", [["a:1e2", 1.1]]),
        ("BREAKFAST", [["BREAKFAST", 1.0]]),
        ("BREAK BREAK", [["", 1.0], ["BREAK", -1.0], ["", 1.0], ["BREAK", -1.0], ["", 1.0]]),
    ],
)
def test_odd_corners_measured_on_the_reference(text, expected):
    assert lists(text) == expected


@pytest.mark.parametrize("weight", ["1.2.3", ".", "+.", "-"])
def test_a_weight_that_is_no_number(weight):
    if weight == "-":
        assert lists(f"(a:{weight})") == [["a:-", 1.1]]
        return
    with pytest.raises(PromptSyntaxError, match="not a number"):
        weighted_texts(f"(a:{weight})")
    assert lists(f"a:{weight})") == [[f"a:{weight})", 1.0]]


def test_modes_read_brackets_differently():
    assert pieces_for("a (b) BREAK c", EmphasisMode.NONE) == [("a (b) BREAK c", 1.0)]
    assert pieces_for("a (b) BREAK c", EmphasisMode.IGNORE) == [
        ("a ", 1.0),
        ("b", 1.0),
        ("", 1.0),
        ("BREAK", -1.0),
        ("c", 1.0),
    ]
    assert EmphasisMode("no_norm") is EmphasisMode.NO_NORM


def test_apply_emphasis_formulas():
    rng = np.random.default_rng(0)
    z = rng.normal(0.3, 1, (2, 77, 8))
    multipliers = np.ones((2, 77))
    multipliers[:, 3:9] = 1.4
    weighted = z * multipliers[..., None]
    assert np.array_equal(apply_emphasis(z, multipliers, EmphasisMode.NO_NORM), weighted)
    original = apply_emphasis(z, multipliers, EmphasisMode.ORIGINAL)
    assert np.allclose(original.mean(), z.mean())
    assert np.allclose(original / weighted, z.mean() / weighted.mean())
    for mode in (EmphasisMode.IGNORE, EmphasisMode.NONE):
        assert apply_emphasis(z, multipliers, mode) is z


def test_apply_emphasis_is_the_same_on_torch():
    torch = pytest.importorskip("torch")
    z, multipliers = torch.randn(1, 77, 4), torch.linspace(0.5, 1.5, 77)[None]
    for mode in EmphasisMode:
        ours = apply_emphasis(z, multipliers, mode)
        assert np.allclose(ours.numpy(), apply_emphasis(z.numpy(), multipliers.numpy(), mode), atol=1e-6)
