"""`--quality` and `--shortcuts` of `danqing paint`."""

from __future__ import annotations

import pytest


def test_both_reach_the_request(danqing, studio):
    answer = danqing(
        "paint", "a hat", "--quality", "draft", "--shortcuts", "interval=4,branch=1,window=0.1:.9,merge=0.5"
    )
    assert answer.code == 0, answer.err
    request = studio.jobs()[0].request
    assert request.quality == "draft"
    assert request.shortcuts.model_dump() == {
        "cache_interval": 4,
        "cache_branch": 1,
        "guidance_window": (0.1, 0.9),
        "token_merging": 0.5,
    }


BAD = {
    "quality": (["--quality", "best"], "--quality", "draft"),
    "word": (["--shortcuts", "speed=3"], "--shortcuts", "interval"),
    "twice": (["--shortcuts", "interval=3,interval=2"], "--shortcuts", "once"),
    "no number": (["--shortcuts", "interval"], "--shortcuts", "window"),
    "one end": (["--shortcuts", "window=0.5"], "--shortcuts", "window"),
    "out of range": (["--shortcuts", "interval=40"], "--shortcuts", "10"),
    "backwards": (["--shortcuts", "window=0.9:0.1"], "--shortcuts", "begin < end"),
}


@pytest.mark.parametrize(("options", "where", "allowed"), BAD.values(), ids=BAD)
def test_what_cannot_be_read_is_told(danqing, studio, options: list[str], where: str, allowed: str):
    told = danqing("paint", "cat", *options, "--json")
    assert told.code == 2
    assert told.error["field"] == where
    assert allowed in told.error["allowed"]
    assert studio.jobs() == []
