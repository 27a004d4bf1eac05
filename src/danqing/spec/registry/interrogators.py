"""Who can say what a picture shows: the built-in tagger, and networks whose files a person installs."""

from __future__ import annotations

from dataclasses import dataclass

from danqing.spec.errors import InvalidRequestError
from danqing.spec.registry.lookup import match, unknown

BUILTIN = "builtin"
FOLDER = "models/interrogators"


@dataclass(frozen=True)
class InterrogatorInfo:
    """One way from a picture to words.

    Attributes:
        key: Stable name in code and requests.
        name: The label a person sees.
        aliases: Other names, those of A1111's API among them.
        hint: What it says, in a sentence or two.
        tags: How many tags it gives where nobody says how many.
        package: The Python package that runs it; "" where Danqing itself does.
        module: Its module.
        needs: Which files a folder in `FOLDER` must have, in words; "" for none.
        threshold: Tags less likely are left out; None where it ranks instead.
        character_threshold: The same for names of characters.
    """

    key: str
    name: str
    aliases: tuple[str, ...]
    hint: str
    tags: int
    package: str = ""
    module: str = ""
    needs: str = ""
    threshold: float | None = None
    character_threshold: float | None = None


INTERROGATORS: tuple[InterrogatorInfo, ...] = (
    InterrogatorInfo(
        BUILTIN,
        "Danqing",
        ("mini_clip", "danqing"),
        "A caption, tags, style and measured colours in three languages, by the built-in mini-CLIP.",
        12,
    ),
    InterrogatorInfo(
        "wd14",
        "WD tagger",
        ("wd", "wd_tagger", "wd14_tagger", "waifu_diffusion"),
        "Danbooru tags for drawings, characters and a rating, by a WD tagger (v1.4 or v3).",
        40,
        "onnxruntime",
        "onnxruntime",
        "an ONNX file (model.onnx) and its selected_tags.csv",
        0.35,
        0.85,
    ),
    InterrogatorInfo(
        "deepdanbooru",
        "DeepDanbooru",
        ("deepbooru",),
        "Danbooru tags for drawings, by DeepDanbooru.",
        40,
        "onnxruntime",
        "onnxruntime",
        "an ONNX file and its tags.txt",
        0.5,
        0.5,
    ),
    InterrogatorInfo(
        "clip",
        "CLIP interrogator",
        ("clip_interrogator", "blip"),
        "A sentence by BLIP, and the likeliest artists, media and flavours of your word lists by CLIP.",
        12,
        "transformers",
        "transformers",
        "a BLIP folder in transformers' layout (config.json, model.safetensors, tokenizer), and to rank lists of words "
        "a CLIP folder and words/*.txt",
    ),
)


def find_interrogator(name: str) -> InterrogatorInfo:
    """The interrogator of this key, label or alias, in any case.

    Raises:
        InvalidRequestError: If there is none; it names the nearest.

    >>> find_interrogator("WD-tagger").key, find_interrogator("deepbooru").key
    ('wd14', 'deepdanbooru')
    """
    info = match(INTERROGATORS, name)
    if info is None:
        raise unknown(INTERROGATORS, name, field="interrogator", what="interrogator")
    return info


def check_threshold(info: InterrogatorInfo, value: float | None, field: str) -> None:
    """Refuse a threshold for one that ranks, and one out of range.

    Raises:
        InvalidRequestError: Either.
    """
    if value is None or (info.threshold is not None and 0 <= value <= 1):
        return
    raise InvalidRequestError(
        f"{info.name} takes no threshold" if info.threshold is None else "the threshold is out of range",
        field=field,
        value=value,
        allowed="none" if info.threshold is None else "a number from 0 to 1",
        next_step="leave it out",
    )
