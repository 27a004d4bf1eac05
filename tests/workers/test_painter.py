"""The painter: commands in, messages out; pictures lie in the blob store and say how they were made."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import queue
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from danqing.spec.errors import DanqingError, WorkerError
from danqing.spec.events import PreviewEvent, ProgressEvent
from danqing.spec.plan import Plan
from danqing.store.blobs import BlobStore
from danqing.store.metadata import read_metadata
from danqing.workers import painter as painter_module
from danqing.workers.painter import Painter, PainterOptions
from danqing.workers.protocol import (
    MESSAGE,
    CancelCommand,
    JobCancelledMessage,
    JobDoneMessage,
    JobFailedMessage,
    Message,
    PictureMessage,
    PictureWork,
    ReadyMessage,
    RunCommand,
    ShutdownCommand,
)
from easel import Easel, box_mask, numbers, photo

Commands = queue.SimpleQueue


class Front:
    """Runs a painter in this process; can give commands when it hears something."""

    def __init__(self, data_dir: Path, models_dir: Path) -> None:
        self.heard: list[Message] = []
        self.commands: Commands[Any] = Commands()
        self.replies: dict[type[Any], Any] = {}
        options = PainterOptions(data_dir=data_dir, models_dir=models_dir, device="cpu", precision="float32")
        self.painter = Painter(options, self._hear)

    def _hear(self, message: Message) -> None:
        self.heard.append(message)
        reply = self.replies.pop(type(message), None)
        if reply is not None:
            self.commands.put(reply)

    def run(self, *commands: Any) -> list[Message]:
        """Give commands and work until every job has ended."""
        for command in commands:
            self.commands.put(command)
        jobs = {command.job_id for command in commands if isinstance(command, RunCommand)}
        original = self.painter._take_commands

        def until_done(waiting: Commands[Any]) -> bool:
            return len(self.ended()) < len(jobs) and original(waiting)

        self.painter._take_commands = until_done  # type: ignore[method-assign]
        self.painter.run(self.commands)
        return self.heard

    def ended(self) -> list[Message]:
        return self.all(JobDoneMessage, JobFailedMessage, JobCancelledMessage)

    def all(self, *kinds: type[Any]) -> list[Any]:
        return [message for message in self.heard if isinstance(message, kinds)]


@pytest.fixture
def front(tmp_path: Path, tiny_sd: Path) -> Front:
    return Front(tmp_path, tiny_sd)


def job(easel: Easel, job_id: str, **fields: Any) -> RunCommand:
    works = tuple(PictureWork(index=i, plan=one) for i, one in enumerate(easel.plans(**fields)))
    return RunCommand(job_id=job_id, pictures=works)


def test_a_job_is_painted_saved_and_reported(front: Front, easel: Easel):
    command = job(easel, "job1", count=2, sampling={"steps": 4})
    heard = front.run(command)
    assert isinstance(heard[-1], JobDoneMessage)
    pictures = sorted(front.all(PictureMessage), key=lambda message: message.index)
    assert [message.index for message in pictures] == [0, 1]
    for message, work in zip(pictures, command.pictures, strict=True):
        data = front.painter.blobs.read(message.picture)
        assert hashlib.sha256(data).hexdigest() == message.picture
        image = Image.open(io.BytesIO(data))
        assert (image.format, image.size) == ("PNG", (message.width_px, message.height_px))
        assert np.abs(numbers(image) - numbers(easel.paint_plans([work.plan])[0])).max() <= 1
        found = read_metadata(data)
        assert found.plan == work.plan, "the file gives back the Plan"
        assert found.infotext == message.infotext
        assert "the red cat" in message.infotext
        assert f"Seed: {work.plan.seeds.seed}" in message.infotext
        assert message.thumbnail is not None
        assert front.painter.blobs.exists(message.thumbnail)
        assert message.timings.total_s > 0
        assert message.timings.by_call_s["Denoise"] > 0
        assert message.versions.precision == "float32"


def test_a_file_repaints_to_the_same_pixels(front: Front, easel: Easel):
    front.run(job(easel, "first", sampling={"sampler": "euler_a", "steps": 4}))
    (message,) = front.all(PictureMessage)
    data = front.painter.blobs.read(message.picture)
    plan = read_metadata(data).plan
    assert isinstance(plan, Plan)
    front.heard.clear()
    front.run(RunCommand(job_id="again", pictures=(PictureWork(index=0, plan=plan),)))
    (again,) = front.all(PictureMessage)
    assert again.picture == message.picture, "even the file is the same, byte by byte"


@pytest.mark.parametrize(("wanted", "media_type"), [("jpeg", "image/jpeg"), ("webp", "image/webp")])
def test_other_formats(front: Front, easel: Easel, wanted: str, media_type: str):
    front.run(job(easel, "j", output={"format": wanted, "quality": 80}, sampling={"steps": 2}))
    (message,) = front.all(PictureMessage)
    assert message.media_type == media_type
    found = read_metadata(front.painter.blobs.read(message.picture))
    assert found.format == wanted
    assert found.plan is not None


def test_progress_goes_up_and_previews_are_pictures(front: Front, easel: Easel, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(painter_module, "PREVIEW_MIN_INTERVAL_S", 0.0)
    front.run(job(easel, "warm", sampling={"steps": 1}))  # the latent → RGB map is fitted on the first picture
    front.heard.clear()
    front.run(job(easel, "j", count=2, sampling={"steps": 6}))
    fractions = [event.fraction for event in front.all(ProgressEvent)]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    assert any(event.eta_s is not None for event in front.all(ProgressEvent))
    previews = front.all(PreviewEvent)
    assert {event.index for event in previews} == {0, 1}
    image = Image.open(io.BytesIO(base64.b64decode(previews[0].data_base64)))
    assert image.size == (8, 8)


def test_input_pictures_come_from_the_blob_store(front: Front, easel: Easel):
    source, mask = photo(), box_mask(64, 64, (10, 10, 40, 40))
    for image in (source, mask):
        easel.picture(image)
        buffer = io.BytesIO()
        image.save(buffer, "PNG")
        front.painter.blobs.put(buffer.getvalue())
    fields = {"kind": "inpaint", "image": easel.picture(source), "mask": easel.picture(mask)}
    front.run(job(easel, "j", **fields, sampling={"steps": 3}))
    (message,) = front.all(PictureMessage)
    painted = numbers(Image.open(io.BytesIO(front.painter.blobs.read(message.picture))))
    assert np.array_equal(painted[50:, 50:], numbers(source)[50:, 50:])


def test_cancel_stops_within_a_step(front: Front, easel: Easel):
    front.replies[ProgressEvent] = CancelCommand(job_id="long")
    front.run(job(easel, "long", sampling={"steps": 400}))
    assert [type(message) for message in front.ended()] == [JobCancelledMessage]
    assert front.all(PictureMessage) == []
    assert max(event.step for event in front.all(ProgressEvent)) <= 2
    assert len(front.painter.engine) == 0


def test_cancelling_what_is_not_there_says_nothing(front: Front, easel: Easel):
    front.run(CancelCommand(job_id="nobody"), job(easel, "j", sampling={"steps": 1}))
    assert [message.job_id for message in front.ended()] == ["j"]


def test_a_job_that_cannot_be_painted_fails_with_words_and_leaves_the_others(front: Front, easel: Easel):
    bad = job(easel, "bad", count=2, clip_skip=9, sampling={"steps": 3})
    front.run(bad, job(easel, "good", sampling={"steps": 3}))
    failed, done = sorted(front.ended(), key=lambda message: message.type, reverse=True)
    assert isinstance(failed, JobFailedMessage)
    assert isinstance(done, JobDoneMessage)
    error = DanqingError.from_dict(failed.error)
    assert (failed.job_id, error.code, error.field, error.value) == ("bad", "unsupported", "clip_skip", 9)
    assert error.next_step
    assert [message.job_id for message in front.all(PictureMessage)] == ["good"]


def test_a_missing_input_picture_and_a_missing_model_fail_with_words(front: Front, easel: Easel):
    picture = easel.picture(photo(64, 64, seed=99))
    gone = job(easel, "gone", kind="img2img", image=picture)
    (one,) = easel.plans()
    stranger = one.base.model.model_copy(update={"sha256": "f" * 64, "name": "stranger"})
    lost = one.model_copy(update={"passes": (one.base.model_copy(update={"model": stranger}),)})
    front.run(gone, RunCommand(job_id="lost", pictures=(PictureWork(index=0, plan=lost),)))
    errors = {message.job_id: message.error for message in front.all(JobFailedMessage)}
    assert errors["gone"]["code"] == "not_found"
    assert "stranger is not installed" in errors["lost"]["message"]


def test_a_full_disk_fails_the_job_only(front: Front, easel: Easel, monkeypatch: pytest.MonkeyPatch):
    def full(*_: Any) -> str:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(BlobStore, "put", full)
        front.run(job(easel, "j", sampling={"steps": 1}))
    (failed,) = front.all(JobFailedMessage)
    assert "No space left" in failed.error["message"]
    assert failed.error["next_step"] == "free space in the data folder"
    front.heard.clear()
    front.run(job(easel, "k", sampling={"steps": 1}))
    assert isinstance(front.heard[-1], JobDoneMessage)


def test_a_bug_in_saving_fails_the_job_only(front: Front, easel: Easel, monkeypatch: pytest.MonkeyPatch):
    def broken(*_: Any) -> Any:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(painter_module, "save", broken)
    front.run(job(easel, "j", sampling={"steps": 1}))
    (failed,) = front.all(JobFailedMessage)
    assert failed.error["code"] == WorkerError.code


def test_the_same_job_twice_is_painted_once(front: Front, easel: Easel):
    command = job(easel, "j", sampling={"steps": 2})
    front.commands.put(command)
    front.run(command)
    assert len(front.all(PictureMessage)) == 1


def test_shutdown_and_the_end_of_commands_stop_it(front: Front, easel: Easel):
    front.commands.put(job(easel, "j", sampling={"steps": 400}))
    front.commands.put(ShutdownCommand())
    front.painter.run(front.commands)
    front.commands.put(None)
    front.painter.run(front.commands)
    assert front.ended() == []


# --- as a process -----------------------------------------------------------------------------------------------------


def start(data_dir: Path, tiny_sd: Path, *more: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "danqing.workers.main", "--data", str(data_dir), "--models", str(tiny_sd)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*command, "--device", "cpu", "--precision", "float32", *more],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        env=environment,
    )


def test_the_worker_process_speaks_json_lines_and_ends_with_its_input(tmp_path: Path, tiny_sd: Path, easel: Easel):
    process = start(tmp_path, tiny_sd)
    stdin, stdout = process.stdin, process.stdout
    assert stdin is not None
    assert stdout is not None
    watchdog = threading.Timer(120, process.kill)
    watchdog.start()
    try:
        stdin.write("this is no command\n")
        stdin.write(job(easel, "j", sampling={"steps": 2}).model_dump_json() + "\n")
        stdin.flush()
        heard: list[Message] = []
        while not heard or not isinstance(heard[-1], (JobDoneMessage, JobFailedMessage)):
            line = stdout.readline()
            assert line, process.stderr.read() if process.stderr else ""
            json.loads(line)
            heard.append(MESSAGE.validate_json(line))
        assert isinstance(heard[0], ReadyMessage)
        assert heard[0].versions.precision == "float32"
        assert isinstance(heard[-1], JobDoneMessage)
        (picture,) = (message for message in heard if isinstance(message, PictureMessage))
        assert BlobStore(tmp_path).exists(picture.picture)
        # The front goes away in the middle of a long job: the worker goes too.
        stdin.write(job(easel, "long", sampling={"steps": 500}).model_dump_json() + "\n")
        stdin.close()
        assert process.wait(timeout=30) == 0
        assert process.stderr is not None
        assert "not a command" in process.stderr.read()
    finally:
        watchdog.cancel()
        process.kill()
        for stream in (process.stdout, process.stderr, process.stdin):
            if stream is not None:
                stream.close()
        process.wait()


def test_a_device_that_is_not_there_is_an_exit_status(
    tmp_path: Path, tiny_sd: Path, capsys: pytest.CaptureFixture[str]
):
    process = start(tmp_path, tiny_sd, "--device", "toaster")
    out, err = process.communicate(timeout=120)
    assert process.returncode == 2
    assert out == ""
    assert "there is no such device" in err
    assert "toaster" in err
