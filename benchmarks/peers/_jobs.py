"""What every side is given and answers, and the interface that each peer's module fills. Standard library and Pillow.

Nothing here imports torch or Danqing: a peer's interpreter has neither of them necessarily.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from PIL import Image

LORA_WEIGHT = 0.8
CONTROL_WEIGHT = 1.0


class RefusedError(Exception):
    """A peer cannot do this job, and says why; it is told in the result, not counted as a failure."""


class CrowdedError(RefusedError):
    """There is not memory enough for it beside those that are open."""


@dataclass(frozen=True)
class Checkpoint:
    """A model that every side is given. All paths are absolute.

    Attributes:
        name: The file's stem or the folder's name, as programs list it.
        path: A `.safetensors` in the published layout, or a diffusers folder.
        parts: A diffusers folder of its configs and tokenizer; the weights may be missing there.
        models_dir: Holds `Stable-diffusion`, `ControlNet` and `Lora`, as A1111 has them; empty for the built-in model.
        size_bytes: Of the weights in 16 bits.
        published_shape: Whether it is Stable Diffusion 1.5's own: some programs know no other.
        fused_lora: A LoRA in diffusers' layout that belongs to the model; empty for none.
        control_file: A ControlNet for it, one file in the published layout; empty for none.
        control_folder: The same as a diffusers folder.
        lora_file: A LoRA for it in kohya's layout; empty for none.
    """

    name: str
    path: str
    parts: str
    models_dir: str = ""
    size_bytes: int = 0
    published_shape: bool = True
    fused_lora: str = ""
    control_file: str = ""
    control_folder: str = ""
    lora_file: str = ""

    @property
    def single_file(self) -> bool:
        """Whether it is one file."""
        return self.path.endswith(".safetensors")


@dataclass(frozen=True)
class Job:
    """One thing to paint: the same numbers for every side.

    Attributes:
        prompt: The words.
        seed: Of the noise; programs draw it differently, so pictures differ where times need not.
        steps: Asked for; from a picture each program does `steps × strength` of them.
        guidance: CFG scale; above 1 the denoiser sees two rows a picture.
        width_px: Of the picture.
        height_px: Of the picture.
        sampler: Euler or DDIM, which every side has.
        negative: The negative prompt.
        count: Pictures at once.
        init: PNG to start from; empty for none.
        strength: Of the change to it.
        control: PNG that a ControlNet follows; empty for none.
        lora: Whether the checkpoint's LoRA acts.
    """

    prompt: str
    seed: int
    steps: int
    guidance: float
    width_px: int
    height_px: int
    sampler: str = "Euler"
    negative: str = "blurry"
    count: int = 1
    init: str = ""
    strength: float = 0.5
    control: str = ""
    lora: bool = False

    def take(self, number: int) -> Job:
        """The same with other words and another seed: some programs answer a repeated job from memory."""
        return replace(self, prompt=f"{self.prompt}, take {number}", seed=self.seed + 100 * number)

    @property
    def done_steps(self) -> int:
        """Steps that are really done."""
        return max(1, int(self.steps * self.strength)) if self.init else self.steps


@dataclass(frozen=True)
class PeerOptions:
    """How a side is set up.

    Attributes:
        variant: Of the peer: `best`, `q8_0` …; empty for its defaults.
        threads: Processor threads.
        device: cpu or cuda.
        work_dir: Folder of its own for what it converts; kept while the benchmark runs.
        url: Of a running server, for those that are asked over HTTP.
        sampler: Euler or DDIM.
    """

    variant: str = ""
    threads: int = 1
    device: str = "cpu"
    work_dir: str = ""
    url: str = ""
    sampler: str = "Euler"


@dataclass(frozen=True)
class Opened:
    """What a side says of itself once a checkpoint is open.

    Attributes:
        precision: Number format of the denoiser: float32, bfloat16, float16, int8 …; empty if it does not say.
        about: Versions and settings, for the result.
    """

    precision: str = ""
    about: dict[str, Any] = field(default_factory=dict)


class Peer(ABC):
    """A program that paints. It lives in a process of its own; methods are called from one thread."""

    @abstractmethod
    def available(self) -> str | None:
        """Why it cannot be used here, in words that say what to do; None if it can."""

    def refuses(self, checkpoint: Checkpoint, job: Job) -> str | None:  # noqa: ARG002
        """Why it cannot paint this with that; None if it can."""
        return None

    def prepare(self, checkpoint: Checkpoint, options: PeerOptions) -> None:  # noqa: B027
        """Convert the checkpoint, where the program wants that once; told apart from the start in the result."""

    @abstractmethod
    def open(self, checkpoint: Checkpoint, options: PeerOptions) -> Opened:
        """Be ready to paint with a checkpoint; called again, change to another one as the program's users do."""

    @abstractmethod
    def paint(self, job: Job) -> list[Image.Image]:
        """The finished pictures in memory.

        Raises:
            RefusedError: It cannot do this.
        """

    def paint_together(self, jobs: Sequence[Job]) -> list[float]:
        """Paint what several people ask at the same moment; seconds from then to each one's pictures, in order.

        A library has no queue: whoever serves people with it paints one job after the other.
        """
        started = time.perf_counter()
        latencies: list[float] = []
        for job in jobs:
            self.paint(job)
            latencies.append(time.perf_counter() - started)
        return latencies

    def peak_bytes(self) -> int | None:
        """Memory of a server elsewhere; None where the peer is this process."""
        return None

    @abstractmethod
    def close(self) -> None:
        """Let go of everything."""


def open_picture(path: str, job: Job) -> Image.Image:
    """An input picture in RGB at the job's size."""
    with Image.open(path) as picture:
        return picture.convert("RGB").resize((job.width_px, job.height_px))
