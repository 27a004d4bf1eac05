"""The OpenAI-compatible reviewer against a real server on the loopback: good, odd and hostile answers."""

from __future__ import annotations

import base64
import io
import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from PIL import Image

from danqing.review.address import check_url
from danqing.review.openai_endpoint import MAX_BODY_BYTES, Endpoint, OpenAIReviewer
from danqing.spec.errors import DanqingError, InvalidRequestError, WorkerError
from danqing.studio.settings import load_settings

KEY = "sk-very-secret-0123456789"
GOOD = '```json\n[{"bbox_2d": [128, 64, 512, 256], "prompt": "a red hat", "reason": "bare", "strength": 0.8}]\n```'
PICTURE = Image.new("RGBA", (2048, 1024), (200, 30, 30, 255))


def completion(text: Any) -> bytes:
    return json.dumps({"choices": [{"message": {"role": "assistant", "content": text}}]}).encode()


@dataclass
class Answer:
    """What the server says: status, body and headers; `late_s` before the body, `drip_s` between its bytes."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    late_s: float = 0.0
    drip_s: float = 0.0


class Server:
    """Answers one after the other, the last one again and again; notes what it was asked."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self.heard: list[tuple[str, dict[str, str], dict[str, Any]]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                data = self.rfile.read(int(self.headers["Content-Length"]))
                outer.heard.append((self.path, dict(self.headers), json.loads(data)))
                answer = outer.answers.pop(0) if len(outer.answers) > 1 else outer.answers[0]
                time.sleep(answer.late_s)
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(answer.body)))
                self.end_headers()
                try:
                    if not answer.drip_s:
                        self.wfile.write(answer.body)
                        return
                    for one in answer.body:
                        self.wfile.write(bytes([one]))
                        self.wfile.flush()
                        time.sleep(answer.drip_s)
                except OSError:
                    return  # the reviewer hung up

            def log_message(self, *_: object) -> None:
                return

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_port}/v1"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()


@pytest.fixture
def server() -> Iterator[Server]:
    running = Server()
    yield running
    running.close()


@pytest.fixture
def ask(server: Server) -> Callable[..., Any]:
    def review(*answers: Answer, timeout_s: float = 20.0, key: str | None = KEY, picture: Image.Image = PICTURE) -> Any:
        server.answers = list(answers)
        reviewer = OpenAIReviewer(Endpoint(server.url, "qwen2.5-vl", key, timeout_s), sleep=lambda _: None)
        return reviewer.review(picture, "a man with a red hat")

    return review


def test_a_good_answer(ask, server: Server):
    found = ask(Answer(body=completion(GOOD)))
    (one,) = found.suggestions
    # The picture was shown at half its size, so the boxes count double.
    assert one.box.as_tuple() == (256, 128, 1024, 512)
    assert (one.prompt, one.reason, one.strength, found.reviewer) == ("a red hat", "bare", 0.8, "openai")
    path, headers, body = server.heard[0]
    assert path == "/v1/chat/completions"
    assert headers["Authorization"] == f"Bearer {KEY}"
    shown, said = body["messages"][1]["content"]
    assert "a man with a red hat" in said["text"]
    assert "1024×512" in said["text"]
    data = base64.b64decode(shown["image_url"]["url"].removeprefix("data:image/jpeg;base64,"))
    with Image.open(io.BytesIO(data)) as image:
        assert image.size == (1024, 512)
    assert KEY not in json.dumps(body)


def test_no_key_no_header(ask, server: Server):
    ask(Answer(body=completion("[]")), key=None)
    assert "Authorization" not in server.heard[0][1]


@pytest.mark.parametrize(
    ("content", "note"),
    [
        ("[]", "nothing to change"),
        ("I see a lovely man.", "neither boxes nor JSON"),
        (None, "it is empty"),
        ([{"type": "text", "text": "[]"}], "nothing to change"),
        ("{" * 100_000, "neither boxes nor JSON"),
    ],
)
def test_odd_answers_give_a_note(ask, content, note):
    found = ask(Answer(body=completion(content)))
    assert found.suggestions == ()
    assert note in found.note


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>502</html>",
        b"null",
        b"[]",
        b'{"choices": []}',
        b'{"choices": [{"message": {"content": 5}}]}',
        b"\xff\xfe\x00",
        b"[" * 200_000,
        json.dumps({"error": f"bad key {KEY}"}).encode(),
    ],
)
def test_what_is_no_completion_is_an_error_without_the_key(ask, body):
    with pytest.raises(WorkerError, match="no chat completion") as caught:
        ask(Answer(body=body))
    check_secret(caught.value)


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_server_in_trouble_is_asked_again(ask, server: Server, status: int):
    found = ask(Answer(status), Answer(status, headers={"Retry-After": "1"}), Answer(body=completion(GOOD)))
    assert len(found.suggestions) == 1
    assert len(server.heard) == 3


