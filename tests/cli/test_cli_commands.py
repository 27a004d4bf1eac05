"""The other commands."""

from __future__ import annotations

import io
import os
import pty
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from door_studio import png
from PIL import Image
from rich.console import Console

from danqing.cli import main, progress, serve
from danqing.cli.progress import half_blocks
from danqing.cli.terminal import Terminal
from danqing.spec.errors import ConflictError, InvalidRequestError
from danqing.spec.events import PreviewEvent, ProgressEvent, StateEvent
from danqing.spec.painting import Output
from danqing.store.metadata import encode_picture
from danqing.studio.settings import Settings


def test_gallery(danqing):
    danqing("paint", "a [red] apple", "--count", "3", "-q")
    rows = danqing("gallery", "list", "--json").json["records"]
    assert [row["id"] for row in rows] == ["R00002", "R00001", "R00000"]
    assert {"id", "created_at", "kind", "prompt", "model", "seed", "width_px", "sha256", "deleted_at"} <= set(rows[0])
    lines = danqing("gallery").out.splitlines()
    assert len(lines) == 4
    assert len(danqing("gallery", "--limit", "2", "--json").json["records"]) == 2
    assert all(line.count("\t") == 5 for line in lines)
    assert danqing("gallery", "list", "--search", "pear").out.count("\n") == 1
    shown = danqing("gallery", "show", "R00001", "--json").json
    assert shown["plan"]["seeds"]["seed"] == shown["seed"]
    assert "Steps: 4" in danqing("gallery", "show", "R00001").out
    exported = danqing("gallery", "export", "R00000", "R00001", "-o", "export", "--json").json["pictures"]
    assert all(Path(picture["path"]).is_file() for picture in exported)
    assert danqing("gallery", "delete", "R00000").code == 0
    assert len(danqing("gallery", "list", "--json").json["records"]) == 2
    assert len(danqing("gallery", "list", "--deleted", "--json").json["records"]) == 3
    assert danqing("gallery", "restore", "R00000", "--json").json == {"restored": ["R00000"]}


def test_gallery_search(danqing, picture):
    assert "gallery is empty" in danqing("gallery", "search", "red").err
    danqing("paint", "apple", "--count", "2", "--seed", "5", "-q")
    rows = danqing("gallery", "search", "--like", "record:R00001", "--json").json["found"]
    assert rows[0]["id"] == "R00001"
    assert rows[0]["score"] >= rows[1]["score"]
    assert (
        len(danqing("gallery", "search", "a red apple", "--like", str(picture), "--limit", "1").out.splitlines()) == 2
    )
    assert danqing("gallery", "search").code == 2
    assert "no such file" in danqing("gallery", "search", "--like", "nowhere.png").err


def test_interrogate(danqing, picture):
    said = danqing("interrogate", str(picture))
    assert said.out.splitlines()[0] == "a red square, on a red background"
    answer = danqing("interrogate", str(picture), "--language", "zh-hant", "--json").json
    assert (answer["language"], answer["label"], answer["background"]) == ("zh-Hant", "方塊", "紅色背景")
    assert answer["interrogation"]["words"]["zh-Hans"]["label"] == "方块"
    assert danqing("interrogate", str(picture), "--language", "zh_CN", "--json").json["language"] == "zh-Hans"
    refused = danqing("interrogate", str(picture), "--language", "fr")
    assert refused.code == 2
    assert "zh-Hant" in refused.err
    for wrong in (("--with", "gpt"), ("--threshold", "0.5"), ("--threshold", "2")):
        assert danqing("interrogate", str(picture), *wrong).code == 2
    assert danqing("interrogate", str(picture), "--with", "Danqing", "--tags", "3").out == said.out
    assert danqing("interrogate", "nowhere.png").code == 2
    assert danqing("interrogate", "record:nobody").code == 2


@pytest.mark.parametrize("command", ["show", "export", "delete", "restore"])
def test_gallery_without_the_record(danqing, studio, command):
    danqing("paint", "apple", "-q")
    ids = ["R00000", "nobody"] if command in {"delete", "export"} else ["nobody"]
    answer = danqing("gallery", command, *ids)
    assert answer.code == 2
    assert "no such record" in answer.err
    assert studio.record("R00000").deleted_at is None


