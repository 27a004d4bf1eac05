"""ControlNet units over the native API: in the Request, with pictures as uploads or data: URIs."""

from __future__ import annotations

import base64

import pytest
from door_studio import API, png

URI = f"data:image/png;base64,{base64.b64encode(png()).decode()}"


def test_pictures_in_units_become_uploads(client, studio):
    unit = {"model": "line", "image": URI, "mask": URI, "annotator": "canny", "params": {"low_threshold": 50}}
    answer = client.post(f"{API}/jobs", json={"prompt": "a hat", "controls": [unit, {"model": "line", "image": URI}]})
    assert answer.status_code < 300, answer.text
    first, second = studio.jobs()[0].request.controls
    assert first.image == first.mask == second.image
    assert first.image is not None
    assert first.image.startswith("sha256:")
    assert first.params == {"low_threshold": 50.0}


@pytest.mark.parametrize(
    ("units", "field", "said"),
    [
        ([{"model": "line", "image": "data:image/png;base64,!!"}], "controls.0.image", "data:"),
        ([{"model": "line", "image": "/etc/passwd"}], "controls.0.image", "sha256"),
        ([{"image": URI}], "controls.0.model", "missing"),
        ([{"model": "line", "weight": 3}], "controls.0.weight", "≤ 2"),
        ([{"model": "line", "weight": "1"}], "controls.0.weight", "number"),
        ([{"model": "line", "start": 1, "end": 0}], "controls.0", "ends before it begins"),
        ([{"model": "line", "params": {"x": True}}], None, ""),
        ([{"model": "line"}] * 9, "controls", "8"),
        ("line", "controls", "list"),
        ([3], "controls.0", "object"),
    ],
)
def test_what_is_wrong_is_said(client, units, field, said):
    answer = client.post(f"{API}/jobs", json={"prompt": "a hat", "controls": units})
    assert answer.status_code == 422, answer.text
    body = answer.json()
    told = body.get("error", body)
    if field is not None:
        assert told["field"] == field
    assert said in str(told)


def test_models_names_them(client):
    found = client.get(f"{API}/models").json()
    assert [(one["name"], one["kind"]) for one in found["networks"]] == [("ink", "lora")]
    nets = found["controlnets"]
    assert [net["name"] for net in nets] == ["line"]
