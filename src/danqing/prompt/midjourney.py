"""Midjourney's prompt form: image prompts, text with `::` weights, then `--flags`; `{a, b}` makes several of one.

What has an honest meaning for an open model becomes a neutral effect; what has none is listed in `refused` with the
reason; what Midjourney itself would reject (an unknown flag, a value out of range) raises PromptSyntaxError.
Source: Midjourney's public parameter list, versions 1 to 7.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from danqing.prompt.ast import PART_WEIGHT
from danqing.prompt.composable import WeightedPart
from danqing.prompt.midjourney_flags import FLAGS, Effects, read_flag
from danqing.spec.errors import PromptSyntaxError

MAX_PERMUTATIONS: Final = 40
"""As many as Midjourney's largest plan allows."""

_FLAG = re.compile(r"(?:^|(?<=\s))(?:--|—)(?=[A-Za-z])")
_WEIGHT = re.compile(r"::(-?(?:\d+\.?\d*|\.\d+))?")
_URL = re.compile(r"https?://\S+", re.IGNORECASE)
_PICTURE = re.compile(r"\S+\.(?:png|jpe?g|webp|gif|bmp|avif)|sha256:[0-9a-f]{64}|record:[\w-]{1,64}", re.IGNORECASE)
_NEEDS_ESCAPE = re.compile(r"[\\()\[\]|]")
_WORD_OPERATORS = re.compile(r"\b(AND|BREAK)\b")


