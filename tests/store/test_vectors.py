from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from danqing.spec.errors import BadFileError
from danqing.store.vectors import from_text, pack, sigmoid, to_text, unit, unpack

VECTORS = arrays(np.float32, (3, 8), elements=st.floats(-10, 10, width=32))


@given(VECTORS)
def test_vectors_survive_a_json_line(vectors):
    assert np.array_equal(from_text(to_text(vectors), 8), vectors)


@given(VECTORS)
def test_stored_vectors_keep_their_direction(vectors):
    units = unit(vectors)
    back = unpack([pack(vector) for vector in units], 8)
    cosines = (units * back).sum(axis=1)
    assert np.allclose(cosines[units.any(axis=1)], 1.0, atol=1e-5)
    assert np.abs(units - back).max() < 1e-3


@given(st.text(max_size=40))
def test_nonsense_is_refused_or_read_never_worse(text):
    try:
        found = from_text(text, 4)
    except BadFileError:
        return
    assert found.shape[1] == 4
    assert np.isfinite(found).all()


def test_what_cannot_be_vectors():
    for text in ("AAAA", to_text(np.array([[np.nan] * 4]))):
        with pytest.raises(BadFileError):
            from_text(text, 4)
    with pytest.raises(BadFileError, match="another width"):
        unpack([b"\0\0"], 4)
    assert unpack([], 4).shape == (0, 4)
    assert sigmoid(np.array([-1e9, 1e9])).tolist() == [pytest.approx(0.0, abs=1e-20), 1.0]
