"""The command line in this process, over the studio in memory of `tests/server`."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "server"))

from door_studio import FakeStudio, png

from danqing.cli import main, session


@dataclass
class Answer:
    code: int
    out: str
    err: str

    @property
    def json(self):
        return json.loads(self.out)

    @property
    def error(self):
        return json.loads(self.err.splitlines()[-1])["error"]


@pytest.fixture
def studio(tmp_path, monkeypatch):
    folder = tmp_path / "data"
    folder.mkdir()
    fake = FakeStudio(folder)
    monkeypatch.setattr(session, "make_studio", lambda settings: fake)
    return fake


@pytest.fixture
def danqing(studio, tmp_path, monkeypatch, capsys):
    place = tmp_path / "here"
    place.mkdir()
    monkeypatch.chdir(place)
    monkeypatch.setenv("DANQING_DATA_DIR", str(tmp_path / "data"))

    def run(*arguments: str) -> Answer:
        code = main.run(list(arguments))
        captured = capsys.readouterr()
        return Answer(code, captured.out, captured.err)

    return run


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "cat.png"
    path.write_bytes(png())
    return path
