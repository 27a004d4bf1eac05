"""Shares over real sockets: live events, many who read and write at once, lost connections, a second process."""

from __future__ import annotations

import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
import uvicorn
from door_studio import API, plans_of

from danqing.server.app import create_app
from danqing.spec.share import ShareChanges, ShareOrder
from danqing.store.projects_base import ReviewQuery, Tie
from danqing.studio.service import Studio
from danqing.studio.settings import load_settings
from danqing.workers.pool import FakePool

READERS, WRITERS, REVIEWS = 12, 4, 6


def planner(request, catalog, **facts):
    return tuple(plan.model_copy(update={"parent": request.parent}) for plan in plans_of(request))


class Served:
    """A studio behind a real server."""

    def __init__(self, folder):
        settings = load_settings(data_dir=folder)
        self.studio = Studio(settings, FakePool(), planner=planner)
        self.studio.start()
        app = create_app(self.studio, settings)
        self.server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning", timeout_graceful_shutdown=1))
        self.thread = threading.Thread(target=self.server.run, daemon=True)
        self.thread.start()
        while not self.server.started:
            time.sleep(0.02)
        self.port = self.server.servers[0].sockets[0].getsockname()[1]
        self.address = f"http://127.0.0.1:{self.port}"

    def close(self):
        self.server.should_exit = True
        self.studio._feed.close()
        self.thread.join(15)
        self.studio.close()
        assert not self.thread.is_alive()


@pytest.fixture
def served(tmp_path):
    served = Served(tmp_path)
    yield served
    served.close()


@pytest.fixture
def shared(served):
    """(project, share, path of its API, first version)"""
    project = served.studio.create_project("Tea house")
    record = paint(served.studio, project.id)
    made = served.studio.create_share(project.id, ShareOrder(name="Drafts", follow=True))
    return project.id, made.share.id, f"{made.path}/api", record


def paint(studio, project_id, **fields):
    from danqing.spec.request import parse_request

    job = studio.submit(parse_request({"prompt": "apple", "seed": 3, **fields}), tie=Tie(project_id))
    return studio.wait(job.id, timeout_s=20).records[0]


def body(record, key):
    said = [{"box": {"left_px": 1, "top_px": 1, "right_px": 9, "bottom_px": 9}, "prompt": f"wish {key}"}]
    return {"key": key, "record": record, "reviewer": "Mei", "suggestions": said}


class Listener(threading.Thread):
    """Reads an event stream until it ends, or `enough` have come; made when it misses nothing any more."""

    def __init__(self, served, address, enough, **headers):
        super().__init__(daemon=True)
        watching = served.studio._feed._wakers
        before = set(watching)
        self.address, self.enough, self.headers = address, enough, headers
        self.events = []
        self.ready = threading.Event()
        self.start()
        assert self.ready.wait(30)
        ends = time.monotonic() + 30
        while set(watching) <= before and self.is_alive() and time.monotonic() < ends:
            time.sleep(0.005)

    def run(self):
        with httpx.Client(timeout=20) as client, client.stream("GET", self.address, headers=self.headers) as stream:
            assert stream.status_code == 200
            self.ready.set()
            kind = number = None
            for line in stream.iter_lines():
                name, _, value = line.partition(": ")
                if name == "event":
                    kind = value
                elif name == "id":
                    number = int(value)
                elif name == "data":
                    self.events.append((kind, number, json.loads(value)))
                if len(self.events) >= self.enough:
                    return

    def wait_for(self, count):
        ends = time.monotonic() + 10
        while len(self.events) < count and time.monotonic() < ends:
            time.sleep(0.02)

    def kinds(self, timeout_s=10):
        self.join(timeout_s)
        assert not self.is_alive(), self.events
        return [kind for kind, _, _ in self.events]


def test_both_sides_see_what_happens_live(served, shared):
    project, share, place, record = shared
    client = Listener(served, f"{served.address}{place}/events", 4)
    designer = Listener(served, f"{served.address}{API}/projects/{project}/events?after=-1", 5)
    sent = httpx.post(f"{served.address}{place}/reviews", json=body(record, "key-00000001")).json()
    paint(served.studio, project)  # not shown: the client hears nothing of it
    child = paint(served.studio, project, parent=record)  # followed
    served.studio.change_share(share, ShareChanges(name="New"))
    client.wait_for(3)
    served.studio.revoke_share(share)
    assert client.kinds() == ["review", "shown", "changed", "closed"]
    assert client.events[0][2] == {"review": sent["id"], "version": record}
    assert client.events[1][2] == {"version": child}
    assert designer.kinds() == ["review", "version", "version", "shown", "share"]
    numbers = [number for _, number, _ in client.events]
    assert numbers == sorted(numbers)


