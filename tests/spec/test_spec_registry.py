"""Registries: names that are unique, findable, and have an implementation behind each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from danqing.spec.errors import InvalidRequestError
from danqing.spec.registry.families import FAMILIES
from danqing.spec.registry.noise import NOISE_SOURCES, find_noise_source
from danqing.spec.registry.samplers import SAMPLERS, find_sampler, split_legacy_name
from danqing.spec.registry.schedules import SCHEDULES, find_schedule
from danqing.spec.registry.upscalers import UPSCALERS, find_upscaler

REGISTRIES: list[tuple[Any, Callable[[str], Any]]] = [
    (SAMPLERS, find_sampler),
    (SCHEDULES, find_schedule),
    (UPSCALERS, find_upscaler),
    (NOISE_SOURCES, find_noise_source),
]


@pytest.mark.parametrize(("entries", "find"), REGISTRIES)
def test_every_spelling_finds_its_entry(entries: Any, find: Callable[[str], Any]):
    for entry in entries:
        for spelling in (entry.key, entry.name, *entry.aliases):
            assert find(spelling) is entry
            assert find(f" {spelling.upper()} ") is entry
    keys = [entry.key for entry in entries]
    assert len(keys) == len(set(keys))


@pytest.mark.parametrize(("entries", "find"), REGISTRIES)
def test_an_unknown_name_lists_the_known_ones(entries: Any, find: Callable[[str], Any]):
    with pytest.raises(InvalidRequestError) as caught:
        find("Watercolour 9000")
    assert entries[0].name in (caught.value.allowed or "")
    assert caught.value.next_step
    assert caught.value.value == "Watercolour 9000"


def test_a_slip_of_the_pen_is_understood():
    with pytest.raises(InvalidRequestError, match=r"did you mean .*DPM\+\+ 2M"):
        find_sampler("DPM+ 2M")


def test_legacy_names_are_divided():
    assert split_legacy_name("DPM++ 2M Karras") == ("DPM++ 2M", "Karras")
    assert split_legacy_name("DPM++ 2M SDE Exponential") == ("DPM++ 2M SDE", "Exponential")
    assert split_legacy_name("Euler a") == ("Euler a", None)
    assert split_legacy_name("Nothing Karras") == ("Nothing Karras", None)


def test_every_sampler_and_schedule_is_implemented():
    from danqing.sampling.samplers import SAMPLERS as FUNCTIONS
    from danqing.sampling.schedules import SCHEDULES as CURVES

    assert set(FUNCTIONS) == {info.key for info in SAMPLERS}
    assert set(CURVES) | {"automatic"} == {info.key for info in SCHEDULES} | {"automatic"}
    assert {info.default_schedule for info in SAMPLERS} <= {info.key for info in SCHEDULES}


def test_families_are_distinct():
    assert len({family.key for family in FAMILIES}) == len(FAMILIES)
