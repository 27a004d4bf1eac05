"""`danqing train`, with the studio's small trainer process."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

sys.path.append(str(Path(__file__).parents[1] / "studio"))

from door_studio import png
from training_helpers import make_studio, steps_of, wait_until

from danqing.cli import session
from danqing.spec.registry.style_projects import find_style_project
from danqing.spec.training_run import StepEvent, TrainingRun
from danqing.workers.fake_sight import FakeSight
from danqing.workers.pool import FakePool


@pytest.fixture
def trains(tmp_path, monkeypatch, danqing):
    """Tells the command's studios what their trainer does; gives the data folder."""
    data = tmp_path / "data"

    def tell(**environment) -> Path:
        def make(settings):
            pool = FakePool(sight=FakeSight(data / "blobs").answer)
            return make_studio(data, pool, **environment)

        monkeypatch.setattr(session, "make_studio", make)
        return data

    tell()
    return tell


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "my pictures"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.png").write_bytes(png((number * 60, 80, 40), (64, 64)))
        (folder / f"{number}.txt").write_text(f"drawing {number}")
    return folder


def test_a_folder_of_pictures_becomes_a_lora_in_one_go(danqing, trains, pictures):
    data = trains()
    answer = danqing("train", "lora", "ink", "--pictures", str(pictures), "--trigger", "sks", "--rank", "8", "--json")
    assert answer.code == 0, answer.err
    run = TrainingRun.model_validate(answer.json["run"])
    assert (run.state, run.product, run.request.network.rank) == ("done", "ink", 8)
    made = json.loads((data / "training" / "sets" / "ink" / "set.json").read_text())
    assert (made["trigger"], len(made["pictures"])) == ("sks", 3)
    assert (data / "models" / "Lora" / "ink.safetensors").is_file()


def test_pictures_without_words_get_captions(danqing, trains, pictures):
    data = trains()
    for path in pictures.glob("*.txt"):
        path.unlink()
    answer = danqing("train", "lora", "ink", "--pictures", str(pictures), "--later")
    assert answer.code == 0, answer.err
    assert "3 pictures joined" in answer.err
    captions = [path.read_text() for path in (data / "training" / "sets" / "ink" / "pictures").glob("*.txt")]
    assert len(captions) == 3
    assert all(captions)


def test_a_style_project_brings_its_settings_and_what_is_typed_goes_before(danqing, trains, pictures):
    trains()
    typed = ("--pictures", str(pictures), "--recipe", "van-gogh", "--steps", "7", "--later", "--json")
    answer = danqing("train", "lora", "gogh", *typed)
    assert answer.code == 0, answer.err
    asked = answer.json["run"]["request"]
    said = find_style_project("van-gogh").for_base("builtin")
    assert (asked["steps"], asked["batch"], asked["learning_rate"]) == (7, said.batch, said.learning_rate)
    assert (asked["network"]["rank"], asked["max_timestep"]) == (said.rank, said.max_timestep)
    other = danqing("train", "embedding", "word", "--dataset", "gogh", "--later", "--json").json["run"]["request"]
    assert other["steps"] is None
    told = danqing("train", "lora", "again", "--dataset", "gogh", "--later")
    assert "settings of the project Van Gogh" in told.err


def test_a_run_is_told_line_by_line_into_a_pipe(danqing, trains):
    answer = danqing("train", "lora", "style", "--dataset", "apples")
    assert answer.code == 0, answer.err
    assert "about 12 s, 20 steps" in answer.err
    assert "step 20/20 · loss 0.0500 · 0 s left" in answer.err
    assert "sample: " in answer.err
    assert "style is in the catalogue" in answer.err
    assert answer.out.splitlines()[0].endswith("style.safetensors")


