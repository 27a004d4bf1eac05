"""What processes are begun with."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from danqing.surroundings import begun_so, prepare

linux = pytest.mark.skipif(sys.platform != "linux", reason="glibc's settings: Linux only")


@linux
def test_settings_are_added_once() -> None:
    found = {"GLIBC_TUNABLES": "glibc.malloc.check=0"}
    prepare(found)
    prepare(found)
    assert found["GLIBC_TUNABLES"] == "glibc.malloc.check=0:glibc.malloc.hugetlb=1"
    assert found["GOMP_SPINCOUNT"] == found["KMP_BLOCKTIME"] == "0"


@linux
def test_what_a_person_set_stays() -> None:
    found = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=0", "GOMP_SPINCOUNT": "100"}
    prepare(found)
    assert found["GLIBC_TUNABLES"] == "glibc.malloc.hugetlb=0"
    assert found["GOMP_SPINCOUNT"] == "100"


@linux
def test_children_are_begun_with_them() -> None:
    code = "from danqing.surroundings import begun_so; print(begun_so())"
    without = {name: value for name, value in os.environ.items() if name != "GLIBC_TUNABLES"}
    said = [
        subprocess.run([sys.executable, "-c", code], env=one, capture_output=True, text=True, check=True).stdout.strip()
        for one in (without, dict(os.environ))
    ]
    assert said == ["False", "True"]


def test_elsewhere_nothing_is_asked_of_the_c_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    found: dict[str, str] = {}
    prepare(found)
    assert "GLIBC_TUNABLES" not in found
    assert begun_so()
