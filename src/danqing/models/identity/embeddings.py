"""Learned words (textual inversion) and hypernetworks."""

from __future__ import annotations

import json
import re

from danqing.models.identity.evidence import Evidence, Facts, Rule, known
from danqing.models.identity.network_family import said_family
from danqing.spec.files import FileIdentity

_BY_WIDTH = {768: "sd1", 1024: "sd2", 1280: "sdxl"}
_TEXT_WIDTHS = {768: "sd1", 1024: "sd2", 2048: "sdxl"}
# Of the levels of Stable Diffusion's UNets.
_SD_WIDTHS = frozenset((320, 640, 1280))
_ENCODERS = ("clip_l", "clip_g", "t5xxl")
_FLOATS = frozenset(("float32", "float16", "bfloat16", "float64"))
_MOST_VECTORS = 512
_PART_OF_A_NETWORK = re.compile(r"(weight|bias|running_mean|running_var|alpha|scale|gamma|beta)$")
_HYPERNETWORK = re.compile(r"^(\d+)\.([01])\.(linear\d?(?:\.\d+)?)\.(weight|bias)$")
# A1111's names for what a hypernetwork says of itself, kept as facts.
_HYPER_WORDS = ("layer_structure", "activation_func", "is_layer_norm", "use_dropout", "activate_output", "name", "step")


def detect_embedding(names: Evidence) -> FileIdentity | None:
    """A learned word: A1111's, {token: tensor}, or one for two and three encoders."""
    for detect in (_a1111, _encoders, _tokens):
        found = detect(names)
        if found is not None:
            said = said_family(names.metadata)
            return found.model_copy(update={"family": said}) if said else found
    return None


def _a1111(names: Evidence) -> FileIdentity | None:
    tables = [name for name in names.tensors if name.startswith("string_to_param.") or name == "emb_params"]
    if not tables:
        return None
    shape = names.shape(tables[0])
    layout = "a1111" if tables[0] != "emb_params" else "emb_params"
    tokens = tuple(filter(None, (names.metadata.get("name"),)))
    return _embedding(shape, layout, tokens, f"{tables[0]} of shape {list(shape)}")


def _encoders(names: Evidence) -> FileIdentity | None:
    found = [name for name in _ENCODERS if name in names.tensors]
    if not found or len(names.tensors) > len(_ENCODERS):
        return None
    shape = names.shape(found[0])
    family = {"clip_l": "sd1", "clip_g": "sdxl", "clip_l clip_g": "sdxl", "clip_l t5xxl": "flux"}.get(
        " ".join(found), "sd3"
    )
    facts: Facts = known(vectors=_vectors(shape), encoders=tuple(found))
    facts["widths"] = tuple(names.side(name, -1) or 0 for name in found)
    why = ", ".join(f"{name} {list(names.shape(name))}" for name in found)
    return FileIdentity(
        kind="embedding", family=family, variant="multi-encoder", layout="clip_l/clip_g", facts=facts, why=why
    )


def _tokens(names: Evidence) -> FileIdentity | None:
    if not 1 <= len(names.tensors) <= 64:
        return None
    shapes = [info.shape for info in names.tensors.values()]
    alone = len(shapes) == 1 or all(name.startswith("<") for name in names.tensors)
    flat = all(1 <= len(shape) <= 2 and shape[-1] == shapes[0][-1] and shape[-1] >= 16 for shape in shapes)
    small = flat and sum(_vectors(shape) for shape in shapes) <= _MOST_VECTORS
    floats = all(info.dtype in _FLOATS for info in names.tensors.values())
    if not (alone and small and floats) or any(_PART_OF_A_NETWORK.search(name) for name in names.tensors):
        return None
    total = (sum(_vectors(shape) for shape in shapes), shapes[0][-1])
    tokens = tuple(names.tensors)
    return _embedding(total, "token", tokens, f"nothing but {tokens[0]} of shape {list(shapes[0])}")


def _vectors(shape: tuple[int, ...]) -> int:
    return shape[0] if len(shape) == 2 else 1


def _embedding(shape: tuple[int, ...], layout: str, tokens: tuple[str, ...], why: str) -> FileIdentity:
    width = shape[-1] if shape else 0
    facts: Facts = known(vectors=_vectors(shape), width=width)
    if tokens:
        facts["tokens"] = tokens
    return FileIdentity(kind="embedding", family=_BY_WIDTH.get(width), layout=layout, facts=facts, why=why)


def detect_hypernetwork(names: Evidence) -> FileIdentity | None:
    """A1111's hypernetwork: per width of text states, a pair of small networks for keys and values."""
    numbered = any(head.isdigit() for head in names.heads)
    matches = [match for match in map(_HYPERNETWORK.match, names.tensors) if match] if numbered else []
    if not matches:
        return None
    widths = tuple(sorted({int(match[1]) for match in matches}))
    facts: Facts = {"widths": widths}
    for word in _HYPER_WORDS:
        if word in names.metadata:
            facts[word] = _plain(names.metadata[word])
    structure = _structure(names, matches, widths[0])
    facts.setdefault("layer_structure", structure)
    text = next((one for one in _TEXT_WIDTHS if one in widths), None)
    family = said_family(names.metadata)
    if family is not None:
        facts["family_from"] = "the file's metadata"
    elif text is not None:
        family = _TEXT_WIDTHS[text]
    else:
        facts["family_unknown"] = "no network for the width of text states"
        family = "sd1" if _SD_WIDTHS & set(widths) else None
    return FileIdentity(
        kind="hypernetwork", family=family, layout="a1111", facts=facts, why=f"pairs of networks for widths {widths}"
    )


def _structure(names: Evidence, matches: list[re.Match[str]], width: int) -> tuple[str, ...]:
    """Widths of the layers as multiples of the first, read from the weights of the first network."""
    prefix = f"{width}.0."
    sides = [names.shape(m[0]) for m in matches if m[0].startswith(prefix) and m[4] == "weight"]
    linear = [shape for shape in sides if len(shape) == 2]
    return ("1", *(f"{shape[0] / width:g}" for shape in linear))


def _plain(text: str) -> str | bool | tuple[str, ...]:
    if text in {"True", "False"}:
        return text == "True"
    if text.startswith("["):
        try:
            return tuple(f"{one:g}" if isinstance(one, (int, float)) else str(one) for one in json.loads(text))
        except ValueError:
            return text
    return text


RULES = (Rule("hypernetwork", detect_hypernetwork), Rule("embedding", detect_embedding))