def test_an_estimate_keeps_nothing(danqing, trains):
    answer = danqing("train", "embedding", "word", "--dataset", "apples", "--vectors", "2", "--estimate", "--json")
    assert answer.json["estimate"]["steps"] == 20
    trains(reasons=json.dumps(["it needs 40 GB"]))
    told = danqing("train", "lora", "x", "--dataset", "apples", "--estimate")
    assert "cannot begin: it needs 40 GB" in told.out
    refused = danqing("train", "lora", "x", "--dataset", "apples")
    assert (refused.code, "it needs 40 GB" in refused.err) == (2, True)
    assert danqing("train", "list", "--json").json["runs"] == []


def test_ctrl_c_pauses_and_says_how_to_go_on(danqing, trains, tmp_path, monkeypatch):
    go = tmp_path / "go"
    trains(gate=7, go=go)
    from danqing.studio.service import Studio

    real = Studio.watch_training

    def watch(studio, run_id, **how):
        for told in real(studio, run_id, **how):
            yield told
            if isinstance(told[1], StepEvent) and told[1].step == 7:
                raise KeyboardInterrupt

    monkeypatch.setattr(Studio, "watch_training", watch)
    stopped = danqing("train", "lora", "style", "--dataset", "apples")
    assert stopped.code == 130
    run = danqing("train", "list", "--json").json["runs"][0]
    assert (run["state"], run["step"]) == ("paused", 7)
    assert f"paused at step 7 of 20; go on with: danqing train resume {run['id']}" in stopped.err
    monkeypatch.setattr(Studio, "watch_training", real)
    go.touch()
    resumed = danqing("train", "resume", run["id"][:20], "--json")
    assert resumed.json["run"]["state"] == "done", resumed.err


def test_runs_are_listed_shown_and_looked_after(danqing, trains, tmp_path):
    later = danqing("train", "slider", "size", "--positive", "huge", "--target", "apple", "--later", "--json")
    assert later.json["run"]["state"] == "queued", later.err
    listed = danqing("train", "list")
    assert [line.split("\t")[1:4] for line in listed.out.splitlines()[1:]] == [["slider", "size", "queued"]]
    assert "paused" in danqing("train", "pause", "size").out
    assert danqing("train", "sample", "size").code == 2
    done = danqing("train", "resume", "size", "--json")
    assert done.json["run"]["product"] == "size", done.err
    shown = danqing("train", "show", "size")
    assert "step       20 of 20" in shown.out
    assert "size.safetensors" in shown.out
    copied = danqing("train", "sample", "size", "--what", "compare", "-o", "sheet.png", "--json")
    assert copied.json["what"] == "compare"
    assert Path("sheet.png").read_bytes().startswith(b"\x89PNG")
    assert danqing("train", "sample", "size", "--step", "10").out.strip().endswith("000010.png")
    assert "deleted" in danqing("train", "delete", "size").out
    assert danqing("train", "list", "--json").json["runs"] == []
    assert "done" in danqing("train", "restore", "size").out
    Path(done.json["run"]["published"][0]).unlink()
    assert "done" in danqing("train", "publish", "size").out
    assert Path(done.json["run"]["published"][0]).is_file()


def test_a_run_that_gained_nothing_says_so(danqing, trains):
    data = trains(nothing="no round gained anything")
    done = danqing("train", "slider", "size", "--positive", "huge", "--target", "apple")
    assert done.code == 0, done.err
    assert "nothing was published, because no round gained anything" in done.err
    assert Path(done.out.strip()).is_relative_to(data / "training" / "runs")
    assert "made       nothing, because no round gained anything" in danqing("train", "show", "size").out
    assert danqing("train", "list").out.splitlines()[1].endswith("nothing")
    refused = danqing("train", "publish", "size")
    assert refused.code != 0
    assert "because no round gained anything" in refused.err


