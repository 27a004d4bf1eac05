"""Reviewers and a judge that say what a test tells them to, and a vision endpoint beside them.

`python tests/web/page_critic.py FOLDER [PORT]` serves the studio with them, for a look at the page.
"""

from __future__ import annotations

import contextlib
import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from danqing.review.findings import Findings
from danqing.spec.geometry import BoxPx
from danqing.spec.refine import Scores
from danqing.spec.review import Suggestion
from danqing.workers.protocol import JudgedMessage, ReviewCommand, ReviewedMessage

HAT = Suggestion(
    box=BoxPx(left_px=8, top_px=12, right_px=56, bottom_px=52),
    prompt="a red hat",
    reason="“red” is hardly to be seen: without it the brief fits better (by 1.2 logits)",
    strength=0.7,
)
CONTENT = Findings(reviewer="builtin", note="nothing to change; the brief fits the picture with a chance of 0.97")
MORE = Findings(
    reviewer="builtin", suggestions=(HAT,), note="the brief fits the picture with a chance of 0.12", model="ab" * 32
)
KEY = "sk-very-secret-key"


class Critic:
    """Answers as a worker would; `findings` and `scores` are used up, the last of each again and again.

    While `gate` is closed nobody gets a review.
    """

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.reset()

    def reset(self, findings=(MORE,), prompts=(0.2, 0.5), *, open_gate=True) -> None:
        self.findings, self.prompts, self.asked = list(findings), list(prompts), []
        if open_gate:
            self.gate.set()
        else:
            self.gate.clear()

    def answer(self, command):
        self.asked.append(command)
        if isinstance(command, ReviewCommand):
            assert self.gate.wait(60)
            return ReviewedMessage(task_id=command.task_id, findings=_next(self.findings))
        prompt = _next(self.prompts)
        rows = tuple(Scores(prompt=prompt, aesthetic=0.5, similarity=0.9, judge="test") for _ in command.pictures)
        return JudgedMessage(task_id=command.task_id, scores=rows)


def _next(row):
    return row.pop(0) if len(row) > 1 else row[0]


class Endpoint:
    """An OpenAI-compatible vision model: `status` and `words` are what it answers, `gate` holds the answer back."""

    def __init__(self) -> None:
        self.status, self.words = 200, "[]"
        self.gate = threading.Event()
        self.gate.set()
        self.keys: list[str] = []
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                self.rfile.read(int(self.headers["Content-Length"]))
                endpoint.keys.append(self.headers["Authorization"])
                endpoint.gate.wait(60)
                body = json.dumps({"choices": [{"message": {"content": endpoint.words}}]}).encode()
                with contextlib.suppress(OSError):  # nobody waits any more
                    self.send_response(endpoint.status)
                    self.send_header("Content-Length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}/v1"

    def close(self) -> None:
        self.gate.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


def with_endpoint(studio, endpoint: Endpoint) -> None:
    """Let the studio know the endpoint, as its settings would."""
    told = {"review_url": endpoint.url, "review_model": "qwen2.5-vl-7b", "review_key": KEY}
    studio.settings = studio.settings.model_copy(update=told)


if __name__ == "__main__":
    import uvicorn
    from page_projects import build

    from danqing.workers.pool import FakePool

    critic = Critic()
    critic.reset((MORE, MORE, CONTENT), (0.2, 0.5, 0.4, 0.6))
    made, application = build(Path(sys.argv[1]), FakePool(delay_s=0.2, steps=8, sight=critic.answer))
    with_endpoint(made, Endpoint())
    uvicorn.run(application, host="127.0.0.1", port=int(sys.argv[2]) if len(sys.argv) > 2 else 7891)
