"""Reviews by models and refinements through the API."""

from __future__ import annotations

import base64

from door_studio import API, png, problem, submit


def data_uri(data: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(data).decode()}"


def painted(client) -> str:
    job = submit(client).json()
    return client.get(f"{API}/jobs/{job['id']}").json()["records"][0]


def test_a_record_and_a_picture_are_reviewed(client):
    record = painted(client)
    for image in (f"record:{record}", data_uri(png())):
        found = client.post(f"{API}/review", json={"image": image, "brief": "a red apple"})
        assert found.status_code == 200, found.text
        told = found.json()["suggestions"][0]
        assert told["box"] == {"left_px": 4, "top_px": 4, "right_px": 20, "bottom_px": 20}
        assert told["prompt"] == "a red apple"


def test_what_cannot_be_reviewed_is_a_problem(client):
    image = data_uri(png())
    assert (
        problem(client.post(f"{API}/review", json={"image": image, "reviewer": "nobody"}), 422)["field"] == "reviewer"
    )
    assert problem(client.post(f"{API}/review", json={"image": "http://x/y.png"}), 422)["field"] == "image"
    assert problem(client.post(f"{API}/review", json={"image": "record:none"}), 404)
    assert problem(client.post(f"{API}/review", json={"image": image, "brief": "x" * 5000}), 422)["field"] == "brief"
    assert problem(client.post(f"{API}/review", json={"image": image, "reviewer": "qwen"}), 424)
    # The address of the endpoint is a setting: no body can name one.
    assert problem(client.post(f"{API}/review", json={"image": image, "url": "http://x"}), 422)


def test_a_refinement_is_started_watched_and_cancelled(client):
    begun = client.post(f"{API}/refinements", json={"record": painted(client), "options": {"rounds": 2}})
    assert begun.status_code == 202, begun.text
    where = begun.headers["Location"]
    assert client.get(where).json()["state"] == "running"
    client.post(f"{where}/cancel")
    assert client.get(where).json()["state"] == "cancelled"
    problem(client.post(f"{where}/cancel"), 409)
    problem(client.get(f"{API}/refinements/none"), 404)


def test_a_refinement_needs_one_start(client):
    record = painted(client)
    painting = {"kind": "txt2img", "prompt": "a cat"}
    for body in ({}, {"record": record, "request": painting}):
        assert problem(client.post(f"{API}/refinements", json=body), 422)["field"] == "record"
    assert problem(client.post(f"{API}/refinements", json={"request": {**painting, "count": 2}}), 422)
    assert client.post(f"{API}/refinements", json={"request": painting}).status_code == 202
    assert problem(client.post(f"{API}/refinements", json={"record": record, "options": {"rounds": 99}}), 422)
