"""One worker process: its pipes, its log, its end. Knows nothing of jobs."""

from __future__ import annotations

import contextlib
import logging
import logging.handlers
import os
import queue
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from pydantic import ValidationError

from danqing.workers.protocol import MESSAGE, Command, Message

_LOG_BYTES = 1024 * 1024
_LOG_FILES = 3
_KEPT_LINES = 20
_LINE_CHARS = 500
_EXIT_AFTER_EOF_S = 1.0  # a worker that closed its stdout has nothing more to say


@dataclass(frozen=True)
class ProcessHooks:
    """What the pool wants to hear; called from this process's threads, so they must only pass it on.

    Args:
        message: A line that could be read.
        nonsense: A line that could not.
        ended: The process has gone, with this return code; nothing follows.
    """

    message: Callable[[Message], None]
    nonsense: Callable[[str], None]
    ended: Callable[[int], None]


class WorkerProcess:
    """A started worker.

    Args:
        command: Program and arguments.
        log_file: Where its stderr goes, rotating.
        hooks: Who hears of it.
        environment: Added to the environment of this process.

    Raises:
        OSError: It cannot be started.
    """

    def __init__(
        self, command: Sequence[str], log_file: Path, hooks: ProcessHooks, environment: Mapping[str, str]
    ) -> None:
        self._hooks = hooks
        self._lines: deque[str] = deque(maxlen=_KEPT_LINES)
        self._outbox: queue.SimpleQueue[Command | None] = queue.SimpleQueue()
        self._log = _make_log(log_file)
        self._process = subprocess.Popen(  # noqa: S603 - our own module by its name, no shell
            list(command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **environment},
            start_new_session=os.name != "nt",  # Ctrl-C in the terminal is for the front; it tells the worker
            creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
        )
        pipes = (self._process.stdin, self._process.stdout, self._process.stderr)
        self._stdin, self._stdout, self._stderr = (pipe for pipe in pipes if pipe is not None)
        self._stderr_thread = self._spawn(self._read_stderr, "stderr")
        self._spawn(self._write, "write")
        self._reader = self._spawn(self._read, "read")

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    def send(self, command: Command) -> None:
        """Queue a command; never blocks, and a dead worker is no error (its end is reported)."""
        self._outbox.put(command)

    def last_lines(self) -> str:
        """The end of what it wrote to stderr."""
        return "\n".join(self._lines)

    def hang_up(self) -> None:
        """Close its stdin after what was sent: a good worker leaves by itself."""
        self._outbox.put(None)

    def terminate(self) -> None:
        """Ask the system to end it."""
        self._process.terminate()

    def kill(self) -> None:
        """End it now."""
        self._process.kill()

    def join(self, timeout_s: float) -> bool:
        """Wait until it has gone and everything it said was passed on; False if the time was up first."""
        self._reader.join(timeout_s)
        return not self._reader.is_alive()

    def _spawn(self, work: Callable[[], None], name: str) -> threading.Thread:
        thread = threading.Thread(target=work, name=f"danqing-worker-{self._process.pid}-{name}", daemon=True)
        thread.start()
        return thread

    def _write(self) -> None:
        try:
            while (command := self._outbox.get()) is not None:
                self._stdin.write(command.model_dump_json().encode() + b"\n")
                self._stdin.flush()
        except (OSError, ValueError):  # it died: the reader reports that
            pass
        finally:
            _close_quietly(self._stdin)

    def _read(self) -> None:
        with self._stdout:
            for line in self._stdout:
                try:
                    message = MESSAGE.validate_json(line)
                except ValidationError:
                    self._hooks.nonsense(line[:_LINE_CHARS].decode(errors="replace").strip())
                    break
                self._hooks.message(message)
        self._hooks.ended(self._reap())

    def _reap(self) -> int:
        """Its return code; a worker that closed its stdout but stays is ended."""
        self._outbox.put(None)
        for end in (self._process.terminate, self._process.kill):
            try:
                code = self._process.wait(_EXIT_AFTER_EOF_S)
                break
            except subprocess.TimeoutExpired:
                end()
        else:
            code = self._process.wait()
        self._stderr_thread.join(1.0)  # a grandchild may hold the pipe open for ever
        return code

    def _read_stderr(self) -> None:
        with self._stderr:
            for line in self._stderr:
                text = line.decode(errors="replace").rstrip().rpartition("\r")[2]  # of a progress bar, the end
                if text:
                    self._lines.append(text[:_LINE_CHARS])
                self._log.emit(logging.makeLogRecord({"msg": text}))
        self._log.close()


def _make_log(path: Path) -> logging.Handler:
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.handlers.RotatingFileHandler(
        path, maxBytes=_LOG_BYTES, backupCount=_LOG_FILES, encoding="utf-8", delay=True
    )
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    return handler


def _close_quietly(pipe: IO[bytes]) -> None:
    with contextlib.suppress(OSError):
        pipe.close()
