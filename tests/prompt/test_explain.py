"""What `danqing prompt` prints."""

import json
import subprocess
import sys

import pytest

from danqing.prompt.explain import explain
from danqing.spec.errors import InvalidRequestError, PromptSyntaxError


class Letters:
    """One token a letter."""

    bos_id, eos_id, pad_id, comma_id = 1, 2, 2, ord(",")

    def encode(self, text):
        return [ord(char) for char in text if not char.isspace()]

    def token(self, token_id):
        return chr(token_id)


def test_everything_of_a_prompt():
    told = explain("a (b:1.2) [c:d:.5] <lora:ink:0.8>", steps=20, tokenizer=Letters())
    assert list(told) == ["schedules", "parts", "weights", "chunks", "networks"]
    assert told["schedules"] == [[10, "a (b:1.2) c "], [20, "a (b:1.2) d "]]
    assert told["parts"] == [{"text": "a (b:1.2) [c:d:.5]", "weight": 1.0}]
    assert told["weights"] == [["a ", 1.0], ["b", 1.2], [" c ", 1.0]]
    (chunk,) = told["chunks"]
    assert chunk["count"] == 3
    assert chunk["tokens"] == [
        {"id": 97, "text": "a", "multiplier": 1.0},
        {"id": 98, "text": "b", "multiplier": 1.2},
        {"id": 99, "text": "c", "multiplier": 1.0},
    ]
    assert (len(chunk["ids"]), len(chunk["multipliers"])) == (77, 77)
    assert told["networks"] == [
        {"kind": "lora", "name": "ink", "positional": ["ink", "0.8"], "named": {}, "te": 0.8, "unet": 0.8, "dyn": None}
    ]
    json.dumps(told)


def test_parts_and_hires():
    told = explain("a :1.2 AND [b:c:1.5]", steps=10, hires_steps=4, tokenizer=Letters())
    assert told["parts"] == [{"text": "a", "weight": 1.2}, {"text": " [b:c:1.5]", "weight": 1.0}]
    assert told["part_schedules"] == [[[4, "a"]], [[2, " b"], [4, " c"]]]


def test_emphasis_modes():
    assert explain("(a)", steps=1, tokenizer=Letters(), emphasis="None")["weights"] == [["(a)", 1.0]]
    assert explain("(a)", steps=1, tokenizer=Letters(), emphasis="Ignore")["weights"] == [["a", 1.0]]


def test_midjourney():
    told = explain("a::2 (b) {x, y} --ar 3:2 --v 6", steps=20, tokenizer=Letters(), syntax="midjourney")
    assert told["schedules"] == [[20, "a, (b) x"]]
    assert told["parts"] == [{"text": "a", "weight": 2.0}, {"text": "(b) x", "weight": 1.0}]
    assert told["midjourney"]["refused"][0][0] == "--v 6"
    assert len(told["midjourney"]["permutations"]) == 2
    json.dumps(told)


@pytest.mark.parametrize("options", [{"syntax": "dalle"}, {"emphasis": "loud"}, {"steps": 0}])
def test_bad_options(options):
    with pytest.raises(InvalidRequestError):
        explain("a", **{"steps": 20, "tokenizer": Letters(), **options})


def test_a_bad_weight():
    with pytest.raises(PromptSyntaxError):
        explain("(a:1.2.3)", steps=20, tokenizer=Letters())


def test_the_prompt_package_loads_no_torch():
    code = (
        "import sys, danqing.prompt.explain, danqing.prompt.infotext, danqing.prompt.dynamic, danqing.prompt.styles, "
        "danqing.store.metadata; bad = {'torch', 'diffusers', 'transformers', 'ray'} & set(sys.modules); "
        "sys.exit(str(bad) if bad else 0)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
