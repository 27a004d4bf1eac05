"""Who runs a job: several processes may share one data folder, and none may take a job that another still runs."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from danqing.store.ids import new_id


def utc_now() -> datetime:
    """The time, with its zone."""
    return datetime.now(UTC)


@dataclass(frozen=True)
class Owner:
    """One live Studio. `host` is the space in which `pid` means something; `process_started` unmasks a reused pid."""

    id: str
    host: str
    pid: int
    process_started: str
    heartbeat_at: datetime

    @classmethod
    def of_this_process(cls) -> Owner:
        """A new owner with a new id."""
        return cls(new_id(), host_identity(), os.getpid(), process_start(os.getpid()) or "", utc_now())

    def beating(self) -> Owner:
        """The same with a heartbeat of this moment."""
        return replace(self, heartbeat_at=utc_now())

    def is_dead(self, *, lease_s: float) -> bool:
        """Whether its jobs may be taken: its process is gone from this host, or it was silent longer than the lease."""
        if (utc_now() - self.heartbeat_at).total_seconds() > lease_s:
            return True
        if self.host != host_identity() or os.name == "nt":  # os.kill(pid, 0) would end the process on Windows
            return False
        started = process_start(self.pid)
        return started is None or started != self.process_started


def host_identity() -> str:
    """Host name, boot and pid namespace: equal in two processes exactly if they see each other's pids."""
    parts = [socket.gethostname()]
    try:
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        parts.append(Path("/proc/self/ns/pid").readlink().name)
    except OSError:
        pass
    return "/".join(parts)


def process_start(pid: int) -> str | None:
    """When a process began, in the kernel's ticks where it tells ('' elsewhere); None if there is no such process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        if Path("/proc/self/stat").exists() or os.name == "nt":
            return None
        return "" if _is_alive(pid) else None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] == "Z" else fields[19]


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
