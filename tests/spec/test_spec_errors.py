"""The error tree: one line for people, JSON for programs, and back."""

from __future__ import annotations

import pytest

from danqing.spec import errors
from danqing.spec.errors import DanqingError, InvalidRequestError, NotFoundError


def tree(kind: type[DanqingError] = DanqingError) -> list[type[DanqingError]]:
    return [kind, *(leaf for sub in kind.__subclasses__() for leaf in tree(sub))]


@pytest.mark.parametrize("kind", [kind for kind in tree() if kind.__module__ == errors.__name__])
def test_an_error_survives_json(kind: type[DanqingError]):
    error = kind("no such thing", field="model", value="x", allowed="y", next_step="z")
    again = DanqingError.from_dict(error.as_dict())
    assert type(again) is kind
    assert str(again) == str(error)
    assert 400 <= kind.http_status < 600


def test_codes_are_unique():
    codes = [kind.code for kind in tree() if kind.__module__ == errors.__name__]
    assert len(codes) == len(set(codes))


def test_one_line_says_everything():
    error = InvalidRequestError("too small", field="width_px", value=0, allowed="≥ 16", next_step="use a larger one")
    assert str(error) == "too small · field: width_px · got: 0 · allowed: ≥ 16 · next: use a larger one"
    assert error.as_dict()["value"] == 0


def test_long_values_are_cut_and_odd_ones_are_written_out():
    assert len(str(NotFoundError("no", value="x" * 5000))) < 200
    assert NotFoundError("no", value=float("nan")).as_dict()["value"] == "nan"
    assert NotFoundError("no", value=[float("nan")]).as_dict()["value"] == "[nan]"
    assert NotFoundError("no", value="\ud800").as_dict()["value"] == "'\\ud800'"
    assert NotFoundError("no", value={"a": [1, "丹青"]}).as_dict()["value"] == {"a": [1, "丹青"]}


def test_an_unknown_code_is_still_an_error():
    error = DanqingError.from_dict({"code": "from_the_future", "message": "hm"})
    assert type(error) is DanqingError
    assert error.message == "hm"
