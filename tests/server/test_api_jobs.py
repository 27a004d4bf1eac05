"""Submitting, watching, cancelling; bad bodies."""

from __future__ import annotations

import base64
import json

import pytest
from door_studio import API, FakeStudio, png, problem, submit
from fastapi.testclient import TestClient

from danqing.server.app import create_app
from danqing.server.examples import PAINT_EXAMPLES
from danqing.spec.request import parse_request

JSON = {"Content-Type": "application/json"}


def events_of(text: str) -> list[tuple[int, str, dict]]:
    blocks = [block for block in text.replace("\r\n", "\n").split("\n\n") if "data:" in block]
    parsed = []
    for block in blocks:
        fields = dict(line.split(": ", 1) for line in block.splitlines())
        parsed.append((int(fields["id"]), fields["event"], json.loads(fields["data"])))
    return parsed


def test_a_submitted_job_is_planned_and_found_again(client):
    answer = submit(client, count=3, seed=5)
    assert answer.status_code == 202
    job = answer.json()
    assert answer.headers["location"] == f"{API}/jobs/{job['id']}"
    assert [plan["seeds"]["seed"] for plan in job["plans"]] == [5, 6, 7]
    done = client.get(answer.headers["location"]).json()
    assert done["state"] == "done"
    assert len(done["records"]) == 3
    assert [entry["id"] for entry in client.get(f"{API}/jobs").json()["jobs"]] == [job["id"]]
    assert client.get(f"{API}/jobs?state=failed&state=queued").json() == {"jobs": []}


def test_kind_is_txt2img_unless_said(client):
    assert submit(client).json()["request"]["kind"] == "txt2img"


def test_every_openapi_example_is_a_valid_request():
    for example in PAINT_EXAMPLES.values():
        assert parse_request(example["value"]).kind == example["value"]["kind"]


def test_pictures_may_come_as_data_uris(client):
    uri = "data:image/png;base64," + base64.b64encode(png()).decode()
    answer = submit(client, kind="inpaint", image=uri, mask=uri)
    assert answer.status_code == 202, answer.text
    assert answer.json()["request"]["image"].startswith("sha256:")


@pytest.mark.parametrize(
    ("body", "field", "allowed"),
    [
        ({"sampling": {"sampler": "nonsense"}}, "sampler", "Euler"),
        ({"width_px": 0}, "width_px", "≥ 16"),
        ({"width_px": 10**9}, "width_px", "≤ 4096"),
        ({"kind": "paint"}, "kind", "txt2img"),
        ({"kind": "img2img", "image": "sha256:" + "0" * 64, "strength": 1.5}, "strength", "≤ 1"),
        ({"kind": "img2img", "image": "/etc/passwd"}, "image", "sha256:"),
        ({"kind": "img2img", "image": "data:image/png;base64,???"}, "image", "base64"),
        ({"kind": "img2img"}, "image", None),
        ({"count": 65}, "count", "≤ 64"),
        ({"count": True}, "count", None),
        ({"count": "2"}, "count", None),
        ({"seed": -1}, "seed", "≥ 0"),
        ({"wdth": 3}, "wdth", None),
        ({"seed": 10**400}, "seed", None),
    ],
)
def test_bad_fields_are_named(client, body, field, allowed):
    told = problem(submit(client, **body), 422)
    assert told["field"].endswith(field)
    assert allowed is None or allowed in told["allowed"]
    assert told["next_step"]


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_numbers_that_are_not_finite_are_refused_by_name(client, number):
    body = '{"kind": "img2img", "image": "record:a", "strength": ' + number + "}"
    told = problem(client.post(f"{API}/jobs", content=body, headers=JSON), 422)
    assert told["field"] == "strength"
    assert "finite" in told["allowed"]


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b'"x"', b"\xff\xfe", b"[" * 100_000, b'{"seed": ' + b"9" * 5000 + b"}"],
    ids=["empty", "cut", "list", "string", "not utf-8", "deep", "digits"],
)
def test_bodies_that_are_no_json_object(client, body):
    problem(client.post(f"{API}/jobs", content=body, headers=JSON), 400)


