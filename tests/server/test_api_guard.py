"""Password, host, origin, headers; addresses and methods that are not there; unexpected errors."""

from __future__ import annotations

import base64
import logging

import pytest
from door_studio import API, FakeStudio, problem, submit
from fastapi.testclient import TestClient

from danqing.server.app import create_app
from danqing.spec.errors import InvalidRequestError
from danqing.studio.settings import Settings


@pytest.fixture
def guarded(tmp_path):
    settings = Settings(data_dir=tmp_path, password="秘密 word", host="192.0.2.1")  # noqa: S106
    return TestClient(create_app(FakeStudio(tmp_path), settings), base_url="http://studio.example")


def basic(user: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


def test_password(guarded):
    told = guarded.get(f"{API}/jobs")
    problem(told, 401)
    assert told.headers["www-authenticate"].startswith("Basic")
    assert guarded.get(f"{API}/jobs", headers=basic("anyone", "秘密 word")).status_code == 200
    bearer = {"Authorization": "Bearer 秘密 word".encode()}
    assert guarded.get(f"{API}/jobs", headers=bearer).status_code == 200
    for wrong in (
        basic("anyone", "wrong"),
        {"Authorization": "Basic ???"},
        {"Authorization": "Bearer x"},
        {"Authorization": "Digest x"},
    ):
        problem(guarded.get(f"{API}/jobs", headers=wrong), 401)
    assert guarded.get(f"{API}/health").status_code == 200
    problem(guarded.get("/"), 401)


def test_bearer(tmp_path):
    app = create_app(FakeStudio(tmp_path), Settings(data_dir=tmp_path, password="word"))  # noqa: S106
    client = TestClient(app, base_url="http://localhost:7860", headers={"Authorization": "Bearer word"})
    assert client.get(f"{API}/jobs").status_code == 200


def test_an_open_bind_without_a_password_is_refused(tmp_path):
    with pytest.raises(InvalidRequestError):
        create_app(FakeStudio(tmp_path), Settings(data_dir=tmp_path, host="192.0.2.1"))


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:7860", 200),
        ("localhost", 200),
        ("[::1]:7860", 200),
        ("evil.example", 421),
        ("127.0.0.1.evil.example:7860", 421),
        ("", 421),
    ],
)
def test_host_header(client, host, status):
    answer = client.get(f"{API}/models", headers={"Host": host})
    assert answer.status_code == status
    if status != 200:
        problem(answer, status)


def test_pages_of_other_sites_change_nothing(client):
    problem(client.post(f"{API}/jobs", json={}, headers={"Origin": "http://evil.example"}), 403)
    problem(client.post(f"{API}/jobs", json={}, headers={"Origin": "null"}), 403)
    problem(client.post(f"{API}/jobs", json={}, headers={"Sec-Fetch-Site": "cross-site"}), 403)
    assert client.post(f"{API}/jobs", json={}, headers={"Origin": "http://127.0.0.1:7860"}).status_code == 202
    assert client.get(f"{API}/jobs", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 200


def test_security_headers(client):
    for path in (f"{API}/health", f"{API}/nothing", "/nothing"):
        headers = client.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "SAMEORIGIN"
        assert headers["referrer-policy"] == "same-origin"
    assert "default-src 'self'" in client.get("/nothing").headers["content-security-policy"]
    assert "default-src 'none'" in client.get(f"{API}/health").headers["content-security-policy"]


def test_addresses_and_methods_that_are_not_there(client):
    for path in (f"{API}/nothing", "/nothing", f"{API}/jobs/a/b/c", f"{API}/records/..%2f..%2fetc%2fpasswd"):
        problem(client.get(path), 404)
    answer = client.put(f"{API}/jobs", json={})
    assert problem(answer, 405)["allowed"] == "GET, POST"
    assert answer.headers["allow"] == "GET, POST"
    problem(client.get(f"{API}/jobs/{'x' * 65}"), 422)


def test_unexpected_errors_are_logged_and_told_without_a_traceback(client, studio, caplog):
    studio.fail_with = RuntimeError("secret detail")
    with caplog.at_level(logging.ERROR, logger="danqing.server"):
        told = problem(submit(client), 500)
    assert "secret" not in str(told)
    assert "Traceback" not in str(told)
    assert "secret detail" in caplog.text
