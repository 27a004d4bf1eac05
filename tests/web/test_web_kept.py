"""The pages' own files: kept by browsers for good, and never one from before an update."""

from __future__ import annotations

import re

import httpx
import pytest
from fastapi.testclient import TestClient
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from danqing.web import kept

FOR_GOOD = "private, max-age=31536000, immutable"


@pytest.fixture
def client(chromium, served):  # Playwright's event loop is there before Gradio would make one of its own
    with httpx.Client(base_url=served.address) as client:
        yield client


@pytest.mark.browser
def test_every_file_a_page_names_is_kept_for_good(client):
    for path in ("/", "/projects", "/training"):
        page = client.get(path).text
        own = set(re.findall(r"""["'](?:\./)?(web/[^"'\\]+\.(?:js|css|svg))""", page))
        assert len(own) >= 3, path
        for name in own:
            assert name.startswith(f"web/files/{kept.version()}/"), name
            answer = client.get(f"/{name}")
            assert (answer.status_code, answer.headers["cache-control"]) == (200, FOR_GOOD), name


@pytest.mark.browser
def test_modules_find_each_other_below_the_version(client):
    for entry in ("canvas/main.js", "projects/main.js", "training/main.js"):
        seen, waiting = set(), [f"/{kept.address(entry)}"]
        while waiting:
            place = waiting.pop()
            if place in seen:
                continue
            seen.add(place)
            answer = client.get(place)
            assert (answer.status_code, answer.headers["cache-control"]) == (200, FOR_GOOD), place
            others = re.findall(r"""(?:from|import\()\s*['"](\.[^'"]+)['"]""", answer.text)
            waiting.extend(str(answer.url.join(other).path) for other in others)
        assert len(seen) > 10
        assert all(place.startswith(f"/web/files/{kept.version()}/") for place in seen)


@pytest.mark.browser
def test_an_older_page_gets_what_is_there_now_and_keeps_none_of_it(client):
    for place in ("/web/files/0123456789abcdef/canvas/dom.js", "/web/canvas/dom.js", "/web/static/hills.svg"):
        answer = client.get(place)
        assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-cache"), place
        again = client.get(place, headers={"If-None-Match": answer.headers["etag"]})
        assert (again.status_code, again.headers["cache-control"]) == (304, "no-cache")
    assert client.get("/web/canvas/dom.js").content == client.get(f"/{kept.address('canvas/dom.js')}").content


def test_the_version_changes_with_any_file(tmp_path, monkeypatch):
    (tmp_path / "deep").mkdir()
    script = tmp_path / "deep" / "a.js"
    script.write_text("1")
    monkeypatch.setattr(kept, "FOLDERS", {"canvas": tmp_path})
    before = kept.version.__wrapped__()
    assert kept.version.__wrapped__() == before
    script.write_text("2")
    changed = kept.version.__wrapped__()
    script.rename(tmp_path / "deep" / "b.js")
    assert len({before, changed, kept.version.__wrapped__()}) == 3


@pytest.mark.browser
def test_what_is_not_there_is_not_kept(client):
    for place in (f"/{kept.address('canvas/none.js')}", f"/{kept.address('canvas/../../kept.py')}", "/assets/none.js"):
        answer = client.get(place)
        assert answer.status_code == 404, place
        assert "cache-control" not in answer.headers
    assert client.get(f"/web/files/{kept.version()}/canvas/..%2f..%2fkept.py").status_code == 404


@pytest.mark.browser
def test_gradios_own_files_are_kept_for_good(client):
    named = re.findall(r"assets/[\w-]+-[\w-]{8,}\.(?:js|css)", client.get("/").text)
    assert named
    for name in set(named):
        answer = client.get(f"/{name}")
        assert (answer.status_code, answer.headers["cache-control"]) == (200, FOR_GOOD), name
    assert "cache-control" not in client.get("/config").headers


def test_behind_a_proxys_prefix():
    app = Starlette(routes=[Route("/{path:path}", lambda request: PlainTextResponse("x"))])
    client = TestClient(kept.KeepsGradio(app), root_path="/studio")
    assert client.get("/studio/assets/a-12345678.js").headers["cache-control"] == FOR_GOOD
    assert "cache-control" not in client.get("/studio/config").headers


@pytest.mark.browser
def test_the_whole_server_says_so_too(chromium, house):
    answer = httpx.get(f"{house.address}/{kept.address('canvas/main.js')}")
    assert answer.headers["cache-control"] == FOR_GOOD
    assert answer.headers["x-content-type-options"] == "nosniff"
