"""A hundred clients read a share and ten write reviews at once, against a real server on SQLite: none lost or doubled.

The server is a process of its own (uvicorn, the whole application, fake workers, SQLite with WAL and full fsync). Each
reader loads the state, a picture and a thumbnail over and over; each writer sends its reviews, every third one also by
a connection that is cut before the answer and every one again with the same key, as a client does that heard nothing.
Then the rows are counted, and the events, and what a client is shown.
"""

from __future__ import annotations

import argparse
import json
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from benchmarks._report import Options, Outcome, run

READERS, WRITERS, REVIEWS = 100, 10, 30
VERSIONS = 6
_TIMEOUT_S = 120.0


@dataclass
class Tally:
    """What the clients saw."""

    read_s: list[float] = field(default_factory=list[float])
    write_s: list[float] = field(default_factory=list[float])
    failures: list[str] = field(default_factory=list[str])
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, name: str, value: Any) -> None:
        """Note one of them."""
        with self.lock:
            getattr(self, name).append(value)


@dataclass(frozen=True)
class Load:
    """The share under load.

    Attributes:
        address: Of the server.
        api: Path of the share's API.
        project: Its project.
        records: What it shows.
    """

    address: str
    api: str
    project: str
    records: Sequence[str]


def review(load: Load, writer: int, number: int) -> dict[str, Any]:
    """One review, with a key of its own."""
    place = {"left_px": 4 + number, "top_px": 4, "right_px": 60, "bottom_px": 40}
    return {
        "key": f"writer-{writer:03}-{number:05}",
        "record": load.records[number % len(load.records)],
        "reviewer": f"client {writer}",
        "starred": number % 2 == 0,
        "note": "再亮一点",
        "suggestions": [{"box": place, "prompt": f"wish {writer} {number}"}],
    }


def read(load: Load, tally: Tally, done: threading.Event) -> None:
    """A client that looks: reviews never become fewer, pictures always come."""
    seen = 0
    with httpx.Client(base_url=load.address, timeout=_TIMEOUT_S) as client:
        while not done.is_set():
            started = time.perf_counter()
            state = client.get(f"{load.api}/state")
            if state.status_code != 200:
                tally.add("failures", f"state {state.status_code}: {state.text[:200]}")
                continue
            told = state.json()
            version = told["versions"][seen % len(told["versions"])]
            codes = [client.get(version[kind]).status_code for kind in ("thumbnail", "picture")]
            tally.add("read_s", (time.perf_counter() - started) / 3)
            if codes != [200, 200] or len(told["reviews"]) < seen:
                tally.add("failures", f"read {codes}, {len(told['reviews'])} reviews after {seen}")
            seen = len(told["reviews"])


def write(load: Load, tally: Tally, writer: int, reviews: int) -> None:
    """A client that speaks, on a bad line."""
    with httpx.Client(base_url=load.address, timeout=_TIMEOUT_S) as client:
        for number in range(reviews):
            body = review(load, writer, number)
            cut = number % 3 == 2
            if cut:
                hang_up(load, body)
            started = time.perf_counter()
            first = client.post(f"{load.api}/reviews", json=body)
            tally.add("write_s", time.perf_counter() - started)
            again = client.post(f"{load.api}/reviews", json=body)
            expected = {200, 201} if cut else {201}
            if first.status_code not in expected or again.status_code != 200 or first.json() != again.json():
                tally.add("failures", f"write {first.status_code} {again.status_code}: {again.text[:200]}")


def hang_up(load: Load, body: dict[str, Any]) -> None:
    """Send a review and close the connection before the answer."""
    host, _, port = load.address.removeprefix("http://").partition(":")
    data = json.dumps(body).encode()
    head = f"POST {load.api}/reviews HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: application/json\r\n"
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data)