def test_lone_surrogates_do_not_break_the_answer(client):
    told = problem(client.post(f"{API}/jobs", content=b'{"prompt": "\\ud800"}', headers=JSON), 422)
    assert told["field"] == "prompt"


def test_other_media_types_are_refused(client):
    told = problem(client.post(f"{API}/jobs", content="prompt=x", headers={"Content-Type": "text/plain"}), 415)
    assert told["allowed"] == "application/json"


def test_pictures_that_are_not_there_or_of_another_size(client):
    problem(submit(client, kind="img2img", image="record:nobody"), 404)
    small = client.post(f"{API}/uploads", files={"file": png(size=(16, 16))}).json()["ref"]
    large = client.post(f"{API}/uploads", files={"file": png()}).json()["ref"]
    assert problem(submit(client, kind="inpaint", image=large, mask=small), 422)["field"] == "mask"


def test_events_are_numbered_and_resume(client):
    job_id = submit(client).json()["id"]
    url = f"{API}/jobs/{job_id}/events"
    answer = client.get(url)
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = events_of(answer.text)
    assert [name for _, name, _ in events] == ["state", "state", "progress", "preview", "record", "state"]
    assert events[-1][2]["state"] == "done"
    numbers = [number for number, _, _ in events]
    assert numbers == sorted(set(numbers))
    rest = events_of(client.get(url, headers={"Last-Event-ID": str(numbers[2])}).text)
    assert [number for number, _, _ in rest] == numbers[3:]
    assert client.get(url, headers={"Last-Event-ID": str(numbers[-1])}).status_code == 204
    assert client.get(f"{url}?after={numbers[-1]}").status_code == 204
    problem(client.get(f"{API}/jobs/nobody/events"), 404)
    problem(client.get(url, headers={"Last-Event-ID": "x"}), 422)


def test_cancel_and_retry(tmp_path, settings):
    studio = FakeStudio(tmp_path, hold=True)
    client = TestClient(create_app(studio, settings), base_url="http://localhost")
    job_id = submit(client).json()["id"]
    problem(client.post(f"{API}/jobs/{job_id}/retry"), 409)
    assert client.post(f"{API}/jobs/{job_id}/cancel").json()["state"] == "cancelled"
    problem(client.post(f"{API}/jobs/{job_id}/cancel"), 409)
    again = client.post(f"{API}/jobs/{job_id}/retry")
    assert again.status_code == 202
    assert again.json()["id"] != job_id
    problem(client.post(f"{API}/jobs/nobody/cancel"), 404)


def test_reproduce_takes_one_of_three(client):
    job_id = submit(client, seed=9).json()["id"]
    record_id = client.get(f"{API}/jobs/{job_id}").json()["records"][0]
    plan = client.get(f"{API}/records/{record_id}").json()["plan"]
    by_record = client.post(f"{API}/reproduce", json={"record": record_id})
    by_plan = client.post(f"{API}/reproduce", json={"plan": plan})
    assert by_record.status_code == by_plan.status_code == 202
    assert by_record.json()["plans"] == by_plan.json()["plans"] == [plan]
    assert problem(client.post(f"{API}/reproduce", json={}), 422)["allowed"] == "record, plan or picture"
    problem(client.post(f"{API}/reproduce", json={"record": record_id, "plan": plan}), 422)
    content = client.get(f"{API}/records/{record_id}/picture").content
    uri = "data:image/png;base64," + base64.b64encode(content).decode()
    assert client.post(f"{API}/reproduce", json={"picture": uri}).json()["plans"] == [plan]
    plain = "data:image/png;base64," + base64.b64encode(png()).decode()
    assert problem(client.post(f"{API}/reproduce", json={"picture": plain}), 415)["field"] == "picture"
