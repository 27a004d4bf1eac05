"""A few lines of HTTP for the peers that are servers: JSON in and out, a file up, bytes down."""

from __future__ import annotations

import json
import urllib.error
import urllib.parse
import urllib.request
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.peers._jobs import Checkpoint, Job, Peer, RefusedError

TIMEOUT_S = 3600.0


@dataclass(frozen=True)
class Server:
    """A server that paints.

    Attributes:
        url: Its address, such as `http://127.0.0.1:8188`.
        timeout_s: For one answer.
    """

    url: str
    timeout_s: float = TIMEOUT_S

    def _ask(self, request: urllib.request.Request, timeout_s: float | None = None) -> bytes:
        if urllib.parse.urlsplit(request.full_url).scheme not in {"http", "https"}:
            raise RefusedError(f"{self.url!r} is no http address")
        try:
            with urllib.request.urlopen(request, timeout=timeout_s or self.timeout_s) as answer:  # noqa: S310
                return answer.read()
        except urllib.error.HTTPError as error:
            said = error.read()[:2000].decode(errors="replace")
            raise RuntimeError(f"{request.full_url} answered {error.code}: {said}") from error

    def get(self, path: str, *, timeout_s: float | None = None, **query: str) -> bytes:
        """The bytes at a path."""
        tail = f"?{urllib.parse.urlencode(query)}" if query else ""
        return self._ask(urllib.request.Request(f"{self.url.rstrip('/')}{path}{tail}"), timeout_s)  # noqa: S310

    def get_json(self, path: str, *, timeout_s: float | None = None, **query: str) -> Any:
        """The JSON at a path."""
        return json.loads(self.get(path, timeout_s=timeout_s, **query))

    def post(self, path: str, body: Any) -> Any:
        """Send JSON; the JSON that comes back, None for an empty answer."""
        return self._send(path, json.dumps(body).encode(), "application/json")

    def upload(self, path: str, field: str, file: Path) -> Any:
        """Send a PNG as a form's field; the JSON that comes back."""
        border = uuid.uuid4().hex
        head = (
            f'--{border}\r\nContent-Disposition: form-data; name="{field}"; filename="{file.name}"\r\n'
            "Content-Type: image/png\r\n\r\n"
        )
        again = f'\r\n--{border}\r\nContent-Disposition: form-data; name="overwrite"\r\n\r\ntrue\r\n--{border}--\r\n'
        body = head.encode() + file.read_bytes() + again.encode()
        return self._send(path, body, f"multipart/form-data; boundary={border}")

    def _send(self, path: str, body: bytes, kind: str) -> Any:
        request = urllib.request.Request(  # noqa: S310
            f"{self.url.rstrip('/')}{path}", data=body, headers={"Content-Type": kind}, method="POST"
        )
        answer = self._ask(request)
        return json.loads(answer) if answer.strip() else None

    def silent(self, path: str) -> str | None:
        """Why it does not answer there; None if it does."""
        try:
            self.get(path, timeout_s=5.0)
        except (OSError, RuntimeError, RefusedError) as error:
            return f"no answer from {self.url}{path}: {error}"
        return None


def all_at_once(work: list[Any], count: int) -> list[Any]:
    """Call everything at the same moment, each from a thread of its own; the answers in order."""
    with ThreadPoolExecutor(max_workers=max(1, count)) as pool:
        return [one.result() for one in [pool.submit(call) for call in work]]


def pick(wanted: str, offered: list[str], what: str, where: str) -> str:
    """The one of a server's files whose stem is wanted.

    Raises:
        RefusedError: It has none; the message says where to put it.
    """
    for one in offered:
        # `folder/name.safetensors [hash]`, as A1111 lists it.
        if Path(one.split(" [")[0].replace("\\", "/")).stem == wanted:
            return one
    raise RefusedError(f"the server has no {what} {wanted!r}: put or link the file into its {where}, see --work")


class ServerPeer(Peer):
    """A program that runs already and is asked over HTTP.

    Attributes:
        program: Its name, for a person.
    """

    program: str

    def __init__(self) -> None:
        self._server = Server("")
        self._checkpoint: Checkpoint | None = None

    def available(self) -> str | None:
        """Nothing to install here; whether the server answers is seen when it is opened."""
        return None

    def refuses(self, checkpoint: Checkpoint, job: Job) -> str | None:  # noqa: ARG002
        """It lists single files."""
        return None if checkpoint.single_file else f"{self.program} is given single files only"
