"""The command in its own process, over the real Studio with fake workers: Ctrl-C, pipes, two runs on one folder."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import danqing
from danqing.studio.service import Studio
from danqing.studio.settings import load_settings
from danqing.workers.pool import FakePool

FRONT = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background shell starts its children without Ctrl-C
sys.path.insert(0, {server!r})
from door_studio import plans_of
from danqing.cli import main, session
from danqing.studio.service import Studio
from danqing.workers.pool import FakePool
session.make_studio = lambda settings: Studio(
    settings, FakePool(held={held}), planner=lambda request, catalog, **facts: plans_of(request)
)
sys.exit(main.run(sys.argv[1:]))
"""


@pytest.fixture
def start(tmp_path):
    server = str(Path(__file__).parents[1] / "server")
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path(danqing.__file__).parents[1]),
        "DANQING_DATA_DIR": str(tmp_path / "data"),
    }

    def begin(*arguments: str, held: bool = False) -> subprocess.Popen[str]:
        code = FRONT.format(server=server, held=held)
        return subprocess.Popen(
            [sys.executable, "-c", code, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
            cwd=tmp_path,
        )

    return begin


def jobs_in(folder: Path):
    studio = Studio(load_settings(data_dir=folder), FakePool(held=True))
    with studio:
        return studio.jobs()


def test_ctrl_c_cancels_and_ends_with_130(start, tmp_path):
    process = start("paint", "a red apple", held=True)
    deadline_s = time.monotonic() + 30
    while time.monotonic() < deadline_s:
        if (tmp_path / "data" / "danqing.db").exists() and jobs_in(tmp_path / "data"):
            break
        time.sleep(0.1)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=40)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert out == ""
    assert [job.state for job in jobs_in(tmp_path / "data")] == ["cancelled"]


def test_two_runs_share_a_gallery(start, tmp_path):
    out, err = start("paint", "a red apple", "--seed", "3", "--json", "-o", "a.png").communicate(timeout=60)
    painted = json.loads(out)
    assert err == ""
    assert (tmp_path / "a.png").is_file()
    out, _ = start("gallery", "--json").communicate(timeout=60)
    assert [row["id"] for row in json.loads(out)["records"]] == [painted["pictures"][0]["record"]]


def test_a_pipe_that_closes_early_is_no_traceback(start):
    process = start("gallery", "list")
    process.stdout.close()
    process.stdout = None
    _, err = process.communicate(timeout=60)
    assert "Traceback" not in err
    assert "\x1b" not in err
