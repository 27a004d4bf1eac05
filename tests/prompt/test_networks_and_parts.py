"""Network tags and AND parts."""

import pytest

from danqing.prompt.composable import composable_parts
from danqing.prompt.networks import parse_networks
from danqing.spec.errors import PromptSyntaxError


def one(prompt):
    text, tags = parse_networks(prompt)
    return text, *tags


@pytest.mark.parametrize(
    ("tag", "te", "unet", "dyn"),
    [
        ("<lora:a>", 1.0, 1.0, None),
        ("<lora:a:0.8>", 0.8, 0.8, None),
        ("<lora:a:0.8:0.5>", 0.8, 0.5, None),
        ("<lora:a:0.8:0.5:4>", 0.8, 0.5, 4),
        ("<lora:a:te=0.5:unet=0.7:dyn=4>", 0.5, 0.7, 4),
        ("<lora:a:unet=0.7>", 1.0, 0.7, None),
        ("<lora:a:0.2:te=0.5>", 0.5, 0.5, None),
        ("<lyco:a:-1>", -1.0, -1.0, None),
    ],
)
def test_arguments(tag, te, unet, dyn):
    text, network = one(f"x {tag}, y")
    assert text == "x , y"
    assert (network.name, network.te, network.unet, network.dyn) == ("a", te, unet, dyn)
    assert (network.family, network.position, network.problem) == ("lora", 2, None)


def test_kinds_and_order():
    text, tags = parse_networks("<hypernet:h:0.5>a<foo:b:c=d=e><lora:x y.z>")
    assert text == "a"
    assert [(tag.kind, tag.family, tag.name) for tag in tags] == [
        ("hypernet", "hypernet", "h"),
        ("foo", "foo", "b"),
        ("lora", "lora", "x y.z"),
    ]
    assert tags[1].positional == ("b", "c=d=e")


@pytest.mark.parametrize("text", ["<lora>", "<lora:>", "a < b:c", "<b>", "< lora:x>"])
def test_what_is_no_tag_stays(text):
    assert parse_networks(text) == (text, [])


@pytest.mark.parametrize("tag", ["<lora:a:much>", "<lora:a:1:x>", "<lora:a:dyn=half>", "<lora:a:nan>", "<lora:te=1>"])
def test_problems_are_told(tag):
    _, network = one(tag)
    assert network.problem
    if "te=1" not in tag:
        with pytest.raises(PromptSyntaxError, match="unreadable"):
            _ = (network.te, network.unet, network.dyn)


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("a", [("a", 1.0)]),
        ("a :1.2 AND b", [("a", 1.2), (" b", 1.0)]),
        ("a: 2. AND b:-.5 \n", [("a", 2.0), (" b", -0.5)]),
        ("a :3", [("a", 3.0)]),
        ("a:1:2", [("a:1", 2.0)]),
        ("a :x", [("a :x", 1.0)]),
        ("SAND ANDES", [("SAND ANDES", 1.0)]),
        ("[a AND b:3]", [("[a", 1.0), (" b:3]", 1.0)]),
        ("AND", [("", 1.0), ("", 1.0)]),
        ("a\nb :2", [("a\nb", 2.0)]),
    ],
)
def test_parts(prompt, expected):
    assert [(part.text, part.weight) for part in composable_parts(prompt)] == expected


def test_long_whitespace_is_quick():
    assert composable_parts(" " * 20_000 + "x" + " " * 20_000 + ": y")[0].weight == 1.0