def test_models_and_doctor(danqing, studio, monkeypatch):
    assert danqing("models", "--json").json == danqing("models", "list", "--json").json
    assert danqing("models", "list", "--json").json["models"][0]["short_hash"] == "a" * 10
    assert danqing("models").out.splitlines()[1].startswith("danqing-mini\t")
    assert "device: cpu" in danqing("doctor").out
    monkeypatch.setattr(studio, "doctor", lambda: {"models": [{"name": "a", "ok": True}], "problems": ["no weights"]})
    answer = danqing("doctor")
    assert answer.code == 1
    assert answer.out == "models:\n  - name: a\n    ok: yes\nproblems:\n  - no weights\n"


def test_prompt(danqing):
    explained = danqing("prompt", "a [cat:dog:0.5] (x:1.2)", "--steps", "20", "--json").json
    assert explained["schedules"] == [[10, "a cat (x:1.2)"], [20, "a dog (x:1.2)"]]
    assert explained["weights"] == [["a cat ", 1.0], ["x", 1.2]]
    assert "until step 10: a cat" in danqing("prompt", "a [cat:dog:0.5]").out
    assert danqing("prompt", "x", "--steps", "0").code == 2
    assert danqing("prompt", "x", "--syntax", "other").code == 2


def test_reproduce_compares_pixels(danqing, studio):
    danqing("paint", "apple", "--seed", "7", "-o", "apple.png")
    answer = danqing("reproduce", "apple.png", "--json")
    assert answer.code == 0
    assert set(answer.json) == {
        "file", "record", "path", "seed", "identical", "pixels", "differing_pixels", "max_difference",
    }  # fmt: skip
    assert answer.json["identical"] is True
    assert answer.json["differing_pixels"] == 0
    assert studio.record(answer.json["record"]).plan == studio.record("R00000").plan
    plan = studio.record("R00000").plan
    with Image.open("apple.png") as image:
        image.putpixel((3, 4), (0, 0, 0))
        Path("changed.png").write_bytes(encode_picture(image, Output(), plan=plan).data)
    answer = danqing("reproduce", "changed.png", "-o", "again.png")
    assert answer.code == 1
    assert "1 of 16384 pixels differ" in answer.out
    assert Path("again.png").read_bytes() == Path("apple.png").read_bytes()
    Path("small.png").write_bytes(encode_picture(Image.new("RGB", (8, 8)), Output(), plan=plan).data)
    assert danqing("reproduce", "small.png").out == "different: the sizes differ\n"


def test_reproduce_refuses_what_carries_no_plan(danqing):
    Path("plain.png").write_bytes(png())
    Path("words.png").write_text("words")
    assert "no Plan" in danqing("reproduce", "plain.png").err
    for name in ("plain.png", "words.png", "nobody.png"):
        assert danqing("reproduce", name).code == 2


def test_demo_paints_sixteen(danqing, studio):
    answer = danqing("demo", "--json")
    assert answer.code == 0, answer.err
    assert answer.json["seeds"] == list(range(16))
    assert Path(answer.json["path"]).name == "demo.png"
    with Image.open("out/demo.png") as sheet:
        assert sheet.size == (4 * (192 + 16) + 16, 4 * (192 + 28 + 16) + 16)
    assert danqing("demo", "-o", "folder").code == 2


def test_train_runs_the_trainer_in_its_own_process(danqing, monkeypatch):
    started = []

    class Process:
        def __init__(self, command):
            started.append(command)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            return None

        def wait(self):
            if len(started) == 1:
                started.append("interrupted")
                raise KeyboardInterrupt
            return 3

    monkeypatch.setattr(subprocess, "Popen", Process)
    Path("a.toml").write_text("")
    assert danqing("train", "builtin", "--config", "a.toml", "--resume", "--until", "12:00").code == 3
    beginning = ["-m", "danqing.training.builtin", "--config"]
    assert started[0][1:] == [*beginning, "a.toml", "--out", str(Path("runs", "a")), "--resume", "--until", "12:00"]
    assert danqing("train", "builtin", "--config", "builtin-tiny", "--out", "here").code == 3
    assert started[-1][1:] == [*beginning, "builtin-tiny", "--out", "here"]
    answer = danqing("train", "builtin", "--config", "no.toml")
    assert answer.code == 2
    assert "builtin-tiny" in answer.err


