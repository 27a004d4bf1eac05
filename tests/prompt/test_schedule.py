"""Prompt editing and alternation against A1111's published values."""

import pytest

from danqing.prompt.schedule import schedules, text_at_step
from danqing.spec.errors import InvalidRequestError, PromptSyntaxError


def lists(*args, **kwargs):
    return [list(entry) for entry in schedules(*args, **kwargs)]


PUBLISHED = [
    ("test", [[10, "test"]]),
    ("a [b:3]", [[3, "a "], [10, "a b"]]),
    ("a [b: 3]", [[3, "a "], [10, "a b"]]),
    ("a [[[b]]:2]", [[2, "a "], [10, "a [[b]]"]]),
    ("[(a:2):3]", [[3, ""], [10, "(a:2)"]]),
    ("a [b : c : 1] d", [[1, "a b  d"], [10, "a  c  d"]]),
    ("a[b:[c:d:2]:1]e", [[1, "abe"], [2, "ace"], [10, "ade"]]),
    ("a [unbalanced", [[10, "a [unbalanced"]]),
    ("a [b:.5] c", [[5, "a  c"], [10, "a b c"]]),
    ("a [{b|d{:.5] c", [[5, "a  c"], [10, "a {b|d{ c"]]),
    ("((a][:b:c [d:3]", [[3, "((a][:b:c "], [10, "((a][:b:c d"]]),
    ("[a|(b:1.1)]", [[step, "a" if step % 2 else "(b:1.1)"] for step in range(1, 11)]),
    ("[fe|]male", [[step, "female" if step % 2 else "male"] for step in range(1, 11)]),
    ("[fe|||]male", [[step, "female" if step % 4 == 1 else "male"] for step in range(1, 11)]),
]


@pytest.mark.parametrize(("prompt", "expected"), PUBLISHED)
def test_published_values(prompt, expected):
    assert lists(prompt, 10) == expected


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        # A bar that is in no alternation, or a backslash with nothing behind it, makes the whole text literal.
        ("a | b [c:3]", [[10, "a | b [c:3]"]]),
        ("[c:3]\\", [[10, "[c:3]\\"]]),
        ("[c:3]\\\n", [[10, "[c:3]\\\n"]]),
        ("(a|b)", [[10, "(a|b)"]]),
        ("[a|b:3]", [[10, "[a|b:3]"]]),
        # Three colons are no schedule; what is inside still is.
        ("[a:b:c:3]", [[10, "[a:b:c:3]"]]),
        ("[[a:3]:b:c:4]", [[3, "[:b:c:4]"], [10, "[a:b:c:4]"]]),
        ("[a:(b:3]", [[10, "[a:(b:3]"]]),
        ("[a\\:b\\]:c:3]", [[3, "a\\:b\\]"], [10, "c"]]),
        ("[a:b:3]]]", [[3, "a]]"], [10, "b]]"]]),
        ("[a::3]", [[3, "a"], [10, ""]]),
        ("[::3]x", [[3, "x"], [10, "x"]]),
        ("[|]x", [[step, "x"] for step in range(1, 11)]),
        ("[a:-3]", [[10, "a"]]),
        ("[a:1e1]", [[10, ""]]),
        ("[a:99]", [[10, ""]]),
        ("[a:1.0]", [[10, ""]]),
        ("[a:1]", [[1, ""], [10, "a"]]),
        ("[a:\u00a03 ]", [[3, ""], [10, "a"]]),
        ("[a:3 b]", [[10, "[a:3 b]"]]),
        ("", [[10, ""]]),
        ("[[a|b]:c:3]", [[1, "a"], [2, "b"], [3, "a"], *[[step, "c"] for step in range(4, 11)]]),
        ("<lora:a|b:1> [c:3]", [[10, "<lora:a|b:1> [c:3]"]]),
    ],
)
def test_odd_corners_measured_on_the_reference_grammar(prompt, expected):
    assert lists(prompt, 10) == expected


def test_hires_fractions_run_from_one_to_two_and_steps_go_on():
    assert lists("a [b:.5] c", 10, 10) == [[10, "a b c"]]
    assert lists("a [b:1.5] c", 10, 10) == [[5, "a  c"], [10, "a b c"]]
    assert lists("a [b:c:14] d", 10, 20) == [[4, "a b d"], [20, "a c d"]]
    assert lists("a [b:c:4] d", 10, 20) == [[20, "a c d"]]


def test_old_scheduling_ignores_hires_and_reads_numbers_below_one_as_fractions():
    assert lists("[a:b:.5]", 10, 4, use_old_scheduling=True) == [[5, "a"], [10, "b"]]
    assert lists("[a:b:2.7]", 10, use_old_scheduling=True) == [[2, "a"], [10, "b"]]


def test_text_at_step():
    schedule = schedules("[a:b:3]", 10)
    assert [text_at_step(schedule, step) for step in (1, 3, 4, 10, 12)] == ["a", "a", "b", "b", "b"]


def test_a_change_at_infinity_fails_as_in_the_reference():
    with pytest.raises(PromptSyntaxError, match="finite"):
        schedules("[a:1e999]", 10)


@pytest.mark.parametrize("steps", [0, -1, 10_001])
def test_steps_out_of_range(steps):
    with pytest.raises(InvalidRequestError, match="steps"):
        schedules("a", steps)


@pytest.mark.parametrize(
    "prompt", ["(" * 20_000, "[" * 5000 + "a" + ":3]" * 5000, "(" * 9000 + ")" * 9000, "[a|" * 5000]
)
def test_hostile_nesting_is_text_and_quick(prompt):
    assert schedules(prompt, 10)[-1][0] == 10
