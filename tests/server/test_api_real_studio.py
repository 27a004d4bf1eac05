"""The API over the real Studio with fake workers: durable jobs, live events, cancel, restart."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
import uvicorn
from door_studio import API, plans_of, png, problem, submit
from fastapi.testclient import TestClient

from danqing.server.app import create_app
from danqing.studio.service import Studio
from danqing.studio.settings import load_settings
from danqing.workers.pool import FakePool


def planner(request, catalog, **facts):
    return plans_of(request)


@pytest.fixture
def open_client(tmp_path):
    studios = []

    def begin(**pool):
        settings = load_settings(data_dir=tmp_path)
        studio = Studio(settings, FakePool(**pool), planner=planner)
        studio.start(eager=True)
        studios.append(studio)
        return TestClient(create_app(studio, settings), base_url="http://127.0.0.1:7860")

    yield begin
    for studio in studios:
        studio.close()


def states(text: str) -> list[str]:
    lines = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: ")]
    return [event["state"] for event in lines if event["type"] == "state"]


def test_a_job_from_submit_to_thumbnail(open_client):
    client = open_client()
    job = submit(client, count=2, seed=5).json()
    stream = client.get(f"{API}/jobs/{job['id']}/events")
    assert states(stream.text)[-1] == "done"
    numbers = [line[4:] for line in stream.text.splitlines() if line.startswith("id: ")]
    done = client.get(f"{API}/jobs/{job['id']}/events", headers={"Last-Event-ID": numbers[-1]})
    assert done.status_code == 204
    # numbers begin anew after a restart of the server: the end is told again
    late = client.get(f"{API}/jobs/{job['id']}/events", headers={"Last-Event-ID": "999"})
    assert states(late.text) == ["done"]
    records = client.get(f"{API}/records?limit=1").json()
    assert records["next"] == records["records"][0]["id"]
    older = client.get(f"{API}/records?limit=1&before={records['next']}").json()
    assert older["next"] is None
    for record in (records["records"][0], older["records"][0]):
        assert client.get(f"{API}/records/{record['id']}/picture").headers["etag"] == f'"{record["picture"]}"'
        small = client.get(f"{API}/records/{record['id']}/thumbnail")
        assert small.headers["content-type"] == "image/webp"
    assert client.get(f"{API}/records?search=apple").json()["records"]
    assert client.get(f"{API}/records?kind=outpaint").json()["records"] == []


def test_cancel_and_retry(open_client):
    client = open_client(held=True)
    job = submit(client).json()
    assert job["state"] == "queued"
    assert client.post(f"{API}/jobs/{job['id']}/cancel").status_code == 200
    client.app.state.studio.pool.release()
    assert states(client.get(f"{API}/jobs/{job['id']}/events").text)[-1] == "cancelled"
    problem(client.post(f"{API}/jobs/{job['id']}/cancel"), 409)
    again = client.post(f"{API}/jobs/{job['id']}/retry").json()
    assert states(client.get(f"{API}/jobs/{again['id']}/events").text)[-1] == "done"


def test_uploads_are_checked(open_client):
    client = open_client()
    stored = client.post(f"{API}/uploads", files={"file": ("../../cat.png", png())})
    assert stored.status_code == 201
    problem(client.post(f"{API}/uploads", files={"file": b"GIF89a"}), 415)
    problem(client.post(f"{API}/uploads", files={"file": b""}), 415)
    problem(client.post(f"{API}/read-picture", files={"file": png()}), 415)
    problem(submit(client, kind="img2img", image="sha256:" + "0" * 64), 404)


def test_events_come_live_over_a_real_socket(tmp_path):
    settings = load_settings(data_dir=tmp_path)
    studio = Studio(settings, FakePool(held=True), planner=planner)
    studio.start(eager=True)
    server = uvicorn.Server(uvicorn.Config(create_app(studio, settings), port=0, log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        while not server.started:
            thread.join(0.02)
        port = server.servers[0].sockets[0].getsockname()[1]
        with httpx.Client(base_url=f"http://127.0.0.1:{port}{API}", timeout=20) as client:
            job_id = client.post("/jobs", json={"prompt": "apple"}).json()["id"]
            seen = []
            with client.stream("GET", f"/jobs/{job_id}/events") as stream:
                for line in stream.iter_lines():
                    if line.startswith("data: "):
                        seen.append(json.loads(line[6:]))
                    if len(seen) == 1:
                        studio.pool.release()
            assert seen[0]["state"] == "queued"
            assert seen[-1]["state"] == "done"
            with ThreadPoolExecutor(8) as threads:
                codes = list(threads.map(lambda _: client.get("/records").status_code, range(16)))
            assert codes == [200] * 16
    finally:
        server.should_exit = True
        thread.join(10)
        studio.close()
    assert not thread.is_alive()
