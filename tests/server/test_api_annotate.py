"""Control maps by the API."""

from __future__ import annotations

import base64
import io

import numpy as np
from door_studio import API, problem
from PIL import Image, ImageDraw


def uri():
    image = Image.new("RGB", (64, 48), "white")
    ImageDraw.Draw(image).rectangle((16, 12, 47, 35), fill="black")
    out = io.BytesIO()
    image.save(out, "PNG")
    return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode()


def test_a_map_comes_back_and_can_be_named(client):
    answer = client.post(f"{API}/annotate", json={"image": uri(), "annotator": "canny", "params": {"threshold_a": 50}})
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert (body["annotator"], body["method"], body["control_class"]) == ("canny", "classical", "line")
    assert body["params"] == {"low_threshold": 50, "high_threshold": 200}
    fetched = client.get(f"{API}/pictures/{body['sha256']}")
    drawn = np.asarray(Image.open(io.BytesIO(fetched.content)).convert("L"))
    assert drawn.shape == (48, 64)
    assert drawn[24, 32] == 0
    assert drawn[24, 12:20].max() == 255
    again = client.post(f"{API}/annotate", json={"image": body["ref"], "annotator": "none"})
    assert again.json()["sha256"]


def test_the_map_is_pixel_perfect_for_the_painting(client):
    coarse = {"image": uri(), "annotator": "canny", "width_px": 16, "height_px": 16}
    answer = client.post(f"{API}/annotate", json=coarse)
    assert answer.status_code == 200, answer.text
    plain = client.post(f"{API}/annotate", json={"image": uri(), "annotator": "canny"})
    assert answer.json()["sha256"] != plain.json()["sha256"]


def test_refusals_are_problems(client):
    assert problem(client.post(f"{API}/annotate", json={"image": uri()}), 422)["field"] == "annotator"
    none = client.post(f"{API}/annotate", json={"image": uri(), "annotator": "cany"})
    assert "canny" in problem(none, 422)["next_step"]
    missing = client.post(f"{API}/annotate", json={"image": uri(), "annotator": "depth_midas"})
    assert problem(missing, 424)["code"] == "missing_weights"
    gone = {"image": f"sha256:{'0' * 64}", "annotator": "canny"}
    problem(client.post(f"{API}/annotate", json=gone), 404)
