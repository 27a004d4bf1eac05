"""A worker without a model: speaks the protocol, paints one-colour pictures, and can be told to misbehave.

Prompts: `die` kills it, `exit` leaves with code 3, `garbage` says nonsense, `refuse` fails the job, `liar` leaves a
picture out. Environment: FAKE_DELAY_S for each of 4 steps, FAKE_START (`crash`, `hang`) for how it begins.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

from danqing.spec.errors import InvalidRequestError
from danqing.spec.events import ProgressEvent
from danqing.spec.record import Versions
from danqing.store.blobs import BlobStore
from danqing.workers.fake_sight import FakeSight
from danqing.workers.pool import paint_fake
from danqing.workers.protocol import (
    COMMAND,
    CancelCommand,
    EmbedCommand,
    InterrogateCommand,
    JobCancelledMessage,
    JobDoneMessage,
    JobFailedMessage,
    ReadyMessage,
    RunCommand,
)

STEPS = 4
DELAY_S = float(os.environ.get("FAKE_DELAY_S", "0"))


class FakeWorker:
    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self.blobs = BlobStore(data_dir)
        self.cancelled: set[str] = set()
        self.lock = threading.Lock()

    def say(self, message: object) -> None:
        with self.lock:
            sys.stdout.write(message.model_dump_json() + "\n")
            sys.stdout.flush()

    def serve(self) -> None:
        self.say(ReadyMessage(versions=Versions(danqing="fake")))
        for line in sys.stdin:
            command = COMMAND.validate_json(line)
            if isinstance(command, RunCommand):
                threading.Thread(target=self.paint, args=(command,), daemon=True).start()
            elif isinstance(command, CancelCommand):
                self.cancelled.add(command.job_id)
            elif isinstance(command, InterrogateCommand | EmbedCommand):
                self.look(command)
            else:
                return

    def look(self, command: InterrogateCommand | EmbedCommand) -> None:
        text = command.texts[0] if isinstance(command, EmbedCommand) and command.texts else ""
        if text == "silence":
            return
        self.misbehave(text, "")
        answer = FakeSight(self.data_dir).answer(command)
        self.say(answer.model_copy(update={"task_id": "another"}) if text == "stranger" else answer)

    def paint(self, command: RunCommand) -> None:
        job_id = command.job_id
        for work in command.pictures:
            prompt = work.plan.base.text.prompt
            if prompt == "liar" and work.index == 1:
                continue
            for step in range(STEPS):
                time.sleep(DELAY_S)
                if job_id in self.cancelled:
                    self.say(JobCancelledMessage(job_id=job_id))
                    return
                self.say(
                    ProgressEvent(
                        job_id=job_id, index=work.index, step=step + 1, steps=STEPS, fraction=(step + 1) / STEPS
                    )
                )
            if self.misbehave(prompt, job_id):
                return
            self.say(paint_fake(job_id, work, self.blobs))
            with (self.data_dir / "painted.jsonl").open("a") as file:
                file.write(json.dumps({"job": job_id, "index": work.index, "pid": os.getpid()}) + "\n")
        self.say(JobDoneMessage(job_id=job_id))

    def misbehave(self, prompt: str, job_id: str) -> bool:
        if prompt == "die":
            sys.stderr.write("about to die\n")
            sys.stderr.flush()
            os.kill(os.getpid(), signal.SIGKILL)
        if prompt == "exit":
            os._exit(3)
        if prompt == "garbage":
            sys.stdout.write("this is not JSON\n")
            sys.stdout.flush()
            time.sleep(60)
        if prompt == "refuse":
            self.say(JobFailedMessage(job_id=job_id, error=InvalidRequestError("no", field="prompt").as_dict()))
            return True
        return False


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--device", required=True)
    parser.add_argument("--models")
    parser.add_argument("--precision")
    arguments = parser.parse_args()
    start = os.environ.get("FAKE_START")
    if start == "crash":
        sys.exit("no torch here")
    if start == "hang":
        time.sleep(60)
    FakeWorker(arguments.data).serve()
    os._exit(0)


if __name__ == "__main__":
    main()
