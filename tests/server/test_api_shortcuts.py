"""`quality` and `shortcuts` through the API: into the Request, refused by name."""

from __future__ import annotations

import pytest
from door_studio import problem, submit


def test_they_come_back_as_they_were_asked_for(client):
    job = submit(client, quality="fast", shortcuts={"cache_interval": 3, "guidance_window": [0.1, 0.8]}).json()
    assert job["request"]["quality"] == "fast"
    assert job["request"]["shortcuts"]["cache_interval"] == 3
    assert job["request"]["shortcuts"]["guidance_window"] == [0.1, 0.8]
    assert job["request"]["shortcuts"]["token_merging"] is None


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"quality": "best"}, "quality"),
        ({"shortcuts": {"cache_interval": 0}}, "shortcuts.cache_interval"),
        ({"shortcuts": {"guidance_window": [0.2]}}, "shortcuts.guidance_window"),
        ({"shortcuts": {"speed": 2}}, "shortcuts.speed"),
    ],
)
def test_what_makes_no_sense_is_named(client, fields, name: str):
    told = problem(submit(client, **fields), 422)
    assert str(told["field"]).startswith(name)
