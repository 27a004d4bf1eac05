"""`danqing paint`: what it writes, how it says it, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from door_studio import png
from PIL import Image

from danqing.cli import session
from danqing.spec.errors import WorkerError


def test_a_brief_becomes_a_file_here(danqing):
    answer = danqing("paint", "A red apple, 3D", "--seed", "7")
    assert answer.code == 0
    assert answer.out == f"{Path.cwd() / 'a-red-apple-3d-7.png'}\n"
    with Image.open("a-red-apple-3d-7.png") as image:
        assert image.size == (128, 128)
    assert "seed 7" in answer.err
    assert "\x1b" not in answer.out + answer.err
    again = danqing("paint", "A red apple, 3D", "--seed", "7", "--quiet")
    assert again.out.endswith("a-red-apple-3d-7-2.png\n")
    assert again.err == ""


def test_json_has_stable_keys(danqing):
    answer = danqing("paint", "apple", "--seed", "7", "--count", "2", "-o", "out/a.png", "--json")
    assert set(answer.json) == {"job", "state", "pictures", "notes", "seconds"}
    assert set(answer.json["pictures"][0]) == {
        "index", "record", "path", "seed", "width_px", "height_px", "media_type", "sha256",
    }  # fmt: skip
    assert [Path(picture["path"]).name for picture in answer.json["pictures"]] == ["a-1.png", "a-2.png"]
    assert [picture["seed"] for picture in answer.json["pictures"]] == [7, 8]
    assert answer.err == ""


def test_a_file_is_written_over_a_folder_is_not(danqing):
    for _try in range(2):
        assert danqing("paint", "apple", "-s", "1", "-o", "apple.png").code == 0
        assert danqing("paint", "apple", "-s", "1", "-o", "folder").code == 0
    assert [path.name for path in sorted(Path().glob("*.png"))] == ["apple.png"]
    assert [path.name for path in sorted(Path("folder").iterdir())] == ["apple-1-2.png", "apple-1.png"]


def test_every_option_reaches_the_request(danqing, studio, picture):
    answer = danqing(
        "paint", "a hat", "-n", "text", "--style", "flat", "--style", "3d", "--model", "danqing-mini",
        "--size", "64x96", "--count", "2", "--format", "webp", "--seed", "3", "--steps", "9", "--sampler", "DPM++ 2M",
        "--scheduler", "karras", "--cfg", "5.5", "--eta", "0.5", "--noise", "nv", "--clip-skip", "2",
        "--hires", "2", "--hires-upscaler", "lanczos", "--hires-steps", "5", "--hires-strength", "0.4",
        "--variation-seed", "8", "--variation-strength", "0.2", "--syntax", "midjourney",
        "--init", str(picture), "--strength", "0.6", "--resize", "crop",
        "--mask", str(picture), "--mask-blur", "2", "--only-masked", "--padding", "8", "--fill", "latent_noise",
    )  # fmt: skip
    assert answer.code == 0, answer.err
    request = studio.jobs()[0].request
    assert request.kind == "inpaint"
    assert request.image == request.mask
    assert (request.width_px, request.height_px, request.count) == (64, 96, 2)
    assert (request.sampling.sampler, request.sampling.steps, request.guidance.scale) == ("DPM++ 2M", 9, 5.5)
    assert (request.hires.scale, request.hires.upscaler, request.hires.strength) == (2.0, "lanczos", 0.4)
    assert (request.variation.seed, request.variation.strength) == (8, 0.2)
    assert (request.strength, request.mask_blur_px, request.only_masked) == (0.6, 2, True)
    assert request.styles == ("flat", "3d")
    assert (request.syntax, request.noise, request.output.format) == ("midjourney", "nv", "webp")


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ([], "txt2img"),
        (["--init", "cat.png"], "img2img"),
        (["--init", "cat.png", "--mask", "cat.png"], "inpaint"),
        (["--init", "cat.png", "--expand", "left=64,right=64"], "outpaint"),
        (["--init", "record:R00000"], "img2img"),
    ],
)
def test_the_kind_follows_from_the_options(danqing, studio, options, kind):
    Path("cat.png").write_bytes(png())
    assert danqing("paint", "cat").code == 0
    answer = danqing("paint", "cat", *options)
    assert answer.code == 0, answer.err
    request = studio.jobs()[0].request
    assert request.kind == kind
    if kind == "outpaint":
        assert (request.margins.left_px, request.margins.right_px, request.margins.top_px) == (64, 64, 0)


BAD = {
    "sampler": (["--sampler", "Eulr"], "--sampler", "Euler"),
    "zero size": (["--size", "0x0"], "--width or --size", "≥ 16"),
    "huge size": (["--width", "100000"], "--width or --size", "≤ 4096"),
    "size words": (["--size", "big"], "--size", "128x128"),
    "size twice": (["--size", "64x64", "--width", "64"], "--size", None),
    "nan strength": (["--init", "cat.png", "--strength", "nan"], "--strength", None),
    "nan cfg": (["--cfg", "nan"], "--cfg", None),
    "inf hires": (["--hires", "inf"], "--hires", None),
    "strength alone": (["--strength", "0.5"], "--strength", None),
    "mask alone": (["--mask", "cat.png"], "--mask", None),
    "mask size": (["--init", "cat.png", "--mask", "small.png"], "--mask", None),
    "mask and expand": (["--init", "cat.png", "--mask", "cat.png", "--expand", "left=8"], "--expand", None),
    "margins": (["--init", "cat.png", "--expand", "lft=8"], "--expand", "left=64"),
    "margins twice": (["--init", "cat.png", "--expand", "left=8,left=9"], "--expand", None),
    "margins number": (["--init", "cat.png", "--expand", "left=8.5"], "--expand", None),
    "missing file": (["--init", "nobody.png"], "--init", None),
    "a folder": (["--init", "."], "--init", "PNG"),
    "not a picture": (["--init", "words.txt"], "--init", "PNG"),
    "unknown record": (["--init", "record:nobody"], None, None),
    "count": (["--count", "0"], "--count", "≥ 1"),
    "steps": (["--steps", "501"], "--steps", "≤ 500"),
    "seed": (["--seed", "-1"], "--seed", "≥ 0"),
    "variation": (["--variation-seed", "1"], "--variation-strength", None),
    "format": (["--format", "gif"], "--format", "png"),
    "suffix": (["-o", "a.jpg", "--format", "png"], "--format", "jpeg"),
    "syntax": (["--syntax", "dalle"], "--syntax", "midjourney"),
    "under a file": (["-o", "words.txt/a.png"], "--out", None),
    "device": (["--device", "gpu9"], "device", "cpu"),
    "precision": (["--precision", "int4"], "precision", "float32"),
}


@pytest.mark.parametrize(("options", "where", "allowed"), BAD.values(), ids=BAD)
def test_bad_input_is_told_and_nothing_is_lost(danqing, studio, options, where, allowed):
    Path("cat.png").write_bytes(png())
    Path("small.png").write_bytes(png(size=(16, 16)))
    Path("words.txt").write_text("words")
    answer = danqing("paint", "cat", *options)
    assert answer.code == 2
    assert answer.out == ""
    assert answer.err.startswith("error: ")
    assert "Traceback" not in answer.err
    told = danqing("paint", "cat", *options, "--json").error
    assert where is None or told["field"] == where
    assert allowed is None or allowed in told["allowed"]
    assert studio.jobs() == []
    assert Path("cat.png").read_bytes() == png()


@pytest.mark.parametrize("options", [["--steps", "many"], ["--nonsense"], []])
def test_usage_errors(danqing, options):
    answer = danqing("paint", *options)
    assert answer.code == 2
    assert "Traceback" not in answer.err


def test_failures_end_with_one(danqing, studio, monkeypatch):
    studio.fail_with = WorkerError("the worker died")
    assert danqing("paint", "cat").code == 1
    studio.fail_with = OSError(28, "No space left on device")
    assert "No space left" in danqing("paint", "cat").err
    studio.fail_with = RuntimeError("odd")
    answer = danqing("paint", "cat")
    assert answer.code == 1
    assert "DANQING_DEBUG=1" in answer.err
    monkeypatch.setenv("DANQING_DEBUG", "1")
    with pytest.raises(RuntimeError):
        danqing("paint", "cat")


def test_a_failed_job_tells_why(danqing, studio, monkeypatch):
    studio.hold = True
    error = WorkerError("the worker died", next_step="try again").as_dict()
    real = studio.submit

    def failing(request, **_more):
        job = real(request)
        studio._change(job.id, state="failed", error=error)
        return job

    monkeypatch.setattr(studio, "submit", failing)
    answer = danqing("paint", "cat")
    assert answer.code == 1
    assert "the worker died" in answer.err


def test_ctrl_c_cancels_the_job(danqing, studio, monkeypatch):
    studio.hold = True

    def interrupted(job_id, **_more):
        yield 1, studio._events[job_id][0]
        raise KeyboardInterrupt

    monkeypatch.setattr(studio, "watch", interrupted)
    monkeypatch.setattr(studio, "wait", lambda job_id, timeout_s=None: studio.job(job_id))
    answer = danqing("paint", "cat")
    assert answer.code == 130
    assert len(studio.cancelled) == 1
    assert "Traceback" not in answer.err


def test_a_studio_that_cannot_open(danqing, monkeypatch):
    def broken(settings):
        raise PermissionError(13, "Permission denied", "/nowhere")

    monkeypatch.setattr(session, "make_studio", broken)
    answer = danqing("paint", "cat", "--json")
    assert answer.code == 1
    assert json.loads(answer.err)["error"]["message"] == "Permission denied: /nowhere"


def test_the_picture_written_is_the_picture_painted(danqing, studio):
    answer = danqing("paint", "cat", "--json")
    path, digest = answer.json["pictures"][0]["path"], answer.json["pictures"][0]["sha256"]
    assert Path(path).read_bytes() == studio.picture_bytes(digest)
