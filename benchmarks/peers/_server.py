"""A ComfyUI or A1111/Forge started from its checkout, with the benchmark's models folder, and stopped afterwards."""

from __future__ import annotations

import socket
import subprocess
import time
from pathlib import Path

from benchmarks.peers._http import Server
from benchmarks.peers._process import surroundings

READY = {"comfyui": "/system_stats", "a1111": "/sdapi/v1/sd-models"}
PATIENCE_S = 600.0
GRACE_S = 15.0
LAST_WORDS = 1500


class Checkout:
    """A server's source folder.

    Args:
        program: comfyui or a1111.
        folder: The checkout.
        python: Interpreter with its packages.
        patience_s: How long it may take to answer.
    """

    def __init__(self, program: str, folder: Path, python: str, patience_s: float = PATIENCE_S) -> None:
        self.program = program
        self._folder = folder.resolve()
        self._python = python
        self._patience_s = patience_s
        self._child: subprocess.Popen[bytes] | None = None

    def command(self, port: int, models_dir: Path, extra: Path) -> list[str]:
        """How it is started, on this machine's own address only.

        Args:
            port: Where it listens.
            models_dir: Checkpoints, ControlNets, LoRAs as A1111 has them.
            extra: A file that ComfyUI is told the same with; written here.
        """
        if self.program == "comfyui":
            lines = ["danqing:", f"  base_path: {models_dir}", "  checkpoints: Stable-diffusion", "  loras: Lora"]
            extra.write_text("\n".join([*lines, "  controlnet: ControlNet", ""]), encoding="utf-8")
            words = ["main.py", "--listen", "127.0.0.1", "--port", str(port), "--disable-auto-launch", "--cpu"]
            return [self._python, *words, "--extra-model-paths-config", str(extra)]
        folders = {"--ckpt-dir": "Stable-diffusion", "--lora-dir": "Lora", "--controlnet-dir": "ControlNet"}
        words = ["launch.py", "--api", "--nowebui", "--port", str(port), "--skip-prepare-environment"]
        words += ["--skip-torch-cuda-test", "--use-cpu", "all", "--no-half", "--no-download-sd-model"]
        return [
            self._python,
            *words,
            *[word for key, name in folders.items() for word in (key, str(models_dir / name))],
        ]

    def start(self, models_dir: Path, log: Path) -> str:
        """Start it and wait until it answers; its address.

        Raises:
            RuntimeError: It ended or stayed silent; the message has its last words.
        """
        if not self._folder.is_dir():
            raise RuntimeError(f"no checkout of {self.program} at {self._folder}")
        port = _free_port()
        log.parent.mkdir(parents=True, exist_ok=True)
        command = self.command(port, models_dir, log.with_suffix(".yaml"))
        with log.open("wb") as output:
            self._child = subprocess.Popen(
                command,
                cwd=self._folder,
                stdout=output,
                stderr=output,
                env={**surroundings(self.program), "HF_HUB_OFFLINE": "1"},
            )
        url = f"http://127.0.0.1:{port}"
        until = time.monotonic() + self._patience_s
        while Server(url).silent(READY[self.program]):
            if self._child.poll() is not None or time.monotonic() > until:
                words = log.read_bytes()[-LAST_WORDS:].decode(errors="replace").strip()
                raise RuntimeError(f"{self.program} did not come up from {self._folder}: {words}")
            time.sleep(0.2)
        return url

    def peak_bytes(self) -> int:
        """The most memory the server had; 0 where the system does not say."""
        if self._child is None:
            return 0
        try:
            lines = Path(f"/proc/{self._child.pid}/status").read_text(encoding="utf-8").splitlines()
        except OSError:
            return 0
        return next((1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), 0)

    def stop(self) -> None:
        """End it."""
        if self._child is None or self._child.poll() is not None:
            return
        self._child.terminate()
        try:
            self._child.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
