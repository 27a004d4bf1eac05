"""Comparisons by the API."""

from __future__ import annotations

import base64
import io

from door_studio import API, png, problem
from PIL import Image


def begin(client, **changes):
    body = {
        "request": {"prompt": "red apple, 3d", "seed": 7},
        "x": {"axis": "CFG Scale", "values": "1-5 (+2)"},
        "y": {"axis": "Prompt S/R", "values": "red apple, 企鹅"},
    }
    return client.post(f"{API}/explore", json=body | changes)


def test_a_comparison_is_begun_looked_at_and_drawn(client):
    answer = begin(client)
    assert answer.status_code == 202, answer.text
    found = answer.json()
    assert found["names"] == ["CFG Scale", "Prompt S/R"]
    assert (found["columns"], found["rows"]) == (["1", "3", "5"], ["red apple", "企鹅"])
    place = answer.headers["Location"]
    state = client.get(place).json()
    assert state["waiting"] == 0
    assert {(p["x"], p["y"], p["z"]) for p in state["pictures"]} == {(x, y, 0) for x in range(3) for y in range(2)}
    for format_name, magic in (("png", b"\x89PNG"), ("webp", b"RIFF"), ("jpeg", b"\xff\xd8")):
        sheet = client.get(f"{place}/sheet", params={"format": format_name})
        assert sheet.headers["content-type"] == f"image/{format_name}"
        assert sheet.content.startswith(magic)
    plain = client.get(f"{place}/sheet", params={"legend": False, "gap_px": 0})
    with Image.open(io.BytesIO(plain.content)) as opened:
        assert opened.size == (3 * 128, 2 * 128)
    assert client.get(f"{API}/explore").json()["explorations"][0]["id"] == found["id"]
    assert client.post(f"{place}/cancel").json()["waiting"] == 0


def test_pictures_in_the_body_are_taken(client):
    uri = "data:image/png;base64," + base64.b64encode(png()).decode()
    answer = begin(
        client,
        request={"kind": "img2img", "prompt": "red apple", "image": uri, "seed": 1},
        x={"axis": "Denoising", "values": "0.3, 0.6"},
        y=None,
    )
    assert answer.status_code == 202, answer.text
    assert answer.json()["asked"]["request"]["image"].startswith("sha256:")


def test_pictures_join_a_project(client):
    project = client.post(f"{API}/projects", json={"name": "Tea house"}).json()["id"]
    assert begin(client, project=project).json()["asked"]["project"] == project
    assert len(client.get(f"{API}/projects/{project}/tree").json()["versions"]) == 6
    assert problem(begin(client, project="nobody"), 404)["value"] == "nobody"
    assert problem(begin(client, project="no/body"), 422)["field"] == "project"


def test_the_axes_are_listed_with_examples(client):
    axes = client.get(f"{API}/axes").json()["axes"]
    assert {"Seed", "CFG Scale", "Prompt S/R", "Sampler", "LoRA weight"} <= {axis["name"] for axis in axes}
    assert all(axis["example"] and axis["hint"] for axis in axes)


def test_refusals_are_problems(client):
    assert problem(begin(client, x={"axis": "Colour", "values": "1"}), 422)["field"] == "x.axis"
    assert problem(begin(client, x={"axis": "Steps", "values": "many"}), 422)["field"] == "x.values"
    assert problem(begin(client, x={"axis": "Steps", "values": "0"}), 422)["field"] == "x"
    assert problem(begin(client, y={"axis": "Prompt S/R", "values": "whale, fox"}), 422)["field"] == "y"
    assert problem(begin(client, request={"kind": "img2img", "prompt": "x"}), 422)["field"]
    assert problem(begin(client, w={"axis": "Seed", "values": "1"}), 422)["field"] == "w"
    problem(client.get(f"{API}/explore/nothing"), 404)
    problem(client.get(f"{API}/explore/nothing/sheet"), 404)
