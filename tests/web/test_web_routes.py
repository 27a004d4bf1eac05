"""What the page's JavaScript asks for, and that the page loads no torch."""

from __future__ import annotations

import io
import json
import time

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from page_studio import DETAIL, FOREIGN, LINE, POSE, SEEN, UPSCALER, FakeStudio, picture, until
from PIL import Image

from danqing.spec.errors import MissingWeightsError
from danqing.spec.painting import Img2ImgRequest, Txt2ImgRequest
from danqing.web.i18n import words
from danqing.web.routes import add_routes

PAGE = {"X-Danqing": "page"}


@pytest.fixture
def studio():
    return FakeStudio(step_s=0.001)


@pytest.fixture
def client(studio):
    app = FastAPI()
    add_routes(app, studio, upload_max_bytes=20_000)
    return TestClient(app)


@pytest.fixture
def record(studio):
    job = studio.submit(Txt2ImgRequest(prompt="an apple", seed=3))
    deadline = time.monotonic() + 60
    while not studio.job(job.id).is_final:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return next(iter(studio.kept.values()))


def png(side):
    out = io.BytesIO()
    picture("x", 1, side, side).save(out, "PNG")
    return out.getvalue()


def test_records_and_pictures(client, record):
    listed = client.get("/web/records").json()
    assert [item["id"] for item in listed["records"]] == [record.id]
    assert listed["records"][0]["seed"] == "3"
    details = client.get(f"/web/records/{record.id}").json()
    assert details["sampler"] == "DPM++ 2M"
    answer = client.get(f"/web/records/{record.id}/picture?download=true")
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["content-disposition"] == f'attachment; filename="danqing-{record.id}.png"'
    assert client.get(f"/web/records/{record.id}/thumbnail").headers["content-type"] == "image/png"


def test_changes_need_the_header_of_the_page(client, record):
    assert client.delete(f"/web/records/{record.id}").status_code == 403
    assert client.post("/web/uploads", content=png(32)).status_code == 403
    assert client.delete(f"/web/records/{record.id}", headers=PAGE).json()["deleted"]
    assert client.get("/web/records").json()["records"] == []
    assert not client.post(f"/web/records/{record.id}/restore", headers=PAGE).json()["deleted"]


def test_uploads_are_limited_and_checked(client, studio):
    kept = client.post("/web/uploads", content=png(32), headers=PAGE).json()
    assert (kept["width_px"], kept["height_px"]) == (32, 32)
    assert client.get("/web/uploads/" + kept["ref"].removeprefix("sha256:")).headers["content-type"] == "image/png"
    for data in (b"<svg onload=alert(1)>", b"", b"x" * 30_000):
        refused = client.post("/web/uploads?lang=zh-Hant", content=data, headers=PAGE)
        assert refused.status_code == 415
        assert refused.json()["text"] == words("zh-Hant")["e.code.bad_file"]


def test_a_blob_is_never_served_as_something_that_runs(client, studio):
    sha = studio._blob(b"<script>alert(1)</script>")
    answer = client.get(f"/web/uploads/{sha}")
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_what_is_not_there_is_404_in_the_language(client):
    for path in ("records/none", "records/none/picture", "records/none/thumbnail", "uploads/00", "jobs/none/events"):
        answer = client.get(f"/web/{path}?lang=zh-Hans")
        assert answer.status_code == 404, path
    assert client.get("/web/i18n/fr.json").status_code == 404
    assert client.get("/web/canvas/..%2f..%2fapp.py").status_code == 404
    assert client.post("/web/jobs/none/cancel", headers=PAGE).status_code == 404


def test_events_are_numbered_and_resume(client, studio, record):
    lines = client.get(f"/web/jobs/{record.job_id}/events").text.splitlines()
    events = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]
    assert events[0]["type"] == "state"
    assert events[-1]["state"] == "done"
    assert {"progress", "preview", "record"} <= {event["type"] for event in events}
    numbers = [int(line.removeprefix("id: ")) for line in lines if line.startswith("id: ")]
    assert numbers == sorted(set(numbers))
    rest = client.get(f"/web/jobs/{record.job_id}/events", headers={"Last-Event-ID": str(numbers[-2])})
    assert rest.text.count("data: ") == 1


def test_status_counts_what_waits(client, studio):
    studio.step_s = 0.2
    studio.submit(Txt2ImgRequest(prompt="slow", count=2))
    status = client.get("/web/status").json()
    assert status["waiting"] == 1
    assert status["jobs"][0]["count"] == 2
    assert status["jobs"][0]["size"] == [128, 128]


def test_cards_are_offered_what_fits_the_model(client, studio, monkeypatch):
    monkeypatch.setattr("danqing.web.controls.is_ready", lambda studio, key: False)  # no network is installed
    offers = client.get("/web/controls?model=danqing-mini").json()
    assert offers["models"] == [LINE.name, DETAIL.name]
    suited = {kind["key"]: kind["model"] for kind in offers["kinds"]}
    assert (suited["canny"], suited["tile_resample"], suited["normal_relief"]) == (LINE.name, DETAIL.name, None)
    groups = ["line"] * 10 + ["block"] * 4 + ["pose"] + ["detail"] * 4 + ["own"] * 2
    assert [kind["group"] for kind in offers["kinds"]] == groups
    assert offers["likes"] is True
    studio.nets = [FOREIGN, LINE.model_copy(update={"annotators": (), "name": "some-canny", "base": None})]
    offers = client.get("/web/controls").json()
    assert offers["models"] == ["some-canny"]
    assert next(kind["model"] for kind in offers["kinds"] if kind["key"] == "canny") == "some-canny"


