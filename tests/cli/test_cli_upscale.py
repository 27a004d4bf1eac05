"""`danqing upscale` over the studio in memory."""

from __future__ import annotations

from pathlib import Path

from PIL import Image


def test_a_file_becomes_larger_by_a_job(danqing, studio, picture: Path):
    answer = danqing("upscale", str(picture), "large.webp", "--scale", "2", "--model", "4x-draw", "--json")
    assert answer.code == 0, answer.err
    assert (answer.json["width_px"], answer.json["height_px"], answer.json["upscaler"]) == (64, 64, "4x-draw")
    with Image.open("large.webp") as image:
        assert (image.size, image.format) == ((64, 64), "WEBP")
    job = studio.jobs()[0]
    assert (job.state, job.id, job.records) == ("done", answer.json["job"], (answer.json["record"],))
    assert [step.kind for step in job.request.steps] == ["upscale"]
    assert job.request.prompt == "a red apple"  # what the file says of itself


def test_a_record_is_the_parent_of_its_larger_form_and_lends_its_words(danqing, studio):
    assert danqing("paint", "a fox", "-n", "text", "-s", "1", "-o", "fox.png").code == 0
    record = studio.jobs()[0].records[0]
    answer = danqing("upscale", f"record:{record}", "large.png", "--scale", "2", "--json")
    assert answer.code == 0, answer.err
    request = studio.jobs()[0].request
    assert (request.image, request.prompt, request.negative_prompt) == (f"record:{record}", "a fox", "text")
    assert (answer.json["width_px"], answer.json["height_px"]) == (256, 256)


def test_ctrl_c_stops_the_job(danqing, studio, picture: Path, monkeypatch):
    studio.hold = True
    real = studio.watch

    def interrupted(job_id, **options):
        yield next(iter(real(job_id, **options)))
        raise KeyboardInterrupt

    monkeypatch.setattr(studio, "watch", interrupted)
    assert danqing("upscale", str(picture), "large.png").code == 130
    assert studio.jobs()[0].state == "cancelled"
    assert not Path("large.png").exists()


def test_without_the_built_in_network_lanczos_is_used_and_told(danqing, picture: Path):
    answer = danqing("upscale", str(picture), "out/large.png", "--width", "50")
    assert answer.code == 0, answer.err
    assert "Lanczos is used" in answer.err
    with Image.open("out/large.png") as image:
        assert image.size == (50, 50)


def test_mistakes_name_the_option(danqing, picture: Path):
    for arguments, field in (
        (("--model", "4x-no"), "--model"),
        (("--scale", "9"), "--scale"),
        (("--width", "0"), "--width"),
        (("--width", "20000"), "--width"),
    ):
        answer = danqing("upscale", str(picture), "large.png", *arguments, "--json")
        assert (answer.code, answer.error["field"]) == (2, field)
    assert danqing("upscale", str(picture), "large.tiff", "--json").error["field"] == "OUT"
    assert danqing("upscale", "none.png", "large.png", "--json").error["field"] == "IN"
    assert not Path("large.png").exists()
