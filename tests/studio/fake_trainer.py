"""A small real process that speaks the trainer's protocol: steps, checkpoints, SIGTERM, events, a LoRA at the end.

Its "weights" are a chain of hashes over the steps, so that a run that lost or repeated one ends in another file.
What it is to do is told by the environment: FAKE_STEP_S (time of a step), FAKE_GATE and FAKE_GO (it waits at that step
until the file is there), FAKE_CRASH (it breaks at that step, every time), FAKE_FAIL (it ends with that message),
FAKE_REASONS (why an estimate refuses), FAKE_PRODUCT (name of the file that is made), FAKE_NOTHING (why none is),
FAKE_FIGURES (JSON, of the end).
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import struct
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

STEPS = 20
PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108020000009077"
    "53de0000000c49444154789c63f8cfc0000003010100c9fe92ef0000000049454e44ae426082"
)


class Trainer:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.request = json.loads((folder / "request.json").read_text())
        self.steps = self.request["steps"] or STEPS
        self.asked = False
        self.step, self.state = 0, "begin"
        self.made: tuple[str, ...] = ()
        checkpoint = folder / "checkpoint.pt"
        if checkpoint.exists():
            kept = json.loads(checkpoint.read_text())
            self.step, self.state = kept["step"], kept["state"]

    def tell(self, kind: str, **values: object) -> None:
        with (self.folder / "events.jsonl").open("a") as file:
            file.write(json.dumps({"type": kind, **values}) + "\n")

    def save(self) -> None:
        part = self.folder / "checkpoint.tmp"
        part.write_text(json.dumps({"step": self.step, "state": self.state}))
        part.replace(self.folder / "checkpoint.pt")
        self.tell("checkpoint", step=self.step, file="checkpoint.pt")

    def end(self, state: str, **values: object) -> None:
        self.tell("end", at=now(), state=state, step=self.step, files=self.made, **values)

    def run(self) -> int:
        signal.signal(signal.SIGTERM, self.stop)
        self.tell("start", at=now(), step=self.step, steps=self.steps, device="cpu")
        if message := os.environ.get("FAKE_FAIL"):
            self.end("failed", error={"code": "bad_file", "message": message})
            return 1
        while self.step < self.steps:
            if self.asked:
                self.save()
                self.end("paused")
                return 75
            if not self.may_step():
                time.sleep(0.005)
                continue
            self.one()
        self.export()
        figures = json.loads(os.environ.get("FAKE_FIGURES", "{}"))
        self.end("done", figures=figures, unpublished=os.environ.get("FAKE_NOTHING", ""))
        return 0

    def stop(self, *_: object) -> None:
        self.asked = True

    def may_step(self) -> bool:
        gate = int(os.environ.get("FAKE_GATE", "-1"))
        return self.step != gate or Path(os.environ["FAKE_GO"]).exists()

    def one(self) -> None:
        if self.step == int(os.environ.get("FAKE_CRASH", "-1")):
            sys.stderr.write("something about the weights\n")
            raise RuntimeError("the loss is not a number")
        time.sleep(float(os.environ.get("FAKE_STEP_S", "0.002")))
        self.state = hashlib.sha256(f"{self.state}{self.step}".encode()).hexdigest()
        self.step += 1
        with (self.folder / "steps.txt").open("a") as file:
            file.write(f"{os.getpid()} {self.step}\n")
        self.tell("step", step=self.step, loss=1 / self.step, eta_s=float(self.steps - self.step))
        if self.step % 5 == 0:
            self.save()
        if self.step == 10:
            (self.folder / "samples").mkdir(exist_ok=True)
            (self.folder / "samples" / "000010.png").write_bytes(PIXEL)
            self.tell("sample", step=self.step, file="samples/000010.png")

    def export(self) -> None:
        name = os.environ.get("FAKE_PRODUCT", self.request["name"])
        model = self.folder / "model"
        model.mkdir(exist_ok=True)
        (model / "card.md").write_text(f"# {name}\n")
        self.made = ("model/card.md",)
        if os.environ.get("FAKE_NOTHING"):
            return
        (model / f"{name}.safetensors").write_bytes(lora(self.state))
        self.made = (f"model/{name}.safetensors", *self.made)


def lora(state: str) -> bytes:
    """A LoRA of rank 1 for one layer of a UNet as wide as the built-in one, in kohya's naming."""
    layer = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"
    shapes = {f"{layer}.lora_down.weight": [1, 256], f"{layer}.lora_up.weight": [64, 1], f"{layer}.alpha": [1]}
    header: dict[str, object] = {"__metadata__": {"ss_output_name": "fake", "state": state}}
    data = b""
    for name, shape in shapes.items():
        size = 4
        for side in shape:
            size *= side
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [len(data), len(data) + size]}
        data += hashlib.sha256(state.encode()).digest()[:4].ljust(size, b"\0")
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def now() -> str:
    return datetime.now(UTC).isoformat()


def main() -> int:
    folder = Path(sys.argv[1])
    if "--estimate" in sys.argv:
        reasons = json.loads(os.environ.get("FAKE_REASONS", "[]"))
        steps = json.loads((folder / "request.json").read_text())["steps"] or STEPS
        told = {"seconds": 12.5, "memory_bytes": 1000, "steps": steps, "reasons": reasons}
        sys.stdout.write(f"loading the model\n{json.dumps(told)}\n")
        return 0
    return Trainer(folder).run()


if __name__ == "__main__":
    sys.exit(main())
