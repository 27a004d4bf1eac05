"""Names of samplers and schedules, as people and old files write them."""

from __future__ import annotations

import dataclasses
import math
import subprocess
import sys

import pytest

from danqing.sampling.types import SamplerOptions
from danqing.spec.errors import InvalidRequestError
from danqing.spec.registry.noise import find_noise_source
from danqing.spec.registry.sampler_options import SAMPLER_OPTIONS
from danqing.spec.registry.samplers import SAMPLERS, find_sampler, split_legacy_name
from danqing.spec.registry.schedules import SCHEDULES, find_schedule


@pytest.mark.parametrize("entries", [SAMPLERS, SCHEDULES], ids=["samplers", "schedules"])
def test_entries_are_whole_and_names_are_unique(entries) -> None:
    spellings = [s.casefold() for e in entries for s in dict.fromkeys((e.key, e.name.casefold(), *e.aliases))]
    assert len(spellings) == len({*spellings})
    for entry in entries:
        assert entry.key.isidentifier()
        assert entry.key == entry.key.lower()
        assert entry.hint.endswith(".")


def test_options_are_fields() -> None:
    fields = {field.name for field in dataclasses.fields(SamplerOptions)}
    described = {option.key for option in SAMPLER_OPTIONS} | {"variant", "lower_order_final"}
    assert described <= fields
    for info in SAMPLERS:
        assert set(info.options) <= described
        assert ("eta" in info.options) or info.default_eta == 1.0


@pytest.mark.parametrize(
    ("key", "value"), [("eta", math.nan), ("eta", -1), ("s_noise", math.inf), ("order", 2.5), ("order", 0), ("rtol", 0)]
)
def test_bad_option_values(key: str, value: float) -> None:
    option = next(o for o in SAMPLER_OPTIONS if o.key == key)
    with pytest.raises(InvalidRequestError) as caught:
        option.check(value)
    assert caught.value.field == f"sampler_options.{key}"
    assert option.check(option.low) == option.low


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("DPM++ 2M", "dpmpp_2m"),
        ("dpm++ 2m sde heun", "dpmpp_2m_sde_heun"),
        ("Euler a", "euler_a"),
        ("k_euler_ancestral", "euler_a"),
        (" EULER ", "euler"),
        ("DPM++ 2M SDE Karras", "dpmpp_2m_sde"),
        ("DPM++ 2M SDE Heun Exponential", "dpmpp_2m_sde_heun"),
        ("DPM2 a Karras", "dpm2_a"),
        ("LMS Karras", "lms"),
        ("DPM++ 2S a Karras", "dpmpp_2s_a"),
        ("UniPC", "unipc"),
        ("DDIM", "ddim"),
        ("DDIM CFG++", "ddim_cfgpp"),
    ],
)
def test_sampler_spellings(name: str, key: str) -> None:
    assert find_sampler(name).key == key


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("DPM++ 2M Karras", ("DPM++ 2M", "Karras")),
        ("DPM++ 2M SDE SGMUniform", ("DPM++ 2M SDE", "SGM Uniform")),
        ("DPM++ 3M SDE Exponential", ("DPM++ 3M SDE", "Exponential")),
        ("Euler a", ("Euler a", None)),
        ("DDIM", ("DDIM", None)),
        ("nonsense Karras", ("nonsense Karras", None)),
    ],
)
def test_legacy_names(name: str, expected: tuple[str, str | None]) -> None:
    assert split_legacy_name(name) == expected


def test_schedule_and_noise_spellings() -> None:
    assert find_schedule("SGMUniform").key == "sgm_uniform"
    assert find_schedule("ddim uniform").key == "ddim"
    assert find_schedule("KARRAS").key == "karras"
    assert find_noise_source("NV").key == "nv"


def test_unknown_names_say_what_is_near() -> None:
    with pytest.raises(InvalidRequestError) as caught:
        find_sampler("DPM+ 2M")
    assert caught.value.field == "sampler"
    assert "DPM++ 2M" in str(caught.value.next_step)
    assert "Euler a" in str(caught.value.allowed)
    with pytest.raises(InvalidRequestError, match="choose one from the list"):
        find_sampler("zzzzzzzz")
    with pytest.raises(InvalidRequestError, match="there is no noise source"):
        find_noise_source("")


def test_registry_loads_no_torch() -> None:
    names = "samplers schedules noise"
    code = "; ".join(f"import danqing.spec.registry.{name}" for name in names.split())
    script = f"import sys; {code}; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
