"""`danqing annotate`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from annotator_pictures import ball_depth, disc, still_life
from PIL import Image

from danqing.annotators import annotate
from danqing.cli import main
from danqing.spec.registry.annotators import ANNOTATORS


@pytest.fixture
def danqing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DANQING_DATA_DIR", str(tmp_path / "data"))
    Image.fromarray(still_life()).save("in.png")

    def run(*arguments: str) -> tuple[int, str, str]:
        code = main.run(["annotate", *arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def test_a_map_is_written(danqing):
    code, out, _ = danqing(
        "canny", "in.png", "sub/out.png", "--param", "low_threshold=50", "-p", "threshold_b=90", "--json"
    )
    assert code == 0
    data = json.loads(out)
    assert data["params"] == {"low_threshold": 50, "high_threshold": 90}
    expected = annotate("canny", still_life(), {"low_threshold": 50, "high_threshold": 90})
    assert np.array_equal(np.asarray(Image.open("sub/out.png")), expected)


def test_transparency_and_sixteen_bits_come_in(danqing):
    Image.fromarray(disc()).save("disc.png")
    assert danqing("depth_relief", "disc.png", "relief.png")[0] == 0
    assert np.array_equal(np.asarray(Image.open("relief.png")), annotate("depth_relief", disc()))
    Image.fromarray(ball_depth().astype(np.uint16) * 257).save("depth.png")
    assert danqing("normal_from_depth", "depth.png", "normal.webp")[0] == 0
    found = np.asarray(Image.open("normal.webp").convert("RGB"))
    assert np.array_equal(found, annotate("normal_from_depth", ball_depth()))


def test_the_list(danqing):
    code, out, _ = danqing("--list", "--json")
    assert code == 0
    assert [row["key"] for row in json.loads(out)["annotators"]] == [info.key for info in ANNOTATORS]
    code, out, _ = danqing("canny", "--list")
    assert "low_threshold\t100" in out


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["canny"], 2, "something is missing"),
        (["cany", "in.png", "out.png"], 2, "did you mean"),
        (["canny", "nowhere.png", "out.png"], 2, "no such file"),
        (["canny", "in.png", "out.txt"], 2, "must be a picture"),
        (["canny", "in.png", "out.png", "-p", "low"], 2, "cannot be read"),
        (["canny", "in.png", "out.png", "-p", "low_threshold=1", "-p", "low_threshold=2"], 2, "twice"),
        (["canny", "in.png", "out.png", "-p", "low_threshold=999"], 2, "cannot have this value"),
        (["canny", "in.png", "out.png", "--resolution", "5"], 2, "resolution"),
        (["openpose", "in.png", "out.png"], 1, "body_pose_model.pth"),
    ],
)
def test_what_is_refused(danqing, arguments: list[str], code: int, words: str):
    found, _, err = danqing(*arguments)
    assert found == code
    assert words in err
    assert not Path("out.png").exists()
