"""The sides that are there: their processes, what each has open, and what it costs them."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.peers._cases import Point
from benchmarks.peers._jobs import Checkpoint, CrowdedError, Job, PeerOptions, RefusedError
from benchmarks.peers._process import DiedError, Process
from benchmarks.peers._server import Checkout
from benchmarks.peers._sides import OURS, Side

GIB = 2**30


@dataclass(frozen=True)
class Setup:
    """What a person said of the sides.

    Attributes:
        work: Folder for logs, conversions and checkpoints.
        threads: Of every side.
        device: cpu or cuda.
        pythons: Interpreter of a program.
        urls: Address of a running server.
        checkouts: Folder of a server's source, which is started from it.
        pictures: Where the first picture of each point is kept; None for nowhere.
    """

    work: Path
    threads: int
    device: str = "cpu"
    pythons: Mapping[str, str] = field(default_factory=dict)
    urls: Mapping[str, str] = field(default_factory=dict)
    checkouts: Mapping[str, Path] = field(default_factory=dict)
    pictures: Path | None = None


@dataclass
class _Member:
    """A side that takes part."""

    side: Side
    process: Process | None = None
    current: str = ""
    url: str = ""
    server: Checkout | None = None
    known: dict[str, dict[str, Any]] = field(default_factory=dict)
    checkpoints: dict[str, Checkpoint] = field(default_factory=dict)
    peak_bytes: int = 0


class Crew:
    """All sides.

    Args:
        setup: Where and how they run.
        say: Tells a person.
    """

    def __init__(self, setup: Setup, say: Callable[[str], None]) -> None:
        self.setup = setup
        self.absent: dict[str, str] = {}
        self._say = say
        self._members: dict[str, _Member] = {}

    def gather(self, wanted: Sequence[Side], models_dir: Path) -> None:
        """Start a process for each side that is there; who is not is told loudly.

        Args:
            wanted: Sides.
            models_dir: Folder of the checkpoints, for servers that are started here.
        """
        for side in wanted:
            reason = self._join(side, models_dir)
            if reason:
                self.absent[side.name] = reason
                self._say(f"NOT MEASURED: {side.name}: {reason}")

    def _join(self, side: Side, models_dir: Path) -> str | None:
        member = _Member(side)
        if side.served:
            if side.program in self.setup.checkouts:
                member.server = Checkout(side.program, self.setup.checkouts[side.program], self._python(side))
                try:
                    member.url = member.server.start(models_dir, self.setup.work / f"{side.name}-server.log")
                except (RuntimeError, OSError) as error:
                    member.server.stop()
                    return str(error)
            elif side.program in self.setup.urls:
                member.url = self.setup.urls[side.program]
            else:
                return f"no server: point to one with --url {side.program}=http://… or --checkout {side.program}=FOLDER"
        self._members[side.name] = member
        try:
            reason = self._process(member).ask("available")["reason"]
        except (DiedError, RefusedError, OSError) as error:
            reason = str(error)
        if reason:
            self._leave(member)
            del self._members[side.name]
        return reason

    @property
    def sides(self) -> list[Side]:
        """Who takes part, in order."""
        return [member.side for member in self._members.values()]

    def side(self, name: str) -> Side:
        """By name."""
        return self._members[name].side

    def reference(self, names: list[str]) -> str:
        """What the others are compared with: Danqing, or the first that ran."""
        return OURS if OURS in names else next(iter(names), "")

    def _python(self, side: Side) -> str:
        # A server's own interpreter starts the server; asking it over HTTP needs none of its packages.
        return self.setup.pythons.get(side.program, sys.executable)

    def _process(self, member: _Member) -> Process:
        if member.process is None:
            side = member.side
            python = sys.executable if side.served else self._python(side)
            member.process = Process(side, python, self.setup.work / "logs" / f"{side.name}.log", self.setup.threads)
            member.current = ""
        return member.process

    def _options(self, member: _Member) -> PeerOptions:
        work = self.setup.work / "converted" / member.side.program
        work.mkdir(parents=True, exist_ok=True)
        return PeerOptions(member.side.variant, self.setup.threads, self.setup.device, str(work), member.url)

    def refuses(self, side: Side, checkpoint: Checkpoint, point: Point) -> str | None:
        """Why a side cannot do a point; None if it can."""
        if side.served and point.kind == "cold":
            return "its server was started before"
        process = self._process(self._members[side.name])
        return process.ask("refuses", checkpoint=asdict(checkpoint), job=asdict(point.jobs[0]))["reason"]

    def ready(self, side: Side, key: str, checkpoint: Checkpoint) -> Process:
        """A side's process with a checkpoint open: converted once, opened if another one is.

        Raises:
            RefusedError: There is not memory enough, or the side does not know it.
            DiedError: It failed.
        """
        member = self._members[side.name]
        process = self._process(member)
        if member.current != key:
            self.change(side, key, checkpoint)
        return process

    def change(self, side: Side, key: str, checkpoint: Checkpoint) -> float:
        """Open a checkpoint; seconds that took, without its conversion."""
        member = self._members[side.name]
        process, options = self._process(member), self._options(member)
        if not member.current:
            self._enough_memory(side, checkpoint)
        if key not in member.known:
            member.known[key] = {"prepare_s": round(self._convert(side, checkpoint, options), 2)}
            member.checkpoints[key] = checkpoint
        member.current = ""
        opened = process.open(checkpoint, options)
        member.known[key].setdefault("open_s", round(opened["seconds"], 3))
        member.known[key] |= {"precision": opened["precision"], "about": opened["about"]}
        member.current = key
        return float(opened["seconds"])

    def _convert(self, side: Side, checkpoint: Checkpoint, options: PeerOptions) -> float:
        """Seconds of the conversion, in a process of its own: its memory is not that of painting."""
        if not side.converts:
            return 0.0
        self._say(f"    {side.name}: converting {checkpoint.name} …")
        log = self.setup.work / "logs" / f"{side.name}-convert.log"
        process = Process(side, self._python(side), log, self.setup.threads)
        try:
            asked = {"checkpoint": asdict(checkpoint), "options": asdict(options)}
            return float(process.ask("prepare", **asked)["seconds"])
        finally:
            process.close()

    def _enough_memory(self, side: Side, checkpoint: Checkpoint) -> None:
        needed, free = int(side.appetite * checkpoint.size_bytes) + GIB, free_bytes()
        if side.appetite and free is not None and free < needed:
            raise CrowdedError(f"not enough memory: about {needed / GIB:.1f} GiB needed, {free / GIB:.1f} are free")

    def close_all(self, but: str) -> None:
        """End everybody's process but one's, to make room; they start anew when they are needed."""
        for name, member in self._members.items():
            if name != but:
                self._end(member)

    def about(self, side: Side, key: str) -> dict[str, Any]:
        """What a side says of itself with a checkpoint."""
        return dict(self._members[side.name].known[key])

    def open_s(self, name: str, key: str) -> float:
        """Seconds of the first opening."""
        return float(self._members[name].known[key]["open_s"])

    def cold(self, side: Side, key: str, job: Job) -> tuple[float, dict[str, Any]]:
        """From starting a process to its first picture."""
        member = self._members[side.name]
        checkpoint = member.checkpoints[key]
        started = time.perf_counter()
        log = self.setup.work / "logs" / f"{side.name}-cold.log"
        process = Process(side, self._python(side), log, self.setup.threads)
        try:
            process.open(checkpoint, self._options(member))
            opened = time.perf_counter() - started
            process.paint(job)
            return time.perf_counter() - started, {"opened_after_s": opened}
        finally:
            process.close()

    def drop_if_dead(self, side: Side) -> None:
        """Forget a process that is gone: the next point starts another one."""
        member = self._members[side.name]
        if member.process is not None and member.process.dead:
            self._end(member)

    def peak_bytes(self, name: str) -> int:
        """The most memory a side had."""
        member = self._members[name]
        served = member.server.peak_bytes() if member.server else 0
        return max(member.peak_bytes, served or (member.process.peak_bytes if member.process else 0))

    def cpu_s(self) -> float:
        """Processor time of all living sides."""
        return sum(member.process.cpu_s for member in self._members.values() if member.process)

    def picture_path(self, point: Point, name: str) -> str:
        """Where a side's first picture of a point goes; empty for nowhere."""
        if self.setup.pictures is None:
            return ""
        words = "".join(letter if letter.isalnum() else "-" for letter in point.label)
        return str(self.setup.pictures / f"{words}-{name}.png")

    def _end(self, member: _Member) -> None:
        if member.process is not None:
            member.peak_bytes = max(member.peak_bytes, member.process.peak_bytes)
            member.process.close()
        member.process, member.current = None, ""

    def _leave(self, member: _Member) -> None:
        self._end(member)
        if member.server is not None:
            member.server.stop()

    def close(self) -> None:
        """End all processes that were started here."""
        for member in self._members.values():
            self._leave(member)


def free_bytes() -> int | None:
    """Memory that can be had without swapping; None where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")), None)
