"""Reviews by models and refinements through the API."""

from __future__ import annotations

import base64
import io
import time
import zipfile

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


def project_of(client, record: str, words: str = "") -> str:
    made = client.post(f"{API}/projects", json={"name": "Hats", "brief": {"words": words}}).json()["id"]
    assert client.post(f"{API}/projects/{made}/records", json={"records": [record]}).status_code == 200
    return made


def test_a_model_is_asked_for_a_review_of_a_version(client):
    record = painted(client)
    project = project_of(client, record)
    asked = client.post(f"{API}/projects/{project}/model-reviews", json={"record": record})
    assert asked.status_code == 202, asked.text
    until = time.monotonic() + 10
    while (told := client.get(f"{API}/projects/{project}/model-reviews").json()["reviews"][0])["state"] == "running":
        assert time.monotonic() < until
    assert (told["id"], told["state"]) == (asked.json()["id"], "done")
    review = client.get(f"{API}/reviews/{told['review']}").json()
    assert (review["source"], review["note"]) == ("builtin", "one change")
    drafted = client.post(f"{API}/suggestions/{review['suggestions'][0]['id']}/draft", json={}).json()
    assert drafted["request"]["kind"] == "inpaint"
    problem(client.post(f"{API}/model-reviews/{told['id']}/cancel"), 409)
    problem(client.post(f"{API}/model-reviews/none/cancel"), 404)
    problem(client.get(f"{API}/projects/none/model-reviews"), 404)
    wrong = client.post(f"{API}/projects/{project}/model-reviews", json={"record": "none"})
    assert problem(wrong, 404)["field"] == "record"
    wrong = client.post(f"{API}/projects/{project}/model-reviews", json={"record": record, "reviewer": "nobody"})
    assert problem(wrong, 422)["field"] == "reviewer"


def test_the_reviewers_are_told_without_the_key(client, studio):
    told = {"review_url": "http://127.0.0.1:9/v1", "review_model": "qwen-vl", "review_key": "sk-secret"}
    studio.settings = studio.settings.model_copy(update=told)
    answer = client.get(f"{API}/reviewers")
    found = {one["key"]: one for one in answer.json()["reviewers"]}
    assert [found[key]["available"] for key in ("builtin", "openai", "qwen")] == [True, True, False]
    assert found["openai"]["model"] == "qwen-vl"
    assert found["qwen"]["lacks"] == ["weights"]
    assert "secret" not in answer.text


def test_refinements_are_listed_by_project_and_go_on(client):
    record = painted(client)
    project = project_of(client, record)
    begun = client.post(f"{API}/refinements", json={"record": record, "project": project}).json()
    client.post(f"{API}/refinements", json={"record": record})
    assert [one["id"] for one in client.get(f"{API}/refinements?project={project}").json()["refinements"]] == [
        begun["id"]
    ]
    page = client.get(f"{API}/refinements?limit=1").json()
    assert len(page["refinements"]) == 1
    rest = client.get(f"{API}/refinements?before={page['next']}").json()
    assert ([one["id"] for one in rest["refinements"]], rest["next"]) == ([begun["id"]], None)
    problem(client.post(f"{API}/refinements/{begun['id']}/continue"), 409)
    client.post(f"{API}/refinements/{begun['id']}/cancel")
    more = client.post(f"{API}/refinements/{begun['id']}/continue")
    assert (more.status_code, more.json()["continues"]) == (202, begun["id"])
    problem(client.get(f"{API}/refinements?project=none"), 404)
    packed = client.get(f"{API}/projects/{project}/pairs")
    assert packed.headers["content-type"] == "application/zip"
    assert zipfile.ZipFile(io.BytesIO(packed.content)).namelist() == ["pairs/pairs.jsonl"]


def test_both_kinds_of_review_body_are_described(client):
    paths = client.get(f"{API}/openapi.json").json()
    sent = paths["paths"]["/projects/{project_id}/reviews"]["post"]["requestBody"]["content"]["application/json"]
    assert "key" in paths["components"]["schemas"][sent["schema"]["$ref"].rpartition("/")[2]]["required"]
    asked = paths["paths"]["/review"]["post"]["requestBody"]["content"]["application/json"]
    assert paths["components"]["schemas"][asked["schema"]["$ref"].rpartition("/")[2]]["required"] == ["image"]