def counted(folder: Path, load: Load, writers: int, reviews: int) -> dict[str, int]:
    """What stands in the database, read by a studio of this process."""
    from danqing.store.projects_base import ReviewQuery
    from danqing.studio.opening import open_store
    from danqing.studio.settings import load_settings

    store = open_store(load_settings(data_dir=folder))
    try:
        kept = store.projects.reviews(ReviewQuery(project=load.project, limit=1_000_000))
        events = store.projects.events(0, project_id=load.project, limit=1_000_000)
    finally:
        store.close()
    said = [review.suggestions[0].prompt for review in kept]
    sent = {f"wish {writer} {number}" for writer in range(writers) for number in range(reviews)}
    return {
        "reviews_sent": len(sent),
        "reviews_kept": len(kept),
        "lost": len(sent - set(said)),
        "doubled": len(said) - len(set(said)),
        "review_events": sum(event.kind == "review" for event in events),
    }


def measure(options: Options) -> Outcome:
    """Serve, load, count."""
    readers, writers, reviews = (8, 3, 6) if options.quick else (READERS, WRITERS, REVIEWS)
    tally, done = Tally(), threading.Event()
    with tempfile.TemporaryDirectory(prefix="danqing-reviewers-") as name:
        folder = Path(name)
        server = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.reviewers", "--serve", name], stdout=subprocess.PIPE, text=True
        )
        try:
            load = Load(**json.loads(server.stdout.readline() if server.stdout else ""))
            options.say(f"{readers} readers, {writers} writers of {reviews} reviews each")
            started = time.perf_counter()
            with ThreadPoolExecutor(readers + writers) as threads:
                looking = [threads.submit(read, load, tally, done) for _ in range(readers)]
                speaking = [threads.submit(write, load, tally, writer, reviews) for writer in range(writers)]
                for one in speaking:
                    one.result()
                wall_s = time.perf_counter() - started
                done.set()
                for one in looking:
                    one.result()
        finally:
            server.terminate()
            server.wait(30)
        found = counted(folder, load, writers, reviews)
    figures: dict[str, float] = {
        **found,
        "failures": len(tally.failures),
        "wall_s": wall_s,
        "reads_per_s": 3 * len(tally.read_s) / wall_s,
        "read_p50_s": _share(tally.read_s, 0.5),
        "read_p95_s": _share(tally.read_s, 0.95),
        "write_p50_s": _share(tally.write_s, 0.5),
        "write_p95_s": _share(tally.write_s, 0.95),
    }
    right = found["reviews_kept"] == found["review_events"] == found["reviews_sent"]
    passed = right and not (found["lost"] or found["doubled"] or tally.failures)
    details = {"readers": readers, "writers": writers, "first_failures": tally.failures[:5]}
    return Outcome(figures, "no review lost or doubled, no failed answer", passed, details)


def _share(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0


def serve(folder: Path) -> None:
    """The server's process: one project, one share; the first line on stdout says where."""
    import uvicorn

    from danqing.server.app import create_app
    from danqing.spec.share import ShareOrder
    from danqing.studio.service import Studio
    from danqing.studio.settings import load_settings
    from danqing.workers.pool import FakePool

    settings = load_settings(data_dir=folder)
    studio = Studio(settings, FakePool())
    studio.start()
    project = studio.create_project("A hundred clients")
    records = _records(studio, project.id)
    made = studio.create_share(project.id, ShareOrder(name="Drafts"))
    listener = socket.create_server(("127.0.0.1", 0), backlog=512)
    address = f"http://127.0.0.1:{listener.getsockname()[1]}"
    place = {"address": address, "api": f"{made.path}/api", "project": project.id, "records": records}
    print(json.dumps(place), flush=True)
    config = uvicorn.Config(create_app(studio, settings), log_level="error", timeout_graceful_shutdown=2)
    uvicorn.Server(config).run(sockets=[listener])
    studio.close()


def _records(studio: Any, project_id: str) -> list[str]:
    """Pictures painted by the fake workers from the built-in model's Plans."""
    from danqing.spec.request import parse_request
    from danqing.store.projects_base import Tie

    job = studio.submit(parse_request({"prompt": "red apple, 3d", "count": VERSIONS, "seed": 1}), tie=Tie(project_id))
    return list(studio.wait(job.id, timeout_s=60).records)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark, or its server."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--serve", type=Path)
    known, rest = parser.parse_known_args(argv)
    if known.serve is not None:
        serve(known.serve)
        return 0
    return run("reviewers", __doc__ or "", measure, rest)


if __name__ == "__main__":
    sys.exit(main())