@pytest.mark.parametrize("status", [400, 404, 429, 500])
def test_a_server_that_stays_in_trouble_is_an_error(ask, server: Server, status: int):
    with pytest.raises(WorkerError, match=f"answers {status}") as caught:
        ask(Answer(status, f"no, {KEY}, no".encode()))
    assert len(server.heard) == (3 if status in (429, 500) else 1)
    check_secret(caught.value)


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key_is_told(ask, server: Server, status: int):
    with pytest.raises(InvalidRequestError, match="refuses the key") as caught:
        ask(Answer(status, KEY.encode()))
    assert "DANQING_REVIEW_KEY" in str(caught.value)
    assert len(server.heard) == 1
    check_secret(caught.value)


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_redirects_are_refused(ask, server: Server, status: int):
    other = Server()
    try:
        with pytest.raises(WorkerError, match="redirects") as caught:
            ask(Answer(status, headers={"Location": f"{other.url}/chat/completions"}))
        assert other.heard == []
        check_secret(caught.value)
    finally:
        other.close()


def test_a_huge_answer_is_cut_off(ask):
    with pytest.raises(WorkerError, match="larger than"):
        ask(Answer(body=b"x" * (MAX_BODY_BYTES + 1)))


def test_a_slow_server_is_given_up(ask):
    started_s = time.monotonic()
    with pytest.raises(WorkerError, match="too long"):
        ask(Answer(body=completion(GOOD), late_s=1.5), timeout_s=0.3)
    with pytest.raises(WorkerError, match="longer than"):
        ask(Answer(body=completion(GOOD), drip_s=0.02), timeout_s=0.3)
    assert time.monotonic() - started_s < 10.0


def test_nobody_there():
    reviewer = OpenAIReviewer(Endpoint("http://127.0.0.1:9/v1", "x", KEY, 2.0), sleep=lambda _: None)
    with pytest.raises(WorkerError, match="cannot be reached") as caught:
        reviewer.review(PICTURE, "a cat")
    check_secret(caught.value)


def check_secret(error: DanqingError) -> None:
    assert KEY not in str(error)
    assert KEY not in json.dumps(error.as_dict())


def test_the_key_is_not_logged_and_not_shown(ask, caplog):
    caplog.set_level(logging.DEBUG)
    ask(Answer(body=completion(f"the key is {KEY}")))
    found = ask(Answer(500), Answer(body=completion(f"the key is {KEY}")))
    assert KEY not in found.note
    assert KEY not in caplog.text
    assert KEY not in repr(Endpoint("http://x/v1", "m", KEY))


def test_settings_take_the_key_and_never_show_it(tmp_path, monkeypatch):
    monkeypatch.setenv("DANQING_REVIEW_KEY", KEY)
    monkeypatch.setenv("DANQING_REVIEW_URL", "http://127.0.0.1:11434/v1/")
    settings = load_settings(data_dir=tmp_path)
    assert settings.review_key == KEY
    assert settings.review_url == "http://127.0.0.1:11434/v1"
    assert KEY not in repr(settings)
    with pytest.raises(InvalidRequestError) as caught:
        load_settings(data_dir=tmp_path, review_key=5)
    assert caught.value.value is None
    monkeypatch.setenv("DANQING_REVIEW_URL", "ftp://x")
    with pytest.raises(InvalidRequestError, match="review_url"):
        load_settings(data_dir=tmp_path)


@pytest.mark.parametrize(
    "url", ["", "x", "file:///etc/passwd", "http://", "http://u:p@h/v1", "http://h/v1?a=b", "http://[:1"]
)
def test_addresses_that_are_refused(url: str):
    with pytest.raises(ValueError, match="an address such as"):
        check_url(url)