def test_installed_networks_follow_in_their_group(client, monkeypatch):
    ready = {"mediapipe_pose", "mediapipe_face", "mask_cutout"}
    monkeypatch.setattr("danqing.web.controls.is_ready", lambda studio, key: key in ready)
    kinds = {kind["key"]: kind for kind in client.get("/web/controls").json()["kinds"]}
    assert {key: (kinds[key]["group"], kinds[key]["draw"]) for key in ready} == {
        "mediapipe_pose": ("pose", "pose"),
        "mediapipe_face": ("pose", None),
        "mask_cutout": ("own", None),
    }


def test_what_is_drawn_by_hand_has_a_control_model_and_no_annotator(client, studio):
    studio.nets = [LINE, POSE]
    kinds = {kind["key"]: kind for kind in client.get("/web/controls").json()["kinds"]}
    drawn = {key: kind["draw"] for key, kind in kinds.items() if kind["drawn"]}
    assert drawn == {"draw_pose": "pose", "draw_sketch": "sketch"}
    assert (kinds["draw_pose"]["model"], kinds["draw_sketch"]["model"]) == (POSE.name, LINE.name)
    assert {kinds[key]["annotator"] for key in drawn} == {"none"}
    assert (kinds["scribble_canny"]["draw"], kinds["scribble_canny"]["drawn"]) == ("sketch", False)
    assert kinds["canny"]["draw"] is None


def test_settings_of_annotators_reach_their_defaults_by_steps(client):
    kinds = client.get("/web/controls").json()["kinds"]
    settings = [(kind["key"], setting) for kind in kinds for setting in kind["params"]]
    assert len(settings) >= 20
    for key, setting in settings:
        if setting["choices"]:
            assert setting["default"] in setting["choices"]
            continue
        steps = (setting["default"] - setting["low"]) / setting["step"]
        assert abs(steps - round(steps)) < 1e-6, (key, setting["key"])
        assert setting["low"] <= setting["default"] <= setting["high"]


def test_maps_descriptions_and_enlarging(client, studio, record):
    image = f"record:{record.id}"
    assert client.post("/web/annotate", json={"image": image, "annotator": "canny"}).status_code == 403
    made = client.post("/web/annotate", json={"image": image, "annotator": "canny"}, headers=PAGE).json()
    assert client.get("/web/uploads/" + made["ref"].removeprefix("sha256:")).headers["content-type"] == "image/png"
    seen = client.post("/web/interrogate", json={"image": image}, headers=PAGE).json()["words"]
    assert {language: one["caption"] for language, one in seen.items()} == {k: v[0] for k, v in SEEN.items()}
    lookers = client.get("/web/interrogators").json()["interrogators"]
    assert lookers == [{"key": "builtin", "name": "Danqing"}]
    named = client.post("/web/interrogate", json={"image": image, "interrogator": "wd14"}, headers=PAGE)
    assert set(named.json()["words"]) == set(seen)
    large = client.post("/web/upscale", json={"image": image}, headers=PAGE).json()
    assert (large["width_px"], large["height_px"], large["upscaler"]) == (512, 512, UPSCALER.name)
    saved = client.get("/web/uploads/" + large["ref"].removeprefix("sha256:") + "?name=large-x4")
    assert saved.headers["content-disposition"] == 'attachment; filename="large-x4.png"'
    assert client.get("/web/looks?search=apple", headers=PAGE).json()["records"][0]["id"] == record.id


def test_what_cannot_be_seen_is_said_in_the_language(client, studio, record):
    studio.blind = MissingWeightsError("mini-CLIP is not installed", field="model", next_step="reinstall")
    for answer in (
        client.post("/web/interrogate?lang=zh-Hant", json={"image": f"record:{record.id}"}, headers=PAGE),
        client.get("/web/looks?search=x&lang=zh-Hant", headers=PAGE),
    ):
        assert answer.status_code == 424
        assert answer.json()["text"] == words("zh-Hant")["e.sight"]
        assert "mini-CLIP" in answer.json()["original"]
    gone = client.post("/web/upscale?lang=zh-Hant", json={"image": "record:none"}, headers=PAGE)
    assert gone.status_code == 404


def test_what_a_drag_will_look_like(client, record):
    body = {
        "image": f"record:{record.id}",
        "points": [{"from_x_px": 40, "from_y_px": 64, "to_x_px": 60, "to_y_px": 64}],
    }
    assert client.post("/web/drag", json=body).status_code == 403
    answer = client.post("/web/drag", json=body, headers=PAGE)
    assert answer.headers["content-type"] == "image/webp"
    with Image.open(io.BytesIO(answer.content)) as shown:
        assert shown.size == (128, 128)
    body["points"][0]["to_x_px"] = 500
    wrong = client.post("/web/drag?lang=zh-Hans", json=body, headers=PAGE).json()
    assert (wrong["field"], wrong["text"]) == ("points", words("zh-Hans")["e.points.outside"])


def test_what_a_picture_is_compared_with(client, studio, record):
    assert client.get(f"/web/records/{record.id}").json()["before"] is None
    studio.submit(Img2ImgRequest(prompt="a pear", image=f"record:{record.id}"))
    until(lambda: studio.idle, "the second job goes on")
    second = list(studio.kept.values())[-1]
    before = client.get(f"/web/records/{second.id}").json()["before"]
    assert before == {"ref": f"sha256:{record.picture}", "resize": "stretch", "margins": [0, 0, 0, 0]}