def test_a_stream_goes_on_where_it_was_lost(served, shared):
    _, _, place, record = shared
    state = httpx.get(f"{served.address}{place}/state").json()
    for number in range(3):
        httpx.post(f"{served.address}{place}/reviews", json=body(record, f"key-{number:08}")).raise_for_status()
    first = Listener(served, f"{served.address}{place}/events?after={state['last_event']}", 1)
    assert first.kinds() == ["review"]
    rest = Listener(served, f"{served.address}{place}/events", 2, **{"Last-Event-ID": str(first.events[0][1])})
    assert rest.kinds() == ["review", "review"]
    assert [number for _, number, _ in rest.events] > [first.events[0][1]] * 2


def test_a_share_that_expires_ends_its_streams(served, shared):
    from datetime import UTC, datetime, timedelta

    _, share, place, _ = shared
    served.studio.change_share(share, ShareChanges(expires_at=datetime.now(UTC) + timedelta(seconds=1.2)))
    assert Listener(served, f"{served.address}{place}/events", 9).kinds() == ["closed"]


def test_what_another_process_writes_is_seen_too(served, shared, tmp_path):
    project, _, place, record = shared
    listener = Listener(served, f"{served.address}{place}/events", 1)
    other = Studio(load_settings(data_dir=tmp_path), FakePool(), planner=planner)
    with other:
        made = other.create_share(project, ShareOrder(name="Second"))
        opened = other.open_share(place.split("/")[2])
        from danqing.spec.review import ReviewBody

        other.send_review(opened, ReviewBody(key="key-00000001", record=record, reviewer="Li"))
    assert listener.kinds() == ["review"]
    assert httpx.get(f"{served.address}{made.path}/api/state").json()["title"] == "Second"


def test_no_review_is_lost_or_doubled(served, shared):
    project, share, place, record = shared
    failures = []
    done = threading.Event()

    def read(_):
        with httpx.Client(base_url=served.address, timeout=30) as client:
            seen = 0
            while not done.is_set():
                state = client.get(f"{place}/state")
                picture = client.get(state.json()["versions"][0]["thumbnail"])
                if state.status_code != 200 or picture.status_code != 200 or len(state.json()["reviews"]) < seen:
                    failures.append(state.text)
                seen = len(state.json()["reviews"])

    def write(writer):
        with httpx.Client(base_url=served.address, timeout=30) as client:
            for number in range(REVIEWS):
                sent = body(record, f"key-{writer:04}-{number:04}")
                if number % 2:
                    cut_off(served.port, f"{place}/reviews", sent)
                codes = [client.post(f"{place}/reviews", json=sent).status_code for _ in range(2)]
                if codes[-1] != 200 or codes[0] not in ({200, 201} if number % 2 else {201}):
                    failures.append(codes)

    with ThreadPoolExecutor(READERS + WRITERS) as threads:
        readers = [threads.submit(read, number) for number in range(READERS)]
        for writer in [threads.submit(write, number) for number in range(WRITERS)]:
            writer.result()
        done.set()
        for reader in readers:
            reader.result()
    assert failures == []
    kept = served.studio.reviews(ReviewQuery(share=share, limit=1000))
    said = sorted(review.suggestions[0].prompt for review in kept)
    assert said == sorted(f"wish key-{writer:04}-{number:04}" for writer in range(WRITERS) for number in range(REVIEWS))
    events = [event for event in served.studio._projects.events(0, project_id=project) if event.kind == "review"]
    assert len(events) == len(kept)


def cut_off(port, path, sent):
    """Send a review and hang up before the answer can come."""
    data = json.dumps(sent).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data)


def test_half_a_review_is_no_review(served, shared):
    _, share, place, record = shared
    data = json.dumps(body(record, "key-00000001")).encode()
    with socket.create_connection(("127.0.0.1", served.port)) as connection:
        head = f"POST {place}/reviews HTTP/1.1\r\nHost: 127.0.0.1:{served.port}\r\nContent-Type: application/json\r\n"
        connection.sendall(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data[: len(data) // 2])
    assert httpx.get(f"{served.address}{place}/state").json()["reviews"] == []
    assert served.studio.reviews(ReviewQuery(share=share)) == []
