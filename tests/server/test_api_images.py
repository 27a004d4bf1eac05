"""Image prompts over the native API: in the Request, with pictures as uploads or data: URIs."""

from __future__ import annotations

import base64

import pytest
from door_studio import API, png

URI = f"data:image/png;base64,{base64.b64encode(png()).decode()}"


def test_pictures_become_uploads(client, studio):
    body = {"prompt": "", "image_prompts": [{"image": URI}, {"image": URI, "weight": 0.5}], "image_mix": "average"}
    answer = client.post(f"{API}/jobs", json=body)
    assert answer.status_code < 300, answer.text
    request = studio.jobs()[0].request
    assert [prompt.weight for prompt in request.image_prompts] == [1.0, 0.5]
    assert all(prompt.image.startswith("sha256:") for prompt in request.image_prompts)


@pytest.mark.parametrize(
    ("prompts", "field", "said"),
    [
        ([{"image": "data:image/png;base64,!!"}], "image_prompts.0.image", "data:"),
        ([{"image": "/etc/passwd"}], "image_prompts.0.image", "sha256"),
        ([{}], "image_prompts.0.image", "missing"),
        ([{"image": URI, "weight": -1}], "image_prompts.0.weight", "≥ 0"),
        ([{"image": "record:a"}] * 6, "image_prompts", "5"),
        ("cat", "image_prompts", "list"),
        ([3], "image_prompts.0", "object"),
    ],
)
def test_what_is_wrong_is_said(client, prompts, field, said):
    answer = client.post(f"{API}/jobs", json={"prompt": "a hat", "image_prompts": prompts})
    assert answer.status_code == 422, answer.text
    body = answer.json()
    told = body.get("error", body)
    assert told["field"] == field
    assert said in str(told)


def test_models_names_them(client):
    (found,) = client.get(f"{API}/models").json()["image_adapters"]
    assert (found["name"], found["encoder"]["embedding_width"]) == ("danqing-mini", 256)
