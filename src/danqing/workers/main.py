"""The worker process: reads commands, paints, writes pictures to the blob store, reports.

Started as `python -m danqing.workers.main --data DIR`; nothing in front of it imports this module or the engine.
"""

from __future__ import annotations

import argparse
import gc
import os
import queue
import sys
import threading
from pathlib import Path
from typing import TextIO

from pydantic import ValidationError

from danqing.spec.errors import DanqingError
from danqing.workers import protocol

LONGEST_LAST_STEP_S = 2.0


def main(argv: list[str] | None = None) -> int:
    """Run until told to stop or until the front has gone. Returns the exit status."""
    options = _arguments(argv)
    out = _claim_stdout()
    commands: queue.SimpleQueue[protocol.Command | None] = queue.SimpleQueue()
    # Commands are read while the heavy imports run: a front that dies early must not leave us behind.
    threading.Thread(target=_read_commands, args=(sys.stdin, commands), daemon=True).start()
    # Progress bars of libraries would fill the log.
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    gc.disable()  # what is imported stays; looking for garbage in it would take a fifth of the start
    from danqing.models.memory import Limits
    from danqing.workers.painter import Painter, PainterOptions

    gc.freeze()
    gc.enable()

    def send(message: protocol.Message) -> None:
        out.write(message.model_dump_json() + "\n")
        out.flush()

    try:
        painter = Painter(
            PainterOptions(
                data_dir=options.data,
                models_dir=options.models,
                device=options.device,
                precision=options.precision,
                preview_every=options.preview_every,
                decoded_every=options.decoded_every,
                compiled=options.compile,
                executor=options.executor,
                limits=Limits.of(options.memory, options.vram),
            ),
            send,
        )
    except DanqingError as error:
        print(str(error), file=sys.stderr)  # noqa: T201  the front shows the last lines of stderr
        return 2
    send(
        protocol.ReadyMessage(
            versions=painter.versions(), memory_bytes=painter.memory_bytes(), choices=painter.choices()
        )
    )
    if options.probe:
        return 0
    painter.run(commands)
    return 0


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="danqing.workers.main", description="Danqing's worker process")
    parser.add_argument("--data", type=Path, required=True, help="data folder; blobs are written below it")
    parser.add_argument("--models", type=Path, default=None, help="models in A1111's layout")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--preview-every", type=int, default=1, help="steps between previews; 0 for none")
    parser.add_argument("--decoded-every", type=int, default=0, help="steps between previews decoded by the VAE")
    parser.add_argument("--compile", action="store_true", help="compile the denoiser with torch.compile")
    parser.add_argument("--executor", default="auto", help="what computes: auto, torch or openvino")
    parser.add_argument("--memory", type=float, default=None, metavar="GIB", help="of main memory, at most")
    parser.add_argument("--vram", type=float, default=None, metavar="GIB", help="of a GPU's memory, at most")
    parser.add_argument("--probe", action="store_true", help="print what this device can do and leave")
    return parser.parse_args(argv)


def _claim_stdout() -> TextIO:
    """Keep the real stdout for messages and send everything that libraries print to stderr."""
    out = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    sys.stdout = sys.stderr
    return out


def _read_commands(stream: TextIO, commands: queue.SimpleQueue[protocol.Command | None]) -> None:
    """Commands until the end of input, then None. A line that is no command is reported and left out."""
    try:
        for line in stream:
            if line.strip():
                try:
                    commands.put(protocol.COMMAND.validate_json(line))
                except ValidationError as error:
                    print(f"not a command: {error}", file=sys.stderr)  # noqa: T201  as below
    finally:
        commands.put(None)


if __name__ == "__main__":
    sys.exit(main())
