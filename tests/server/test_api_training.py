"""Training by the API."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from door_studio import API, png, problem

from danqing.spec.training_run import EndEvent, NoteEvent, SampleEvent, StartEvent, StepEvent

RUNS = f"{API}/training/runs"
NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def door(studio):
    folder = studio.settings.data_dir / "training" / "sets" / "apples"
    (folder / "pictures").mkdir(parents=True)
    (folder / "pictures" / "a.png").write_bytes(png())
    one = {"file": "a.png", "sha256": "0" * 64, "width_px": 32, "height_px": 32}
    (folder / "set.json").write_text(json.dumps({"name": "apples", "pictures": [one]}))
    return studio.training


def submit(client, **changes):
    return client.post(RUNS, json={"method": "lora", "name": "my style", "dataset": "apples"} | changes)


def sent(text: str) -> list[tuple[str | None, str, dict]]:
    """(id, event, data) of each server-sent event."""
    found = []
    for block in text.replace("\r\n", "\n").strip().split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line)
        found.append((lines.get("id"), lines["event"], json.loads(lines["data"])))
    return found


def test_methods_say_what_can_be_set(client):
    methods = {one["method"]: one for one in client.get(f"{API}/training/methods").json()["methods"]}
    assert len(methods) == 12
    fields = {one["name"]: one for one in methods["slider"]["fields"]}
    assert methods["slider"]["needs_set"] is False
    assert methods["lora"]["needs_set"] is True
    assert (fields["network.rank"]["default"], fields["network.rank"]["minimum"]) == (4, 1)
    assert fields["positive"]["required"] is True
    assert fields["optimizer"]["choices"] == ["adamw", "adamw8bit", "muon", "prodigy"]
    assert fields["steps"]["optional"] is True
    assert fields["learning_rate"]["above"] == 0
    assert "moving average" in fields["ema"]["words"]
    assert {one["makes"] for one in methods.values()} == {
        "lora", "embedding", "hypernetwork", "controlnet", "checkpoint", None
    }  # fmt: skip


def test_a_run_is_estimated_submitted_and_listed(client, door):
    told = client.post(f"{API}/training/estimate", json={"method": "lora", "name": "x", "dataset": "apples"})
    assert (told.json()["seconds"], told.json()["reasons"]) == (90.0, [])
    assert door.training_runs() == []
    answer = submit(client)
    assert answer.status_code == 202, answer.text
    run = answer.json()
    assert (run["state"], run["steps"], run["request"]["network"]["rank"]) == ("queued", 20, 16)
    assert client.get(answer.headers["Location"]).json() == run
    second = submit(client, name="second").json()
    listed = client.get(RUNS, params={"limit": 1}).json()
    assert ([one["id"] for one in listed["runs"]], listed["next"]) == ([second["id"]], second["id"])
    assert listed["waiting"] == [run["id"], second["id"]]
    rest = client.get(RUNS, params={"before": listed["next"]}).json()
    assert [one["id"] for one in rest["runs"]] == [run["id"]]
    door.begin()
    running = client.get(RUNS, params={"state": "running"}).json()["runs"]
    assert [one["id"] for one in running] == [run["id"]]


def test_pause_resume_cancel_delete_and_restore(client, door):
    place = f"{RUNS}/{submit(client).json()['id']}"
    assert client.post(f"{place}/pause").json()["state"] == "paused"
    assert problem(client.post(f"{place}/pause"), 409)["value"] == "paused"
    assert client.post(f"{place}/resume").json()["state"] == "queued"
    run = door.begin()
    assert client.post(f"{place}/pause").json()["asked"] == "pause"
    assert problem(client.delete(place), 409)["next_step"] == "cancel it first"
    door.change(run.id, state="paused")
    assert client.post(f"{place}/cancel").json()["state"] == "cancelled"
    assert client.delete(place).json()["deleted_at"] is not None
    assert client.get(RUNS).json()["runs"] == []
    assert len(client.get(RUNS, params={"include_deleted": True}).json()["runs"]) == 1
    assert problem(client.post(f"{place}/resume"), 409)["value"] == "deleted"
    assert client.post(f"{place}/restore").json()["deleted_at"] is None
    assert client.post(f"{place}/resume").json()["state"] == "queued"


def test_events_are_sent_and_resumed(client, door):
    run = door.training_run(submit(client).json()["id"])
    door.begin()
    picture = SampleEvent(step=1, file="samples/000001.png")
    told = (StartEvent(at=NOW, steps=2), StepEvent(step=1, loss=0.5), picture, NoteEvent(words="三张图模糊"))
    door.tell(run.id, *told, EndEvent(at=NOW, state="done", step=2))
    door.change(run.id, state="done", step=2)
    place = f"{RUNS}/{run.id}/events"
    events = sent(client.get(place).text)
    assert [(number, kind) for number, kind, _ in events] == [
        ("1", "start"), ("2", "step"), ("3", "sample"), ("4", "note"), ("5", "end"), (None, "run")
    ]  # fmt: skip
    assert events[3][2]["words"] == "三张图模糊"
    assert events[-1][2]["state"] == "done"
    resumed = sent(client.get(place, headers={"Last-Event-ID": "3"}).text)
    assert [number for number, _, _ in resumed] == ["4", "5", None]
    assert client.get(place, params={"after": 5}).status_code == 204
    problem(client.get(f"{RUNS}/nothing/events"), 404)


def test_samples_are_shown_and_nothing_else(client, door):
    run = submit(client).json()["id"]
    folder = door.training_folder(run)
    (folder / "samples").mkdir()
    (folder / "samples" / "000001.png").write_bytes(png())
    for name in ("samples/000001.png", "000001.png"):
        answer = client.get(f"{RUNS}/{run}/pictures/{name}")
        assert (answer.status_code, answer.headers["content-type"]) == (200, "image/png")
        assert answer.content == png()
    for name in ("request.json", "..%2Frequest.json", "%2Fetc%2Fpasswd", "samples%2F..%2F..%2Frequest.json", "2.png"):
        problem(client.get(f"{RUNS}/{run}/pictures/{name}"), 404)


def test_a_product_is_published_again(client, door):
    run = submit(client).json()["id"]
    assert problem(client.post(f"{RUNS}/{run}/publish"), 409)["value"] == "queued"
    door.begin()
    model = door.training_folder(run) / "model"
    model.mkdir()
    (model / "my style.safetensors").write_bytes(b"weights")
    (model / "card.md").write_text("# my style")
    files = ("model/my style.safetensors", "model/card.md", "../../../../etc/passwd")
    door.tell(run, EndEvent(at=NOW, state="done", step=2, files=files))
    door.change(run, state="done")
    answer = client.post(f"{RUNS}/{run}/publish").json()
    assert [Path(one).name for one in answer["published"]] == ["my style.safetensors", "my style.md"]


def test_a_run_that_gained_nothing_says_why_it_publishes_nothing(client, door):
    run = submit(client).json()["id"]
    door.begin()
    door.tell(run, EndEvent(at=NOW, state="done", step=2, files=("model/card.md",), unpublished="no round gained"))
    door.change(run, **door.publish_product(door.training_run(run)).model_dump(include={"unpublished"}), state="done")
    assert client.get(f"{RUNS}/{run}").json()["unpublished"] == "no round gained"
    assert "because no round gained" in problem(client.post(f"{RUNS}/{run}/publish"), 409)["detail"]


def test_refusals_are_problems(client, door, tmp_path):
    assert problem(submit(client, method="lorra"), 422)["field"] == "method"
    assert problem(submit(client, dataset="pears"), 404)["field"] == "dataset"
    assert problem(submit(client, model="other"), 404)["field"] == "model"
    assert problem(submit(client, name="../x"), 422)["field"] == "name"
    assert problem(submit(client, steps=0), 422)["allowed"] == "≥ 1"
    assert problem(submit(client, network={"rnk": 1}), 422)["next_step"] == "did you mean `network.rank`?"
    pairs = {"method": "artaug", "name": "x", "pairs": str(tmp_path)}
    assert problem(client.post(RUNS, json=pairs), 422)["field"] == "pairs"  # no folder of the machine from outside
    door.reasons = ("it needs 40 GB, 8 GB are free",)
    assert "40 GB" in problem(submit(client), 422)["detail"]
    assert door.training_runs(include_deleted=True) == []
    for name in ("pause", "resume", "cancel", "restore", "publish"):
        problem(client.post(f"{RUNS}/nothing/{name}"), 404)
