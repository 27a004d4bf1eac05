"""Comparisons: how axes are read, and what Requests their places get."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from danqing.planning.explore import cells_of, lines_of, read_axis, read_numbers, split_values
from danqing.spec.errors import DanqingError, InvalidRequestError
from danqing.spec.explore import MAX_CELLS, Axis, ExploreRequest
from danqing.spec.registry.axes import AXES, find_axis
from danqing.spec.request import parse_request

BASE = {"kind": "txt2img", "prompt": "red apple, 3d, white background", "negative_prompt": "apple core", "seed": 7}


def asked(x: tuple[str, str], y: tuple[str, str] | None = None, z: tuple[str, str] | None = None, **more: Any) -> Any:
    request = parse_request(BASE | more)
    axes = {name: Axis(axis=a[0], values=a[1]) for name, a in (("x", x), ("y", y), ("z", z)) if a is not None}
    return ExploreRequest(request=request, **axes)


def requests(found: ExploreRequest, seed: int = 1) -> dict[tuple[int, int, int], Any]:
    return {cell.place: cell.request for cell in cells_of(found, lines_of(found), seed)}


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("3", [3]),
        ("1-5", [1, 2, 3, 4, 5]),
        ("1-9 (+2)", [1, 3, 5, 7, 9]),
        ("1-8 (+3)", [1, 4, 7]),
        ("10-1 (-3)", [10, 7, 4, 1]),
        ("5-2", [5, 4, 3, 2]),
        ("1-10 [4]", [1, 4, 7, 10]),
        ("-2-2 (+2)", [-2, 0, 2]),
        ("7 [1]", None),
        ("1-5 (-1)", None),
        ("1-5 (+0)", None),
        ("1-99999999", None),
        ("1-5 [0]", None),
        ("x", None),
        ("1.5", None),
    ],
)
def test_whole_numbers_and_ranges(text: str, numbers: list[int] | None) -> None:
    info = find_axis("Steps")
    if numbers is None:
        with pytest.raises(InvalidRequestError) as caught:
            read_numbers(text, info, "x.values")
        assert caught.value.field == "x.values"
        assert info.example in (caught.value.next_step or "")
    else:
        assert read_numbers(text, info, "x.values") == numbers


def test_ranges_of_numbers_end_where_they_say() -> None:
    info = find_axis("CFG Scale")
    assert read_numbers("0-0.3 (+0.1)", info, "x") == [0, 0.1, 0.2, 0.3]
    assert read_numbers("0-1 [5]", info, "x") == [0, 0.25, 0.5, 0.75, 1]
    assert read_numbers("2.5", info, "x") == [2.5]


@given(st.text(max_size=60), st.sampled_from([axis.key for axis in AXES]))
def test_any_text_is_read_or_refused(text: str, key: str) -> None:
    try:
        line = read_axis(Axis(axis=key, values=text), "x")
    except DanqingError:
        return
    assert 1 <= len(line.values) == len(line.labels)


@given(st.lists(st.text(min_size=1, max_size=12), min_size=1, max_size=5))
def test_values_with_commas_and_quotes_come_back(values: list[str]) -> None:
    wanted = [" ".join(v.split()) for v in values]
    wanted = [v for v in wanted if v and v.isprintable()]
    text = ", ".join('"' + v.replace('"', '""') + '"' for v in wanted)
    assert split_values(text) == wanted


def test_each_place_gets_its_values_and_one_seed() -> None:
    found = requests(asked(("CFG Scale", "1, 3"), ("Prompt S/R", "apple, pear, fig"), ("Steps", "4,5"), seed=None), 99)
    assert len(found) == 12
    one = found[1, 2, 0]
    assert (one.guidance.scale, one.sampling.steps, one.seed) == (3, 4, 99)
    assert one.prompt == "red fig, 3d, white background"
    assert one.negative_prompt == "fig core"
    assert {request.seed for request in found.values()} == {99}


def test_seeds_vary_where_that_is_asked_for() -> None:
    comparison = asked(("CFG Scale", "1, 3"), seed=None).model_copy(update={"vary_seeds": True})
    assert {request.seed for request in requests(comparison).values()} == {None}


def test_what_is_slow_to_change_changes_last() -> None:
    comparison = asked(("Checkpoint name", "a, b"), ("Seed", "1-3"))
    order = [cell.request.model for cell in cells_of(comparison, lines_of(comparison), 1)]
    assert order == ["a", "a", "a", "b", "b", "b"]
    assert {cell.place[:2] for cell in cells_of(comparison, lines_of(comparison), 1)} == {
        (x, y) for x in range(2) for y in range(3)
    }


def test_orders_networks_styles_and_sizes() -> None:
    orders = requests(asked(("Prompt order", "3d, red apple"), prompt="red apple, 3d"))
    assert {r.prompt for r in orders.values()} == {"red apple, 3d", "3d, red apple"}
    weights = requests(asked(("LoRA weight", "ink: 0-1 [3]"), prompt="a fox <lora:Ink:0.8>"))
    assert [r.prompt for _, r in sorted(weights.items())] == [f"a fox <lora:ink:{w}>" for w in ("0", "0.5", "1")]
    assert requests(asked(("LoRA weight", "ink: 1"), prompt="a fox"))[0, 0, 0].prompt == "a fox <lora:ink:1>"
    styles = requests(asked(("Styles", "None, Ink")))
    assert [r.styles for _, r in sorted(styles.items())] == [(), ("Ink",)]
    sizes = requests(asked(("Size", "128x64, 64×128")))
    assert [(r.width_px, r.height_px) for _, r in sorted(sizes.items())] == [(128, 64), (64, 128)]


def test_parts_of_the_request_are_begun_or_missed() -> None:
    assert requests(asked(("Var. strength", "0.5")))[0, 0, 0].variation.strength == 0.5
    hires = requests(asked(("Denoising", "0.4"), hires={"scale": 2}))
    assert hires[0, 0, 0].hires.strength == 0.4
    picture = f"sha256:{'a' * 64}"
    assert requests(asked(("Denoising", "0.4"), kind="img2img", image=picture))[0, 0, 0].strength == 0.4
    for axis in ("Denoising", "Hires steps", "Control weight", "Image prompt weight"):
        with pytest.raises(InvalidRequestError, match="needs") as caught:
            requests(asked((axis, "1")))
        assert caught.value.field == "x"


@pytest.mark.parametrize(
    ("x", "y", "match"),
    [
        (("Colour", "1"), None, "no axis"),
        (("Steps", ""), None, "cannot be read"),
        (("Steps", "0"), None, "Steps '0'"),
        (("CFG Scale", "1e9"), None, "CFG Scale"),
        (("Prompt S/R", "whale, fish"), None, "does not stand in the prompt"),
        (("Prompt order", "3d"), None, "parts"),
        (("Prompt order", "3d, whale"), None, "does not stand in the prompt"),
        (("Size", "big"), None, "cannot be read"),
        (("LoRA weight", "0.5"), None, "cannot be read"),
        (("Seed", f"1-{MAX_CELLS}"), ("Steps", "1-2"), "too many pictures"),
    ],
)
def test_mistakes_are_told(x: tuple[str, str], y: tuple[str, str] | None, match: str) -> None:
    with pytest.raises(InvalidRequestError, match=match) as caught:
        requests(asked(x, y))
    assert caught.value.field


def test_a_place_is_one_picture() -> None:
    with pytest.raises(InvalidRequestError, match="one picture"):
        requests(asked(("Seed", "1-2"), count=2))


def test_a_third_axis_needs_a_second() -> None:
    with pytest.raises(InvalidRequestError, match="second"):
        lines_of(asked(("Seed", "1"), None, ("Steps", "1")))


def test_every_example_can_be_read_and_every_path_exists() -> None:
    for info in AXES:
        line = read_axis(Axis(axis=info.name, values=info.example), "x")
        assert len(line.values) >= 2, info.name
        assert find_axis(info.key) is info
    assert len({info.key for info in AXES}) == len(AXES) == len({info.name.casefold() for info in AXES})