@dataclass(frozen=True, slots=True)
class MidjourneyPrompt:
    """One Midjourney prompt as neutral effects.

    Attributes:
        parts: Texts with their weights, as written; a weight may be negative, the sum is positive.
        images: Picture references before the text that can be used (uploads and file names).
        effects: What the flags ask for.
        refused: (flag, reason) of everything that was left out.
    """

    parts: tuple[WeightedPart, ...]
    images: tuple[str, ...]
    effects: Effects
    refused: tuple[tuple[str, str], ...]

    @property
    def text(self) -> str:
        """The text of the parts with positive weight, joined."""
        return ", ".join(part.text for part in self.parts if part.weight > 0)

    @property
    def negative(self) -> str:
        """What the picture should not show."""
        return self.effects.negative

    @property
    def prompt(self) -> str:
        """The same in A1111's grammar: parts become `AND` parts whose weights sum to 1, brackets are protected."""
        total = sum(part.weight for part in self.parts)
        if len(self.parts) == 1:
            text = _protect(self.parts[0].text)
            return f"{text} :1" if PART_WEIGHT.search(text) else text
        return " AND ".join(f"{_protect(part.text)} :{part.weight / total:.6g}" for part in self.parts)

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready data; effects that were not asked for are left out."""
        return {
            "parts": [asdict(part) for part in self.parts],
            "images": list(self.images),
            "prompt": self.prompt,
            **{key: value for key, value in asdict(self.effects).items() if value not in (None, "", False, ())},
            "refused": [list(entry) for entry in self.refused],
        }


def parse_midjourney(prompt: str) -> MidjourneyPrompt:
    """Reads one prompt; braces are literal (see `expand_midjourney`).

    Raises:
        PromptSyntaxError: An unknown flag, a malformed or out-of-range value, text after a flag, or weights whose sum
            is not positive.

    >>> parse_midjourney("hot::2 dog --ar 3:2 --no cars").effects.aspect
    (3, 2)
    """
    body, *tail = _FLAG.split(prompt)
    effects = Effects()
    refused: list[tuple[str, str]] = []
    for flag in tail:
        effects = _apply(flag.strip(), effects, refused)
    images, text = _images(body.strip(), refused)
    if effects.image_weight is not None and not images:
        refused.append(("--iw", "there is no image prompt for it to weigh; put a picture before the text"))
        effects = replace(effects, image_weight=None)
    return MidjourneyPrompt(_parts(text), tuple(images), effects, tuple(refused))


def expand_midjourney(prompt: str) -> list[MidjourneyPrompt]:
    """All prompts that the braces of a permutation prompt stand for, read.

    Raises:
        PromptSyntaxError: As `parse_midjourney`; more than 40 permutations; a brace without its partner.
    """
    return [parse_midjourney(text) for text in permutations(prompt)]


def permutations(prompt: str) -> list[str]:
    r"""The prompts that `{a, b}` stands for, in reading order; braces nest, `\,` is a comma.

    >>> permutations("a {red, blue} bird --ar {3:2, 1:1}")
    ['a red bird --ar 3:2', 'a red bird --ar 1:1', 'a blue bird --ar 3:2', 'a blue bird --ar 1:1']
    """
    texts, end = _permute(prompt, 0, nested=0)
    if end < len(prompt):
        raise _braces(prompt, "a closing brace has no opening one")
    return [_unescape(text) for text in texts]


def _permute(prompt: str, start: int, *, nested: int) -> tuple[list[str], int]:
    """All texts of prompt[start:] up to the brace or, inside braces, the comma that ends it."""
    texts = [""]
    position = start
    while position < len(prompt):
        char = prompt[position]
        if char == "}" or (nested and char == ","):
            break
        if char == "{":
            options, position = _options(prompt, position, nested)
            texts = [text + option for text in texts for option in options]
            if len(texts) > MAX_PERMUTATIONS:
                raise _braces(prompt, "the braces stand for too many prompts")
            continue
        step = 2 if char == "\\" else 1
        texts = [text + prompt[position : position + step] for text in texts]
        position += step
    return texts, position


def _options(prompt: str, opener: int, nested: int) -> tuple[list[str], int]:
    if nested >= 10:
        raise _braces(prompt, "braces are nested more than ten deep")
    options: list[str] = []
    position = opener
    while position == opener or prompt[position : position + 1] == ",":
        texts, position = _permute(prompt, position + 1, nested=nested + 1)
        options += [text.strip() for text in texts]
    if prompt[position : position + 1] != "}":
        raise _braces(prompt, "an opening brace is never closed")
    return options, position + 1


def _unescape(text: str) -> str:
    return re.sub(r"\\([,{}])", r"\1", text)


def _braces(prompt: str, message: str) -> PromptSyntaxError:
    return PromptSyntaxError(
        message,
        field="prompt",
        value=prompt,
        allowed=f"{{a, b}} with at most {MAX_PERMUTATIONS} combinations; a literal brace is written \\{{",
        next_step="close the braces, or use fewer options",
    )


def _apply(flag: str, effects: Effects, refused: list[tuple[str, str]]) -> Effects:
    name, _, value = flag.partition(" ")
    name, value = name.strip().lower(), value.strip()
    if name not in FLAGS:
        close = [known for known in FLAGS if known.startswith(name[:2])] or list(FLAGS)
        raise PromptSyntaxError(
            f"Midjourney has no flag --{name}",
            field="prompt",
            value=f"--{name}",
            allowed=", ".join(f"--{known}" for known in sorted(close)[:12]),
            next_step="correct the flag's name, or remove it",
        )
    effects, reason = read_flag(name, value, effects)
    if reason is not None:
        refused.append((f"--{name} {value}".strip(), reason))
    return effects


def _images(body: str, refused: list[tuple[str, str]]) -> tuple[list[str], str]:
    images: list[str] = []
    words = body.split()
    taken = 0
    for word in words:
        bare = word.strip("<>\"',")
        if _URL.fullmatch(bare):
            refused.append((bare, "Danqing opens no addresses; download the picture and use it from here"))
        elif _PICTURE.fullmatch(bare):
            images.append(bare)
        else:
            break
        taken += 1
    if not taken:
        return images, body
    rest = body.split(maxsplit=taken)
    return images, rest[taken] if len(rest) > taken else ""


def _parts(text: str) -> tuple[WeightedPart, ...]:
    parts: list[WeightedPart] = []
    start = 0
    for found in _WEIGHT.finditer(text):
        written = text[start : found.start()].strip()
        if written:
            parts.append(WeightedPart(written, float(found[1]) if found[1] else 1.0))
        start = found.end()
    rest = text[start:].strip()
    if rest or not parts:
        parts.append(WeightedPart(rest))
    if sum(part.weight for part in parts) <= 0:
        raise PromptSyntaxError(
            "the weights of the parts sum to zero or less",
            field="prompt",
            value=text,
            allowed="a positive sum, as in tulip field:: red::-.5",
            next_step="raise a positive weight, or lower a negative one",
        )
    return tuple(parts)


def _protect(text: str) -> str:
    """Text in which A1111's grammar finds no operator."""
    lowered = _WORD_OPERATORS.sub(lambda found: found[0].lower(), text)
    return _NEEDS_ESCAPE.sub(lambda found: "\\" + found[0], lowered)