def test_dataset_runs_the_data_tool_in_its_own_process(danqing, monkeypatch):
    started = []
    monkeypatch.setattr("danqing.cli.dataset.run_module", lambda command: started.append(command[1:]) or 0)
    assert danqing("dataset", "builtin", "--out", "here").code == 0
    beginning = ["-m", "danqing.training.builtin.shards", "--config", "data-builtin", "--out", "here"]
    assert started == [[*beginning, "--sizes", "128,256", "--workers", "2"]]
    more = ("--packages", "npm", "--sizes", "64", "--workers", "1")
    assert danqing("dataset", "builtin", "--out", "here", *more).code == 0
    assert started[1] == [*beginning, *more]


@pytest.mark.parametrize("sizes", ["128,", "a", "8", "512", "-128", ""])
def test_dataset_refuses_sizes_that_cannot_be_drawn(danqing, monkeypatch, sizes):
    monkeypatch.setattr("danqing.cli.dataset.run_module", lambda command: pytest.fail("started"))
    answer = danqing("dataset", "builtin", "--out", "here", "--sizes", sizes)
    assert answer.code == 2
    assert "from 16 to 256" in answer.err


def test_serve_tells_of_a_taken_port_and_an_open_bind(danqing, tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConflictError) as error:
            serve.listen(Settings(data_dir=tmp_path, port=port))
        assert f"--port {port + 1}" in str(error.value)
        assert danqing("serve", "--port", str(port), "--no-browser").code == 1
    with pytest.raises(InvalidRequestError):
        serve.listen(Settings(data_dir=tmp_path, host="192.0.2.1", port=0))
    answer = danqing("serve", "--host", "192.0.2.1", "--no-browser")
    assert answer.code == 2
    assert "password" in answer.err


def test_half_blocks():
    image = Image.new("RGB", (4, 4), (255, 0, 0))
    image.paste((0, 0, 255), (0, 2, 4, 4))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    text = half_blocks(buffer.getvalue(), columns=2, rows=2)
    assert text.plain == "▀▀\n"
    assert str(text.spans[0].style) == "#ff0000 on #0000ff"


def test_the_live_view_moves_and_leaves_nothing_behind(monkeypatch):
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, color_system="truecolor", width=100)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    terminal = Terminal(error_console=console)
    assert terminal.shows_previews
    with progress.open_view(terminal) as view:
        view.show(StateEvent(job_id="a", state="queued", position=2))
        view.show(ProgressEvent(job_id="a", index=0, step=3, steps=9, fraction=0.33, eta_s=4.2))
        import base64

        small = base64.b64encode(png(size=(16, 16))).decode()
        view.show(PreviewEvent(job_id="a", index=0, step=3, data_base64=small))
        assert view.bar.tasks[0].completed == pytest.approx(0.33)
        assert "step 3/9 · 4 s left" in view.bar.tasks[0].description
    assert "▀" in stream.getvalue()


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(progress.__file__).parents[2]), "TERM": "xterm-256color"}


def test_help_is_quick_and_loads_nothing_heavy():
    code = (
        "import sys, danqing.cli.main as m; m.run(['--help']);"
        "print('LOADED', sorted({name.partition('.')[0] for name in sys.modules}"
        " & {'torch', 'gradio', 'sqlalchemy', 'fastapi', 'numpy', 'PIL', 'diffusers', 'transformers'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=_environment(), check=True)
    assert "LOADED []" in done.stdout
    assert "reproduce" in done.stdout
    assert "\x1b" not in done.stdout


@pytest.mark.parametrize("name", main.COMMANDS)
def test_every_command_has_help(danqing, name):
    answer = danqing(name, "--help")
    assert answer.code == 0
    assert f"danqing {name}" in answer.out
    first, *_ = main.COMMANDS[name][1].split(".")[0].split(",")
    assert first.split()[0].lower() in answer.out.lower()


def test_version_and_unknown_commands(danqing):
    assert danqing("--version").out.startswith("danqing ")
    answer = danqing("pant")
    assert answer.code == 2
    assert "paint" in answer.err


def test_help_in_a_terminal_works():
    ours, other = pty.openpty()
    done = subprocess.run(
        [sys.executable, "-m", "danqing.cli.main", "--help"], stdout=other, env=_environment(), check=False
    )
    os.close(other)
    assert done.returncode == 0
    assert b"paint" in os.read(ours, 65536)
    os.close(ours)
