"""The judge, every section over a tiny family, the page and the commands."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from danqing.cli import evaluate as cli
from danqing.cli.main import run
from danqing.spec.errors import BadFileError, InvalidRequestError, NotFoundError
from danqing.training.builtin.config import CONFIG_DIR, TrainConfig
from danqing.training.builtin.dataset import Dataset
from danqing.training.evaluation import report, results, sheets, words
from danqing.training.evaluation.__main__ import chosen_sections, evaluate, main
from danqing.training.evaluation.bench import Bench
from danqing.training.evaluation.config import Sizes
from danqing.training.evaluation.evaluator import (
    held_back_scenes,
    is_held_back,
    make_lessons,
    open_evaluator,
    settings_of,
    train_evaluator,
)
from danqing.training.evaluation.family import open_family
from danqing.training.evaluation.painting import Order
from danqing.training.evaluation.prompts import combination
from danqing.training.evaluation.sheets import MAX_BYTES, Tile, save_sheet

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:torch.*", "ignore::DeprecationWarning")
CPU = torch.device("cpu")


def test_words_are_whole_in_latin_and_single_signs_else(tmp_path: Path):
    learnt = words.learn(["a red apple, 3D", "red apple", "紅蘋果，3d"])
    assert learnt.known == ("3d", "apple", "red")
    ids = learnt.encode(["red apple", "apple 果", ""])
    assert ids.tolist() == [[4, 3], [3, 1], [1, 0]]
    learnt.save(tmp_path / "w.json")
    assert words.read(tmp_path / "w.json") == learnt


def test_the_judge_learns_resumes_and_is_kept(learnt: Dataset, config: TrainConfig, tmp_path: Path):
    lessons = make_lessons(learnt, config)
    first = train_evaluator(lessons, tmp_path / "a", CPU)
    again = open_evaluator(lessons, tmp_path / "a", CPU)
    pictures = np.stack([np.full((40, 40, 3), value, np.uint8) for value in (0, 120, 250)])
    assert np.array_equal(first.embed_images(pictures), again.embed_images(pictures))
    assert np.array_equal(first.embed_texts(["disc, flat", "圆盘"]), again.embed_texts(["disc, flat", "圆盘"]))
    assert np.linalg.norm(again.embed_images(pictures), axis=1) == pytest.approx(1, abs=1e-5)
    lines = (tmp_path / "a" / "evaluator.jsonl").read_text(encoding="utf-8").splitlines()
    assert set(json.loads(lines[-1])) >= {"match_of_50_en", "match_of_50_zh", "done"}
    other = dataclasses.replace(config, evaluator=dataclasses.replace(lessons.settings, seed=5))
    with pytest.raises(BadFileError, match="another configuration"):
        open_evaluator(make_lessons(learnt, other), tmp_path / "a", CPU)


def test_lessons_hold_combinations_back(learnt: Dataset, config: TrainConfig):
    half = dataclasses.replace(config, evaluator=dataclasses.replace(settings_of(config), held_back=0.5))
    lessons = make_lessons(learnt, half)
    rng = np.random.default_rng(0)
    for held in (True, False):
        for row in range(6):
            scene = lessons.scene(row, rng, held_back=held)
            assert is_held_back(combination(learnt.pictures[row], scene), 0.5) is held
    pixels, shown = held_back_scenes(lessons, 5, 3)
    assert pixels.shape == (5, 16, 16, 3)
    assert len({picture.concept.hexcode for picture, _ in shown}) == 5
    pixels, captions = lessons.batch(0, 8)
    assert (pixels.shape, len(captions)) == ((8, 16, 16, 3), 8)
    assert all(captions)
    with pytest.raises(InvalidRequestError, match="no evaluator"):
        settings_of(dataclasses.replace(config, evaluator=None))


def test_the_evaluator_changes_no_model_digest(config: TrainConfig):
    assert dataclasses.replace(config, evaluator=None).digest() == config.digest()


def test_every_section_over_a_tiny_family(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sheets, "SUBJECTS", ("disc", "no such thing", "wheel", "moon"))
    found: Any = evaluate(bench, list(results.SECTIONS), quick=False)
    sections = found["sections"]
    assert list(sections) == list(results.SECTIONS)
    assert {name for name, figures in sections.items() if "missing" in figures} == {"four_step"}
    assert "4-step" in sections["four_step"]["missing"]
    assert all("--only " + name in figures["command"] for name, figures in sections.items())
    assert sections["parts"]["megabytes"]["upscaler"] is None
    assert sections["parts"]["total"] > 0
    assert sections["obedience"]["background"]["real"]["share"] == 1.0
    assert sections["obedience"]["style_held_out"]["share"] == 1.0
    assert sections["control"]["block"] == {"missing": "evaluated-block is not there"}
    assert 0 <= sections["control"]["line"]["canny"]["with"] <= 1
    assert "four" not in sections["speed"]
    assert sections["neighbours"]["real"]["histogram"]
    assert set(sections["vae"]["white"]) == {"all", "flat", "line"}
    docs = bench.places.docs
    page = (docs / results.PAGE).read_text(encoding="utf-8")
    for title, _ in report.RENDERERS.values():
        assert f"## {title}" in page
    for line in page.splitlines():
        if line.startswith("!["):
            with Image.open(docs / line.split("](")[1].removesuffix(")")) as image:
                assert image.format == "WEBP"
    before = (bench.places.run / "painted-en.npy").stat().st_mtime_ns
    bench.painted("en")
    assert (bench.places.run / "painted-en.npy").stat().st_mtime_ns == before
    again = results.read(docs / results.FILE)
    assert report.render(again) == page


def test_painting_goes_the_ordinary_way(bench: Bench):
    one, other = Order("disc, flat", 1), Order("disc, flat", 2)
    together = bench.painter.paint([one, other, one, one, other])
    assert together.shape == (5, 32, 32, 3)
    assert np.array_equal(together[0], together[2])
    assert np.array_equal(together[0], bench.painter.paint([one])[0])
    assert not np.array_equal(together[0], together[1])
    assert bench.painter.describe(one)["steps"] == 2
    with pytest.raises(NotFoundError, match="no such model"):
        bench.painter.plan(Order("disc", 1, few_steps=True))


def test_a_family_without_a_model_is_refused(tmp_path: Path):
    with pytest.raises(NotFoundError, match="no model in this folder"):
        open_family(tmp_path, tmp_path / "scratch")


def test_the_four_step_variant_is_found_beside_the_model(model_dir: Path, tmp_path: Path):
    home = tmp_path / "family"
    shutil.copytree(model_dir.parent, home)
    four = home / "danqing-mini-4step"
    four.mkdir()
    (four / "danqing.json").write_text(json.dumps({"base": "danqing-mini", "lora": "x.safetensors", "steps": 4}))
    family = open_family(home / "danqing-mini", tmp_path / "scratch")
    assert family.part("4-step") == four
    said = tmp_path / "scratch" / "models" / "Stable-diffusion" / "evaluated-4step" / "danqing.json"
    assert json.loads(said.read_text())["base"] == "evaluated"
    assert json.loads((four / "danqing.json").read_text())["base"] == "danqing-mini"


def share(value: float) -> dict[str, float]:
    return {"share": value, "low": value, "high": value, "count": 200}


def test_bars_are_met_missed_or_not_measured():
    sections = {
        "faithfulness": {"en": {"faithful": share(0.7)}, "zh": {"faithful": share(0.5)}},
        "control": {"line": {"mean": {"with": 0.6, "without": 0.2, "ratio": 3.0}}},
        "four_step": {"missing": "not there: 4-step"},
        "vae": {"white": {"all": {"psnr_db": 28.0}}},
    }
    found = {bar.name: bar for bar in report.bars(sections)}
    assert found["faithfulness, English, CPU-trained"].met is True
    large = {bar.name: bar for bar in report.bars(sections, gpu=True)}
    assert large["faithfulness, English, GPU-trained"].met is False
    assert found["faithfulness, Simplified Chinese, CPU-trained"].row()[2:] == ["50.0 %", "**missed**"]
    assert found["edge-F1 with line control over without"].row()[2:] == ["3.0×", "met"]
    assert found["points lost by the 4-step variant"].row()[2:] == ["", "not measured"]
    assert found["autoencoder, held-out, on white"].met is True
    assert found["style obedience"].met is None


def test_the_page_of_nothing_and_of_missing_parts():
    page = report.render({"about": {}, "sections": {}})
    assert "## Bars" in page
    assert "## Speed" not in page
    missing = {"missing": "not there: 4-step", "command": "danqing eval builtin --quick", "seconds": 0.1, "date": "x"}
    page = report.render({"about": {}, "sections": {"four_step": missing}})
    assert "Not measured: not there: 4-step." in page
    assert "--quick" in page


def test_figures_of_another_program_are_refused(tmp_path: Path):
    (tmp_path / "f.json").write_text("[]", encoding="utf-8")
    with pytest.raises(BadFileError, match="cannot be read"):
        results.read(tmp_path / "f.json")


def test_quick_is_a_tenth():
    whole, quick = Sizes(), Sizes().quick()
    assert quick.prompts * 10 == whole.prompts
    assert quick.references * 10 == whole.references


def test_sheets_stay_small(tmp_path: Path):
    rng = np.random.default_rng(0)
    noise = [
        Tile(rng.integers(0, 256, (128, 128, 3), np.uint8), "一只很长的说明文字，深蓝色背景，立体风格")
        for _ in range(32)
    ]
    name = save_sheet(noise, tmp_path / "images" / "builtin-noise.webp")
    assert (tmp_path / "images" / name).stat().st_size <= MAX_BYTES


def test_sections_are_chosen_in_the_pages_order():
    assert chosen_sections("vae, parts") == ["parts", "vae"]
    assert chosen_sections(None) == list(results.SECTIONS)
    with pytest.raises(InvalidRequestError, match="no such section"):
        chosen_sections("vae,beauty")


def test_the_module_says_what_is_wrong(tmp_path: Path, data_dir: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["--data", str(data_dir), "--only", "beauty"]) == 2
    assert "faithfulness" in capsys.readouterr().err
    assert main(["--data", str(data_dir), "--model-dir", str(tmp_path)]) == 2
    assert "no model" in capsys.readouterr().err


def test_the_page_is_written_again_from_its_figures(tmp_path: Path, data_dir: Path):
    results.write(tmp_path / results.FILE, json.dumps({"about": {}, "sections": {}}))
    (tmp_path / results.NOTES).write_text("Longer training would close it.\n", encoding="utf-8")
    assert main(["--data", str(data_dir), "--docs", str(tmp_path), "--render"]) == 0
    page = (tmp_path / results.PAGE).read_text(encoding="utf-8")
    assert "## Bars" in page
    assert "Longer training would close it." in page


def test_the_judge_alone_is_trained(data_dir: Path, tmp_path: Path, model_dir: Path):
    folder = tmp_path / "run"
    raw = (CONFIG_DIR / "builtin-tiny.toml").read_text(encoding="utf-8")
    file = tmp_path / "tiny.toml"
    file.write_text(raw.replace("[unet]\n", '[unet]\nstyles = ["flat", "line"]\n'), encoding="utf-8")
    options = ["--config", str(file), "--data", str(data_dir), "--run", str(folder), "--model-dir", str(model_dir)]
    assert main([*options, "--train-only", "--quick", "--minutes", "5"]) == 0
    assert (folder / "evaluator.pt").is_file()
    assert (folder / "evaluator-words.json").is_file()
    assert not (tmp_path / "docs").exists()


def test_the_command_starts_the_module(data_dir: Path, monkeypatch: pytest.MonkeyPatch):
    called: list[list[str]] = []

    def fake(command: list[str], *, check: bool) -> subprocess.CompletedProcess[str]:
        called.append(command)
        return subprocess.CompletedProcess(command, 3)

    monkeypatch.setattr(cli.subprocess, "run", fake)
    done = CliRunner().invoke(
        cli.app, ["builtin", "--data", str(data_dir), "--quick", "--only", "vae", "--run", "here"]
    )
    assert done.exit_code == 3
    tail = ["--config", "builtin-cpu", "--data", str(data_dir), "--only", "vae", "--quick", "--run", "here"]
    assert called[0][1:] == ["-m", "danqing.training.evaluation", *tail]


def test_the_command_wants_drawings(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert run(["eval", "builtin", "--data", str(tmp_path)]) != 0
    assert "danqing dataset builtin" in capsys.readouterr().err
