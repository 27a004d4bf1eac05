"""How the package's `python -m` commands end when something is wrong with what was asked for."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

from danqing.spec.errors import InvalidRequestError
from danqing.training.builtin.finished import SideJob, side_main
from danqing.training.commands import exit_code, tell

WRONG = {
    "samples.__main__": ["monet", *(word for one in ("drawings", "paintings", "work") for word in (f"--{one}", "x"))],
    "builtin.__main__": ["--config", "nowhere.toml", "--out", "x"],
    "builtin.shards": ["--config", "nowhere.toml", "--out", "x"],
    "builtin.control_stage": ["nothing"],
    "builtin.upscaler": ["--config", "nowhere.toml", "--rgba", "x", "--out", "x"],
    "evaluation.__main__": ["--data", "x", "--only", "nothing"],
    "own.__main__": ["nowhere", "--sets", "x"],
    "own.foundation_sample": ["nowhere", "-o", "grid.png"],
}


def fail() -> None:
    raise InvalidRequestError("too small", field="size_px", value=1)


def test_work_that_is_done_ends_with_nothing_said(capsys):
    done: list[int] = []
    assert exit_code(lambda: done.append(1)) == 0
    assert done == [1]
    assert capsys.readouterr() == ("", "")


def test_a_mistake_is_told_in_a_line_and_others_pass(capsys):
    assert exit_code(fail) == 2
    first = capsys.readouterr()
    assert (first.out, first.err) == ("", f"error: {_message()}\n")
    assert tell(InvalidRequestError("too small", field="size_px", value=1)) == 2
    assert capsys.readouterr() == first
    with pytest.raises(ZeroDivisionError):
        exit_code(lambda: 1 / 0)


def _message() -> str:
    with pytest.raises(InvalidRequestError) as caught:
        fail()
    return str(caught.value)


@pytest.mark.parametrize("module", WRONG)
def test_every_command_ends_so(module, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    command = importlib.import_module(f"danqing.training.{module}")
    assert command.main(WRONG[module]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    (line,) = said.err.splitlines()
    assert line.startswith("error: ")


def test_a_stage_that_was_begun_is_gone_on_with_only_when_asked(tmp_path, capsys):
    (tmp_path / "distill.ckpt.pt").touch()
    done: list[SideJob] = []
    place = ["--config", "builtin-tiny", "--run", str(tmp_path), "--device", "cpu"]
    assert side_main(done.append, "distill", place) == 2
    assert capsys.readouterr().err.startswith("error: this stage has been begun already")
    assert side_main(done.append, "distill", [*place, "--resume"]) == 0
    assert [job.run for job in done] == [tmp_path]


def test_the_process_ends_with_the_code(tmp_path):
    command = [sys.executable, "-m", "danqing.training.own", str(tmp_path / "nowhere"), "--sets", str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert ended.stderr.splitlines()[-1].startswith("error: ")