def test_a_run_from_nothing_paints_anew(danqing, trains, tmp_path, monkeypatch):
    """The real painter with the weights that a run left; here only in this process, which has loaded torch."""
    from safetensors.torch import save_file

    from danqing.training.own import foundation_sample
    from danqing.training.own.foundation_nets import Generator

    def painted(command, check):
        assert command[:3] == [sys.executable, "-m", foundation_sample.__name__]
        return subprocess.CompletedProcess(command, foundation_sample.main([*command[3:], "--device", "cpu"]))

    monkeypatch.setattr("danqing.cli.train_runs.subprocess", SimpleNamespace(run=painted))
    data = trains()
    run = danqing("train", "dcgan", "faces", "--later", "--json").json["run"]
    assert (run["request"]["schedule"], run["request"]["shift"], run["request"]["width"]) == ("constant", 0.125, 32)
    made = data / run["folder"] / "model"
    made.mkdir(parents=True, exist_ok=True)
    about = {"kind": "danqing-generator", "method": "dcgan", "latent_dim": 5, "width": 8, "size_px": 64}
    (made / "faces.json").write_text(json.dumps(about))
    save_file(Generator(5, 8, 64).state_dict(), made / "faces.safetensors")
    answer = danqing("train", "sample", "faces", "-n", "16", "-o", str(tmp_path / "grid.png"))
    assert answer.code == 0, answer.err
    with Image.open(tmp_path / "grid.png") as grid:
        assert grid.size == (4 * 68 + 4, 4 * 68 + 4)
    again = danqing("train", "sample", "faces", "-n", "16", "-o", str(tmp_path / "grid.png"), "--json")
    assert (again.code, again.error["field"]) == (2, "--out")


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        (("lora", "x", "--dataset", "pears"), "--dataset"),
        (("lora", "x", "--dataset", "apples", "--model", "nothing"), "--model"),
        (("lora", "x", "--dataset", "apples", "--rank", "0"), "--rank"),
        (("lora", "x", "--dataset", "apples", "--kind", "lara"), "--kind"),
        (("lora", "x", "--dataset", "apples", "--set", "emma=0.9"), "--set emma=…"),
        (("lora", "x", "--dataset", "apples", "--set", "ema"), "--set"),
        (("lora", "a/b", "--dataset", "apples"), "NAME"),
        (("lora", "x", "--dataset", "apples", "--recipe", "monet"), "--recipe"),
        (("hypernetwork", "x", "--dataset", "apples", "--layers", "1,two,1"), "--layers"),
        (("slider", "x"), "--positive"),
        (("artaug", "x", "--pairs", "nowhere"), "--pairs"),
        (("show", "nobody"), "RUN"),
    ],
)
def test_mistakes_name_their_option(danqing, trains, arguments, field):
    answer = danqing("train", *arguments, "--json")
    assert answer.code == 2, answer
    assert answer.error["field"] == field
    assert "Traceback" not in answer.err


def test_options_reach_the_request(danqing, trains, tmp_path):
    data = trains()
    said = ("--full", "--prior-pictures", "5", "--set", "ema=0.99", "--foreground", "--prompt", "a", "--prompt", "b")
    answer = danqing("train", "dreambooth", "cat", "--dataset", "apples", "--text-encoder", *said, "--later", "--json")
    assert answer.code == 0, answer.err
    request = answer.json["run"]["request"]
    assert (request["network"], request["prior_pictures"], request["ema"]) == (None, 5, 0.99)
    assert request["train_text_encoder"] is True
    assert (request["background"], request["sample_prompts"]) == (False, ["a", "b"])
    folder = data / answer.json["run"]["folder"]
    assert json.loads((folder / "request.json").read_text()) == request
    answer = danqing("train", "ddpm", "watch", "--subject", "fruit", "--size", "32", "--later", "--json")
    assert answer.json["run"]["request"]["size_px"] == 32


def test_a_server_beside_it_may_take_the_run(danqing, trains, tmp_path):
    """Whoever takes it, the command stays with it."""
    data = trains()
    with make_studio(data) as server:
        server._training_queue.work()
        answer = danqing("train", "lora", "style", "--dataset", "apples", "--json")
        assert answer.json["run"]["state"] == "done", answer.err
        wait_until(lambda: len(steps_of(server, answer.json["run"]["id"])) == 20)
