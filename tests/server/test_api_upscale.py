"""Upscaling by the API."""

from __future__ import annotations

import base64
import io

from door_studio import API, png, problem
from PIL import Image


def test_a_picture_in_the_body_comes_back_larger(client):
    uri = "data:image/png;base64," + base64.b64encode(png(size=(20, 10))).decode()
    answer = client.post(f"{API}/upscale", json={"image": uri, "scale": 3, "upscaler": "4x-draw"})
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert (body["width_px"], body["height_px"], body["upscaler"]) == (60, 30, "4x-draw")
    fetched = client.get(f"{API}/pictures/{body['sha256']}")
    assert fetched.headers["content-type"] == "image/png"
    assert Image.open(io.BytesIO(fetched.content)).size == (60, 30)
    again = client.post(f"{API}/upscale", json={"image": body["ref"], "width_px": 90, "upscaler": "Lanczos"})
    assert (again.json()["width_px"], again.json()["height_px"]) == (90, 45)


def test_the_list_of_upscalers_names_the_files(client):
    found = client.get(f"{API}/upscalers").json()["upscalers"]
    assert [entry["name"] for entry in found if entry["file"]] == ["4x-draw"]


def test_refusals_are_problems(client):
    uri = "data:image/png;base64," + base64.b64encode(png()).decode()
    assert problem(client.post(f"{API}/upscale", json={"image": uri, "scale": 9}), 422)["field"] == "scale"
    assert problem(client.post(f"{API}/upscale", json={"image": uri, "upscaler": "4x-no"}), 422)["field"] == "upscaler"
    assert problem(client.post(f"{API}/upscale", json={"scale": 2}), 422)["field"] == "image"
    assert problem(client.post(f"{API}/upscale", json={"image": uri, "sclae": 2}), 422)["field"] == "sclae"
    problem(client.post(f"{API}/upscale", json={"image": f"sha256:{'0' * 64}"}), 404)
