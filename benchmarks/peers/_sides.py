"""Who takes part: programs, and the settings each is measured with."""

from __future__ import annotations

from dataclasses import dataclass

OURS = "danqing"
CLASSES = {
    "float32": "32 bit",
    "bfloat16": "16 bit",
    "float16": "16 bit",
    "int8": "8 bit",
    "q8_0": "8 bit",
    "float8": "8 bit",
}
"""Precision classes: ratios across them compare what people get, those within compare the programs."""


@dataclass(frozen=True)
class Side:
    """A program with settings.

    Attributes:
        name: As a person asks for it.
        program: Whose interpreter, address or checkout it uses: the part of `--python PROGRAM=…`.
        variant: What its module is told.
        about: What it is given, for a person.
        asked: Takes part only when it is named.
        converts: Whether it wants the checkpoint in a form of its own, once.
        appetite: Memory it needs, in sizes of the checkpoint's 16-bit weights.
    """

    name: str
    program: str
    variant: str
    about: str
    asked: bool = False
    converts: bool = False
    appetite: float = 2.5

    @property
    def module(self) -> str:
        """Of `benchmarks.peers`."""
        return f"{self.program}_peer"

    @property
    def served(self) -> bool:
        """Whether it is a server that is asked over HTTP."""
        return self.program in {"comfyui", "a1111"}


SIDES = (
    Side(
        OURS,
        OURS,
        "",
        "what a person gets: planning, pipelines, engine, executor and precision chosen by itself",
        appetite=4.0,
    ),
    Side("diffusers", "diffusers", "", "its defaults: float32, contiguous"),
    Side("diffusers-best", "diffusers", "best", "its documented settings: bfloat16, channels-last", appetite=2.0),
    Side(
        "diffusers-compiled",
        "diffusers",
        "compiled",
        "the same and torch.compile of the UNet",
        asked=True,
        appetite=2.0,
    ),
    Side("optimum", "optimum", "", "OpenVINO export, static sizes; OpenVINO's own choice of precision", converts=True),
    Side("optimum-int8", "optimum", "int8", "the same with weights in 8 bits", asked=True, converts=True),
    Side(
        "sdcpp-f16",
        "sdcpp",
        "f16",
        "stable-diffusion.cpp, weights in float16; flash attention on a GPU only",
        appetite=1.5,
    ),
    Side("sdcpp-q8_0", "sdcpp", "q8_0", "the same with weights in q8_0", appetite=1.2),
    Side("comfyui", "comfyui", "", "its HTTP API, as the server was started", appetite=0.0),
    Side("a1111", "a1111", "", "A1111's or Forge's HTTP API, as the server was started", appetite=0.0),
    Side("danqing-float32", OURS, "float32", "Danqing at diffusers' default precision", appetite=6.0),
    Side("danqing-int8", OURS, "int8", "Danqing with the UNet's weights in 8 bits", appetite=3.5),
)
BY_NAME = {side.name: side for side in SIDES}
PROGRAMS = tuple(dict.fromkeys(side.program for side in SIDES))


def precision_class(precision: str) -> str:
    """`32 bit`, `16 bit`, `8 bit`; `unknown` where a server does not say."""
    return CLASSES.get(precision, "unknown")
