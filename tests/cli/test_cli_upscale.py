"""`danqing upscale` over the studio in memory."""

from __future__ import annotations

from pathlib import Path

from PIL import Image


def test_a_file_becomes_larger(danqing, picture: Path):
    answer = danqing("upscale", str(picture), "large.webp", "--scale", "2", "--model", "4x-draw", "--json")
    assert answer.code == 0, answer.err
    assert (answer.json["width_px"], answer.json["height_px"], answer.json["upscaler"]) == (64, 64, "4x-draw")
    with Image.open("large.webp") as image:
        assert (image.size, image.format) == ((64, 64), "WEBP")


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
    ):
        answer = danqing("upscale", str(picture), "large.png", *arguments, "--json")
        assert (answer.code, answer.error["field"]) == (2, field)
    assert danqing("upscale", str(picture), "large.tiff", "--json").error["field"] == "OUT"
    assert danqing("upscale", "none.png", "large.png", "--json").error["field"] == "IN"
    assert not Path("large.png").exists()
