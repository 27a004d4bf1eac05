"""A server that answers like ComfyUI and like A1111, as far as the benchmark asks them; it paints plain gradients.

As a program it is what a checkout's `main.py` or `launch.py` would start: `--port N`.
"""

from __future__ import annotations

import base64
import io
import json
import re
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from PIL import Image

STEP_S = 0.01


def picture(width: int, height: int, seed: int) -> bytes:
    """A PNG that differs by seed."""
    gradient = Image.linear_gradient("L").resize((width, height))
    buffer = io.BytesIO()
    Image.merge("RGB", [gradient, gradient.rotate(90), Image.new("L", (width, height), seed % 256)]).save(buffer, "PNG")
    return buffer.getvalue()


class Painters(ThreadingHTTPServer):
    """Both servers in one, on a free port unless one is given.

    Attributes:
        asked: Bodies of what was to be painted, in order.
        models: Stems of the checkpoints it lists.
        broken: Whether painting fails.
        slow: How much longer than STEP_S a step takes.
    """

    daemon_threads = True

    def __init__(self, models: tuple[str, ...] = (), port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.asked: list[dict] = []
        self.models = models
        self.broken = False
        self.slow = 1.0
        self.pictures: dict[str, bytes] = {}
        self.history: dict[str, dict] = {}
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def comfy(self, body: dict) -> dict:
        """Takes a graph and paints it in the background, one after the other."""
        self.asked.append(body)
        key = f"job-{len(self.asked)}"
        threading.Thread(target=self._paint_graph, args=(key, body["prompt"]), daemon=True).start()
        return {"prompt_id": key, "number": len(self.asked), "node_errors": {}}

    def _paint_graph(self, key: str, graph: dict) -> None:
        sample, start = graph["sample"]["inputs"], graph["start"]["inputs"]
        size = graph["scaled"]["inputs"] if "scaled" in graph else start
        with self.lock:
            time.sleep(STEP_S * self.slow * sample["steps"])
        if self.broken:
            self.history[key] = {"status": {"status_str": "error", "messages": ["out of paint"]}, "outputs": {}}
            return
        images = []
        for number in range(start.get("batch_size", 1)):
            name = f"{key}-{number}.png"
            self.pictures[name] = picture(size["width"], size["height"], sample["seed"] + number)
            images.append({"filename": name, "subfolder": "", "type": "temp"})
        self.history[key] = {"status": {"status_str": "success"}, "outputs": {"show": {"images": images}}}

    def a1111(self, body: dict) -> dict:
        """Paints while the caller waits, one caller after the other."""
        self.asked.append(body)
        with self.lock:
            time.sleep(STEP_S * self.slow * body["steps"])
        made = [picture(body["width"], body["height"], body["seed"] + at) for at in range(body["batch_size"])]
        images = [base64.b64encode(one).decode() for one in made]
        # The extension puts its map behind the pictures.
        return {"images": images + (["aGk="] if "alwayson_scripts" in body else [])}


class _Handler(BaseHTTPRequestHandler):
    server: Painters

    def log_message(self, *args: object) -> None:
        pass

    def _send(self, answer: object, *, status: int = 200) -> None:
        data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self) -> None:
        where = urlsplit(self.path)
        if where.path.startswith("/history/"):
            key = where.path.rpartition("/")[2]
            return self._send({key: self.server.history[key]} if key in self.server.history else {})
        if where.path == "/view":
            return self._send(self.server.pictures[parse_qs(where.query)["filename"][0]])
        if where.path.startswith("/object_info/"):
            return self._send(self._lists(where.path.rpartition("/")[2]))
        answers = {
            "/system_stats": {"system": {"comfyui_version": "0.0-fake", "pytorch_version": "none"}},
            "/sdapi/v1/sd-models": [{"title": f"folder/{name}.safetensors [0123abcd]"} for name in self.server.models],
            "/sdapi/v1/memory": {"ram": {"used": 3 * 2**30}},
            "/controlnet/model_list": {"model_list": [f"{name}-control [abcd]" for name in self.server.models]},
        }
        if where.path in answers:
            return self._send(answers[where.path])
        return self._send({"detail": "Not Found"}, status=404)

    def _lists(self, node: str) -> dict:
        field, ending = {
            "CheckpointLoaderSimple": ("ckpt_name", ""),
            "LoraLoader": ("lora_name", "-lora"),
            "ControlNetLoader": ("control_net_name", "-control"),
        }[node]
        names = [f"{name}{ending}.safetensors" for name in self.server.models]
        return {node: {"input": {"required": {field: [names, {}]}}}}

    def do_POST(self) -> None:
        data = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/upload/image":
            return self._send({"name": re.search(rb'filename="([^"]+)"', data)[1].decode(), "type": "input"})
        if self.path == "/sdapi/v1/refresh-checkpoints":
            return self._send(None)
        if self.server.broken and self.path != "/prompt":
            return self._send({"error": "OutOfMemoryError"}, status=500)
        paint = self.server.comfy if self.path == "/prompt" else self.server.a1111
        return self._send(paint(json.loads(data)))


if __name__ == "__main__":
    if "--fail" in sys.argv:
        sys.exit("No module named torch")
    words = sys.argv[1:]
    Painters(("danqing-bench-tiny",), int(words[words.index("--port") + 1])).serve_forever()
