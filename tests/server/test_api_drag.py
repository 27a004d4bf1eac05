"""Dragging by the API: the job, and what it will look like."""

from __future__ import annotations

import base64
import io

from door_studio import API, png, problem
from PIL import Image

POINT = {"from_x_px": 8, "from_y_px": 8, "to_x_px": 16, "to_y_px": 12}


def uri(size: tuple[int, int] = (32, 24)) -> str:
    return "data:image/png;base64," + base64.b64encode(png(size=size)).decode()


def test_a_preview_comes_at_once(client):
    answer = client.post(f"{API}/drag/preview", json={"image": uri(), "points": [POINT], "max_side_px": 16})
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "image/webp"
    assert Image.open(io.BytesIO(answer.content)).size == (16, 12)
    assert 0 <= float(answer.headers["danqing-repaired"]) <= 1


def test_previews_that_make_no_sense_are_problems(client):
    def refused(**body):
        return problem(client.post(f"{API}/drag/preview", json={"image": uri(), "points": [POINT], **body}), 422)

    assert refused(points=[])["field"] == "points"
    assert refused(points=[{**POINT, "to_x_px": 32}])["field"] == "points.0.to_x_px"
    assert refused(mask=uri((24, 32)))["field"] == "mask"
    assert refused(piont=1)["field"] == "piont"
    missing = {"image": f"sha256:{'0' * 64}", "points": [POINT]}
    problem(client.post(f"{API}/drag/preview", json=missing), 404)


def test_a_drag_is_a_job_like_any_other(client):
    body = {"kind": "drag", "image": uri(), "points": [POINT], "mode": "fast"}
    answer = client.post(f"{API}/jobs", json=body)
    assert answer.status_code in (200, 201, 202), answer.text
    assert problem(client.post(f"{API}/jobs", json={**body, "points": []}), 422)["field"] == "points"
    schema = client.get(f"{API}/openapi.json").json()["components"]["schemas"]
    assert {"DragRequest", "DragPreviewRequest", "DragPoint"} <= set(schema)
