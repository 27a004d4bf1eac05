"""What batches cost, learnt from their times: robust, careful beyond what was measured, bounded."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from danqing.engine.costs import FIRST_STALE_BATCHES, HOPE, KEPT_PARTS, REACH, STALE_BATCHES, Costs, Part, load_of


def part(rows: int, key: str = "unet", half_rows: float = 16.0) -> Part:
    return Part(key, rows, half_rows)


def told(*runs: tuple[int, float]) -> Costs:
    """A table that saw each (rows, seconds) twice, since the first run of a size does not count."""
    costs = Costs()
    for rows, seconds in runs:
        costs.learn([part(rows)], seconds)
        costs.learn([part(rows)], seconds)
    return costs


def test_nothing_is_known_of_what_never_ran():
    assert Costs().seconds({"unet": 2}) is None
    assert Costs().seconds({}) == 0.0
    assert Costs().table("unet") == {}


def test_the_first_run_of_a_size_does_not_count():
    costs = Costs()
    costs.learn([part(2)], 90.0)
    assert costs.seconds({"unet": 2}) is None
    costs.learn([part(2)], 1.0)
    assert costs.seconds({"unet": 2}) == 1.0


def test_a_first_run_that_was_faster_is_believed_until_there_are_more():
    costs = Costs()
    for seconds in (1.0, 5.0, 4.0):
        costs.learn([part(2)], seconds)
        assert costs.seconds({"unet": 2}) in (None, 1.0)
    costs.learn([part(2)], 4.0)
    assert costs.seconds({"unet": 2}) == 4.0


def test_a_busy_moment_moves_nothing_and_a_lasting_change_is_followed():
    costs = told((2, 1.0), (2, 1.0), (2, 1.0))
    for _ in range(3):
        costs.learn([part(2)], 30.0)
    assert costs.seconds({"unet": 2}) == 1.0
    for _ in range(4):
        costs.learn([part(2)], 3.0)
    assert costs.seconds({"unet": 2}) == 3.0


def test_between_two_sizes_there_is_a_line():
    assert told((2, 1.0), (6, 3.0)).seconds({"unet": 4}) == pytest.approx(2.0)


def test_one_size_is_continued_as_the_prior_says():
    costs = told((4, 20.0))
    assert costs.seconds({"unet": 8}) == pytest.approx(20.0 * (16 + 8) / (16 + 4))
    assert costs.seconds({"unet": 2}) == pytest.approx(20.0 * (16 + 2) / (16 + 4))


def test_beyond_the_sizes_measured_hope_lasts_as_long_as_doubling_pays():
    assert told((2, 3.0), (4, 4.0)).seconds({"unet": 8}) == pytest.approx(4.0 + HOPE * 0.5 * 4)
    assert told((2, 2.0), (4, 4.0)).seconds({"unet": 8}) == pytest.approx(8.0)
    assert told((2, 3.0), (4, 3.0)).seconds({"unet": 8}) == pytest.approx(3.0)
    assert told((2, 3.0), (4, 2.0)).seconds({"unet": 8}) == pytest.approx(2.0), "time never falls below none"


def test_the_slope_is_taken_from_half_as_many_rows():
    """Between neighbours noise would decide: 7 and 8 rows differ by 0.01 s, 4 and 8 by 2."""
    costs = told((4, 2.0), (7, 3.99), (8, 4.0))
    assert costs.seconds({"unet": 16}) == pytest.approx(8.0)


def test_fewer_rows_than_were_measured_take_no_longer_and_no_less_than_their_share():
    assert told((4, 2.0), (8, 3.0)).seconds({"unet": 2}) == pytest.approx(1.5)
    assert told((4, 2.0), (8, 9.0)).seconds({"unet": 2}) == pytest.approx(1.0)
    assert told((4, 2.0), (8, 1.0)).seconds({"unet": 2}) == pytest.approx(2.0)


def test_nobody_jumps_further_than_twice_what_was_measured():
    costs = told((2, 1.0), (4, 1.5))
    assert costs.seconds({"unet": 8}) is not None
    assert costs.seconds({"unet": 9}) is None


def test_what_did_not_fit_is_not_tried_again_for_a_while():
    costs = told((2, 1.0), (4, 1.2), (8, 1.5))
    costs.refuse([part(5), part(3)])
    assert costs.seconds({"unet": 8}) is None
    assert costs.seconds({"unet": 7}) is not None
    for _ in range(STALE_BATCHES + 1):
        costs.learn([part(4)], 1.2)
    assert costs.seconds({"unet": 7}) is not None
    assert costs.seconds({"unet": 8}) is not None


def test_a_refused_batch_of_what_was_never_measured_changes_nothing():
    costs = Costs()
    costs.refuse([part(2)])
    assert costs.seconds({"unet": 2}) is None


def test_larger_sizes_are_tried_anew_after_a_while_and_smaller_ones_are_remembered():
    """Eight rows were measured while the machine was busy: they are not condemned for ever."""
    costs = told((2, 1.0), (4, 1.5), (8, 90.0))
    for _ in range(2 * FIRST_STALE_BATCHES):
        assert costs.seconds({"unet": 8}) == 90.0
        costs.learn([part(4)], 1.5)
    costs.learn([part(4)], 1.5)
    assert costs.seconds({"unet": 8}) == pytest.approx(1.5 + HOPE * 0.25 * 4)
    assert costs.seconds({"unet": 2}) == 1.0
    costs.learn([part(8)], 2.0)
    assert costs.seconds({"unet": 8}) == 2.0


def test_a_size_that_is_surely_slow_is_tried_the_more_rarely_up_to_a_bound():
    costs = told((2, 1.0), (4, 1.5), *[(8, 90.0)] * 4)
    for _ in range(STALE_BATCHES):
        costs.learn([part(4)], 1.5)
        assert costs.seconds({"unet": 8}) == 90.0
    costs.learn([part(4)], 1.5)
    assert costs.seconds({"unet": 8}) < 90.0


def test_parts_of_a_batch_add_up_and_share_its_time_by_what_was_expected():
    costs = Costs()
    for key, seconds in (("short", 1.0), ("long", 3.0)):
        costs.learn([part(2, key)], seconds)
        costs.learn([part(2, key)], seconds)
    assert costs.seconds({"short": 2, "long": 2}) == pytest.approx(4.0)
    for _ in range(7):
        costs.learn([part(2, "short"), part(2, "long")], 8.0)
    assert costs.seconds({"short": 2}) == pytest.approx(2.0)
    assert costs.seconds({"long": 2}) == pytest.approx(6.0)
    assert costs.seconds({"short": 2, "other": 1}) is None


def test_parts_that_only_ever_run_together_share_by_rows():
    costs = Costs()
    for _ in range(3):
        costs.learn([part(2, "plain"), part(1, "perturbed")], 3.0)
    assert costs.seconds({"plain": 2, "perturbed": 1}) == pytest.approx(3.0)
    assert costs.seconds({"plain": 2}) == pytest.approx(2.0)


@pytest.mark.parametrize("seconds", [0.0, -1.0])
def test_a_clock_that_stands_still_teaches_nothing(seconds: float):
    costs = told((2, seconds))
    assert costs.seconds({"unet": 2}) is None
    costs.learn([], 1.0)
    assert costs.seconds({"unet": 2}) is None


def test_the_part_that_was_idle_longest_makes_room():
    costs = told((2, 1.0))
    for index in range(KEPT_PARTS):
        costs.learn([part(2, f"other {index}")], 1.0)
    assert costs.seconds({"unet": 2}) is None


def test_rows_of_one_part_are_one_batch():
    assert load_of([part(2), part(3), part(1, "vae")]) == {"unet": 5, "vae": 1}


@given(
    own_s=st.floats(0, 10),
    row_s=st.floats(1e-3, 10),
    sizes=st.sets(st.integers(1, 32), min_size=2, max_size=6),
    rows=st.integers(1, 80),
)
def test_of_a_straight_curve_measured_twice_everything_is_known(own_s, row_s, sizes, rows):
    """t(n) = a + b·n: exact between and below what was measured, a little hopeful beyond."""
    costs = told(*((n, own_s + row_s * n) for n in sizes))
    found, exact = costs.seconds({"unet": rows}), own_s + row_s * rows
    if rows > REACH * max(sizes):
        assert found is None
    elif rows <= max(sizes):
        assert found == pytest.approx(exact)
    else:
        assert HOPE * exact * (1 - 1e-9) <= found <= exact * (1 + 1e-9)


@given(runs=st.lists(st.tuples(st.integers(1, 40), st.floats(1e-6, 1e3)), max_size=40), rows=st.integers(1, 100))
def test_whatever_was_measured_an_estimate_is_a_time_or_none(runs, rows):
    costs = Costs()
    for size, seconds in runs:
        costs.learn([part(size)], seconds)
    found = costs.seconds({"unet": rows})
    measured = [n for n in {n for n, _ in runs} if [size for size, _ in runs].count(n) > 1]
    assert (found is None) is (not measured or rows > REACH * max(measured))
    assert found is None or 0 < found < 1e5
