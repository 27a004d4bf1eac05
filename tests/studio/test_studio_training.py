"""Training as a job: order, pause, going on exactly after every kind of end, painting first, refusals, products."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from PIL import Image
from training_helpers import asked, finished, make_set, make_studio, options, steps_of, wait_until, weights_of

from danqing.spec.errors import ConflictError, InvalidRequestError, NotFoundError
from danqing.spec.painting import Txt2ImgRequest
from danqing.spec.training import parse_training
from danqing.spec.training_run import RunEvent, SampleEvent, TrainingRun
from danqing.studio.service import Studio
from danqing.studio.training_events import EventTail
from danqing.studio.training_sheet import STRENGTHS, TRAINING
from danqing.workers.pool import FakePool

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals")
TESTS = Path(__file__).parents[1]
Open = Callable[..., Studio]


@pytest.fixture
def training(tmp_path: Path) -> Iterator[Open]:
    """Opens studios with a small trainer on one data folder."""
    opened: list[Studio] = []

    def begin(pool: FakePool | None = None, *, eager: bool = True, **environment: object) -> Studio:
        studio = make_studio(tmp_path, pool, **environment)
        opened.append(studio)
        studio.start(eager=eager)
        return studio

    yield begin
    (tmp_path / "go").touch()
    for studio in opened:
        studio.close()


@pytest.fixture
def gate(tmp_path: Path) -> dict[str, Any]:
    """The trainer waits at step 7 until `go` is there."""
    return {"gate": 7, "go": tmp_path / "go"}


def reach(studio: Studio, run_id: str, step: int = 7) -> int:
    """Wait for the trainer to make a step; its process."""
    wait_until(lambda: steps_of(studio, run_id)[-1:] and steps_of(studio, run_id)[-1][1] >= step)
    return steps_of(studio, run_id)[-1][0]


def uninterrupted(tmp_path: Path) -> bytes:
    """The weights of a run that nobody disturbed."""
    with make_studio(tmp_path / "calm") as studio:
        run = finished(studio, studio.submit_training(asked()).id)
        assert run.state == "done"
        return weights_of(studio, run.id)


def samples(studio: Studio, run_id: str, what: str) -> list[SampleEvent]:
    events: list[RunEvent] = [event for _, event in EventTail(studio.training_folder(run_id)).take()]
    return [event for event in events if isinstance(event, SampleEvent) and event.what == what]


def test_a_run_is_estimated_trained_published_and_compared(training: Open, tmp_path: Path):
    studio = training()
    run = studio.submit_training(asked(sample_prompts=("sks, a cat", "sks, a house")))
    assert (run.state, run.steps, run.eta_s) == ("queued", 20, 12.5)
    told = list(studio.watch_training(run.id, timeout_s=60))
    numbers = [number for number, one in told if not isinstance(one, TrainingRun)]
    assert numbers == list(range(1, len(numbers) + 1))
    done = studio.training_run(run.id)
    assert (done.state, done.step, done.stage, done.product, done.error) == ("done", 20, "", "my-style", None)
    assert [Path(path).relative_to(tmp_path).as_posix() for path in done.published] == [
        "models/Lora/my-style.safetensors",
        "models/Lora/my-style.md",
    ]
    assert "my-style" in [info.name for info in studio.networks()]
    (sheet,) = samples(studio, run.id, "compare")
    with Image.open(studio.training_picture(run.id, sheet.file)) as picture:
        assert picture.width > len(STRENGTHS) * 32
    prompts = [plan.base.text.prompt for job in studio.jobs(user=TRAINING) for plan in job.plans]
    assert sorted(prompts) == sorted(
        f"{words} <lora:my-style:{strength:g}>" for words in ("sks, a cat", "sks, a house") for strength in STRENGTHS
    )
    assert len({plan.seeds.seed for job in studio.jobs(user=TRAINING) for plan in job.plans}) == 1
    assert studio.records() == []  # the sheet's pictures do not fill the gallery


def test_captions_of_the_set_are_compared_where_no_prompts_are_given(training: Open):
    studio = training()
    run = finished(studio, studio.submit_training(asked()).id)
    assert run.state == "done"
    assert {plan.base.text.prompt.partition(" <")[0] for job in studio.jobs(user=TRAINING) for plan in job.plans} == {
        "sks, a red apple"
    }


def test_runs_go_one_after_the_other_in_the_order_of_submission(training: Open, gate: dict[str, Any]):
    studio = training(**gate)
    runs = [studio.submit_training(asked(f"style-{number}")).id for number in range(3)]
    reach(studio, runs[0])
    assert [studio.training_run(run).state for run in runs] == ["running", "queued", "queued"]
    assert studio.trainings_waiting() == runs[1:]
    assert studio.pause_training(runs[1]).state == "paused"
    assert studio.resume_training(runs[1]).state == "queued"  # at the end of the queue now
    gate["go"].touch()
    done = [finished(studio, run) for run in runs]
    assert [run.state for run in done] == ["done"] * 3
    began = [run.started_at for run in done]
    assert began[0] < began[2] < began[1]
    assert done[0].finished_at <= began[2]
    assert done[2].finished_at <= began[1]


def test_pause_and_resume_end_in_the_same_weights(training: Open, gate: dict[str, Any], tmp_path: Path):
    studio = training(**gate)
    run = studio.submit_training(asked()).id
    pid = reach(studio, run)
    assert studio.pause_training(run).asked == "pause"
    paused = finished(studio, run)
    assert (paused.state, paused.asked, paused.step, paused.finished_at) == ("paused", None, 7, None)
    assert not psutil.pid_exists(pid)
    with pytest.raises(ConflictError, match="paused"):
        studio.pause_training(run)
    gate["go"].touch()
    studio.resume_training(run)
    assert finished(studio, run).state == "done"
    assert [step for _, step in steps_of(studio, run)] == list(range(1, 21))  # none lost, none twice
    assert weights_of(studio, run) == uninterrupted(tmp_path)


def test_a_killed_trainer_goes_on_from_its_checkpoint(training: Open, gate: dict[str, Any], tmp_path: Path):
    studio = training(**gate)
    run = studio.submit_training(asked()).id
    os.kill(reach(studio, run), signal.SIGKILL)
    wait_until(lambda: len({pid for pid, _ in steps_of(studio, run)}) == 2)
    gate["go"].touch()
    assert finished(studio, run).state == "done"
    assert [step for _, step in steps_of(studio, run)] == [*range(1, 8), *range(6, 21)]  # from checkpoint 5
    assert weights_of(studio, run) == uninterrupted(tmp_path)


def test_a_trainer_that_always_breaks_is_given_up_with_its_own_words(training: Open):
    studio = training(crash=3)
    run = finished(studio, studio.submit_training(asked()).id)
    assert (run.state, run.attempts) == ("failed", 3)
    assert run.error is not None
    assert "ended with code 1, 3 times" in run.error["message"]
    assert "RuntimeError: the loss is not a number" in run.error["value"]
    assert "Traceback" not in run.error["value"]
    assert "File " not in run.error["value"]
    studio.trainer = options()
    assert studio.resume_training(run.id).error is None
    assert finished(studio, run.id).state == "done"


def test_a_trainer_that_says_why_it_fails_is_not_tried_again(training: Open):
    studio = training(fail="a picture of the set cannot be read")
    run = finished(studio, studio.submit_training(asked()).id)
    assert (run.state, run.attempts) == ("failed", 1)
    assert run.error == {"code": "bad_file", "message": "a picture of the set cannot be read"}


def test_cancelling_keeps_the_folder_for_the_undo_window(training: Open, gate: dict[str, Any], tmp_path: Path):
    studio = training(**gate)
    running, waiting = (studio.submit_training(asked(name)).id for name in ("one", "two"))
    reach(studio, running)
    assert studio.cancel_training(waiting).state == "cancelled"
    studio.cancel_training(running)
    assert finished(studio, running).state == "cancelled"
    folder = studio.training_folder(running)
    assert studio.purge_trainings() == 0
    assert folder.is_dir()
    gate["go"].touch()
    studio.resume_training(running)
    assert finished(studio, running).state == "done"
    studio.close()
    again = Studio(studio.settings.model_copy(update={"undo_window_s": 0.0}), FakePool())
    with again:
        assert again.purge_trainings() == 1
        with pytest.raises(NotFoundError):
            again.training_run(waiting)
        again.delete_training(running)
        assert again.training_runs() == []
        again.restore_training(running)
        assert [run.id for run in again.training_runs()] == [running]
        again.delete_training(running)
        assert again.purge_trainings() == 1
    assert not folder.exists()
    assert (tmp_path / "models" / "Lora" / "one.safetensors").is_file()


# --- painting goes first ----------------------------------------------------------------------------------------------
def status_of(pid: int) -> str:
    return psutil.Process(pid).status()


def test_the_trainer_stands_still_while_pictures_are_painted(training: Open, gate: dict[str, Any]):
    pool = FakePool(held=True)
    studio = training(pool, **gate)
    run = studio.submit_training(asked()).id
    pid = reach(studio, run)
    process = psutil.Process(pid)
    assert process.nice() == min(19, psutil.Process().nice() + 10)
    assert os.getsid(pid) == pid
    group = Path(f"/proc/{pid}/autogroup")
    assert not group.exists() or group.read_text().endswith("nice 10\n")
    job = studio.submit(Txt2ImgRequest(prompt="an apple", seed=1))
    wait_until(lambda: status_of(pid) == psutil.STATUS_STOPPED)
    wait_until(lambda: studio.training_run(run).stage == "held")
    pool.release()
    assert studio.wait(job.id, 10).state == "done"
    wait_until(lambda: status_of(pid) != psutil.STATUS_STOPPED)
    wait_until(lambda: studio.training_run(run).stage == "training")
    gate["go"].touch()
    assert finished(studio, run).state == "done"


def test_a_held_trainer_can_be_paused(training: Open, gate: dict[str, Any]):
    studio = training(FakePool(held=True), **gate)
    run = studio.submit_training(asked()).id
    pid = reach(studio, run)
    studio.submit(Txt2ImgRequest(prompt="an apple", seed=1))
    wait_until(lambda: status_of(pid) == psutil.STATUS_STOPPED)
    studio.pause_training(run)
    assert finished(studio, run).state == "paused"
    assert studio.training_run(run).step == 7


def test_a_run_waits_to_begin_while_pictures_are_painted_unless_it_is_not_in_the_background(training: Open):
    pool = FakePool(held=True)
    studio = training(pool)
    job = studio.submit(Txt2ImgRequest(prompt="an apple", seed=1))
    wait_until(studio._trainings.is_painting)
    waits = studio.submit_training(asked("waits")).id
    wait_until(lambda: studio.training_run(waits).stage == "held")
    assert steps_of(studio, waits) == []
    studio.cancel_training(waits)
    assert finished(studio, waits).state == "cancelled"
    bold = studio.submit_training(asked("bold", background=False)).id
    wait_until(lambda: len(steps_of(studio, bold)) == 20)
    assert not studio.job(job.id).is_final
    pool.release()
    assert finished(studio, bold).state == "done"


# --- servers that end -------------------------------------------------------------------------------------------------
def test_a_server_that_stops_leaves_a_checkpoint(training: Open, gate: dict[str, Any], tmp_path: Path):
    first = training(**gate)
    run = first.submit_training(asked()).id
    pid = reach(first, run)
    folder = first.training_folder(run)
    first.close()
    assert not psutil.pid_exists(pid)
    assert json.loads((folder / "checkpoint.pt").read_text())["step"] == 7
    gate["go"].touch()
    second = training(**gate)
    assert second.training_run(run).attempts <= 1
    assert finished(second, run).state == "done"
    assert [step for _, step in steps_of(second, run)] == list(range(1, 21))
    assert weights_of(second, run) == uninterrupted(tmp_path)


@pytest.mark.parametrize("painting", [False, True])
def test_a_killed_server(training: Open, gate: dict[str, Any], tmp_path: Path, painting: bool):
    """The trainer ends with it; one that was just held is found and ended by the next server."""
    environment = json.dumps({name: str(value) for name, value in gate.items()})
    paths = [str(TESTS.parent / "src"), str(TESTS / "studio")]
    front = subprocess.Popen(
        [sys.executable, str(TESTS / "studio" / "training_front.py"), str(tmp_path), environment],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
    )
    with front:
        assert front.stdout is not None
        run = front.stdout.readline().strip()
        watcher = training(eager=False, **gate)
        pid = reach(watcher, run)
        trainer = psutil.Process(pid)
        if painting:
            trainer.suspend()
        front.kill()
    if not painting:
        wait_until(lambda: not trainer.is_running() or trainer.status() == psutil.STATUS_ZOMBIE)
    gate["go"].touch()
    server = training(**gate)
    assert finished(server, run).state == "done"
    assert not trainer.is_running() or trainer.status() == psutil.STATUS_ZOMBIE
    assert weights_of(server, run) == uninterrupted(tmp_path)


def test_a_server_killed_between_the_trainers_end_and_the_publishing(training: Open):
    """The next one trains nothing: it publishes, and does not copy twice."""
    first = training()
    run = finished(first, first.submit_training(asked()).id)
    made = len(steps_of(first, run.id))
    _as_if_killed(first, run)
    second = training()
    done = finished(second, run.id)
    assert (done.state, done.product, done.published[:1]) == ("done", "my-style", run.published[:1])
    assert len(steps_of(second, run.id)) == made
    assert len(samples(second, run.id, "compare")) == 1


def _as_if_killed(studio: Studio, run: TrainingRun) -> None:
    store = studio._store.trainings
    with store._open(write=True) as table:
        kept = table.find(run.id)
        lost = run.model_copy(update={"state": "running", "product": None, "published": (), "finished_at": None})
        table.put(type(kept)(lost, kept.queued_at, owner="gone"))
    studio.close()


def test_a_run_that_killed_its_servers_is_given_up(training: Open):
    first = training(eager=False)
    run = first.submit_training(asked())
    _as_if_killed(first, run.model_copy(update={"attempts": 3}))
    second = training()
    ended = finished(second, run.id)
    assert ended.state == "failed"
    assert "started 3 times" in ended.error["message"]


# --- refusals and products --------------------------------------------------------------------------------------------
def test_what_cannot_begin_is_refused_with_reasons_and_leaves_nothing(training: Open, tmp_path: Path):
    studio = training(reasons=json.dumps(["it needs 40 GB, 8 GB are free", "no picture is large enough"]))
    with pytest.raises(InvalidRequestError, match=r"40 GB.*no picture"):
        studio.submit_training(asked())
    assert studio.estimate_training(asked()).reasons[0].startswith("it needs 40 GB")
    assert studio.training_runs(include_deleted=True) == []
    assert list((tmp_path / "training" / "runs").iterdir()) == []
    assert {path.name for path in (tmp_path / "training").iterdir()} == {"sets", "runs"}
    for wrong, field in (
        ({"dataset": "pears"}, "dataset"),
        ({"model": "no-such"}, "model"),
        ({"method": "controlnet", "start_from": "no-such"}, "start_from"),
    ):
        with pytest.raises((NotFoundError, InvalidRequestError)) as caught:
            studio.submit_training(asked(**wrong))
        assert caught.value.field == field


def test_an_empty_set_and_strange_pairs_are_refused(training: Open, tmp_path: Path):
    studio = training()
    (tmp_path / "training" / "sets" / "apples" / "pictures" / "a.png").unlink()
    with pytest.raises(InvalidRequestError, match="no pictures"):
        studio.submit_training(asked())
    with pytest.raises(NotFoundError, match="pairs"):
        studio.submit_training(parse_training({"method": "artaug", "name": "x", "pairs": "../.."}))


def test_a_trainer_that_cannot_start_is_told_plainly(training: Open, tmp_path: Path):
    studio = training()
    broken = tmp_path / "broken.py"
    broken.write_text("import nothing_like_this\n")
    studio.trainer = type(studio.trainer)(command=(sys.executable, str(broken)))
    with pytest.raises(InvalidRequestError) as caught:
        studio.submit_training(asked())
    assert "No module named 'nothing_like_this'" in caught.value.message
    assert "Traceback" not in caught.value.message


def test_products_overwrite_nothing_and_are_published_again(training: Open, tmp_path: Path):
    folder = tmp_path / "models" / "Lora"
    folder.mkdir(parents=True)
    (folder / "my-style.safetensors").write_bytes(b"somebody's")
    studio = training()
    first = finished(studio, studio.submit_training(asked()).id)
    assert first.product == "my-style-2"
    assert (folder / "my-style.safetensors").read_bytes() == b"somebody's"
    other = finished(studio, studio.submit_training(asked(steps=10)).id)
    assert other.product == "my-style-3"
    assert studio.publish_training(first.id).published == first.published[:1]  # it is there: nothing is copied
    Path(first.published[0]).unlink()
    assert studio.publish_training(first.id).product == "my-style-2"
    assert Path(first.published[0]).is_file()
    studio.delete_training(first.id)
    with pytest.raises(ConflictError):
        studio.delete_training(first.id)


def test_a_product_that_cannot_be_copied_is_not_lost(training: Open, tmp_path: Path):
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "Lora").write_bytes(b"a file where a folder should be")
    studio = training()
    run = finished(studio, studio.submit_training(asked()).id)
    assert (run.state, run.product) == ("done", None)
    assert "could not be copied" in run.note
    (tmp_path / "models" / "Lora").unlink()
    assert studio.publish_training(run.id).product == "my-style"


def test_a_run_that_gained_nothing_ends_well_and_publishes_nothing(training: Open, tmp_path: Path):
    studio = training(nothing="no round gained anything")
    run = finished(studio, studio.submit_training(asked()).id)
    assert (run.state, run.error, run.note, run.product, run.published) == ("done", None, "", None, ())
    assert run.unpublished == "no round gained anything"
    assert not (tmp_path / "models" / "Lora").exists()
    assert samples(studio, run.id, "compare") == []
    assert studio.jobs(user=TRAINING) == []
    with pytest.raises(ConflictError, match="nothing was published, because no round gained anything"):
        studio.publish_training(run.id)


# --- watching ---------------------------------------------------------------------------------------------------------
def test_events_go_on_where_a_watcher_left(training: Open):
    studio = training()
    run = studio.submit_training(asked()).id
    first = [one for one in studio.watch_training(run, timeout_s=60) if not isinstance(one[1], TrainingRun)]
    rest = [one for one in studio.watch_training(run, after=9) if not isinstance(one[1], TrainingRun)]
    assert rest == first[9:]
    last = list(studio.watch_training(run, after=first[-1][0]))
    assert [type(one) for _, one in last] == [TrainingRun]
    assert last[0][0] == first[-1][0]
    with pytest.raises(NotFoundError):
        studio.watch_training("nothing")


def test_half_a_line_is_passed_over(tmp_path: Path):
    lines = ['{"type":"note","words":"one"}', '{"type":"no', '{"type":"note","words":"three"}']
    (tmp_path / "events.jsonl").write_text("\n".join(lines) + '\n{"type":"note","wor')
    tail = EventTail(tmp_path)
    assert [number for number, _ in tail.take()] == [1, 3]
    with (tmp_path / "events.jsonl").open("a") as file:
        file.write('ds":"four"}\n')
    assert [(number, event.words) for number, event in tail.take()] == [(4, "four")]


def test_pictures_are_given_only_from_the_samples(training: Open, tmp_path: Path):
    studio = training()
    run = finished(studio, studio.submit_training(asked()).id)
    assert studio.training_picture(run.id, "samples/000010.png").is_file()
    (tmp_path / "secret.png").write_bytes(b"x")
    (studio.training_folder(run.id) / "samples" / "link.png").symlink_to(tmp_path / "secret.png")
    for name in (
        "../../../../secret.png",
        "000011.png",
        "../request.json",
        "",
        "link.png",
        str(tmp_path / "secret.png"),
    ):
        with pytest.raises(NotFoundError):
            studio.training_picture(run.id, name)


def test_a_second_set_is_named_in_the_request(training: Open, tmp_path: Path):
    make_set(tmp_path, "pears")
    studio = training()
    run = studio.submit_training(asked(dataset="pears"))
    kept = json.loads((studio.training_folder(run.id) / "request.json").read_text())
    assert kept == run.request.model_dump(mode="json")
    assert finished(studio, run.id).state == "done"
