"""LoRA and LyCORIS: the algorithm by the last parts of the names, the layout by the first ones."""

from __future__ import annotations

import re
from collections import Counter

from danqing.models.identity.evidence import Evidence, Facts, Rule, known
from danqing.models.identity.network_family import family_of
from danqing.spec.files import FileIdentity

# Algorithm → parts of names that only it has, in the order of how special it is.
ALGORITHMS: dict[str, frozenset[str]] = {
    "oft": frozenset(("oft_blocks", "oft_diag", "oft_R", "boft_R", "boft_b")),
    "lokr": frozenset(("lokr_w1", "lokr_w1_a", "lokr_w2", "lokr_w2_a", "lokr_t2")),
    "loha": frozenset(("hada_w1_a", "hada_w2_a", "hada_t1")),
    "ia3": frozenset(("on_input",)),
    "lora": frozenset(("lora_down", "lora_A", "lora_up", "lora_B", "lora_linear_layer")),
    "full": frozenset(("diff", "diff_b", "set_weight")),
    "norm": frozenset(("w_norm", "b_norm")),
}
# Any of these, or "lora" somewhere: else the file is no network of this kind.
_SPECIAL: frozenset[str] = frozenset[str]().union(*ALGORITHMS.values(), ("alpha", "dora_scale", "default"))
_OLD_DIFFUSERS = re.compile(r"lora\.(down|up)\.weight$|_lora\d?\.(down|up)\.weight$")
_CLONEOFSIMO = re.compile(r"^(unet|text_encoder):\d+:(up|down)$")
_BUNDLE = "bundle_emb."
_TARGETS = (
    ("text_encoder_3", ("lora_te3_", "text_encoder_3.", "lora_t5_", "text_encoders.t5xxl.")),
    ("text_encoder_2", ("lora_te2_", "text_encoder_2.", "lora_clip_g_", "text_encoders.clip_g.")),
    (
        "text_encoder",
        ("lora_te_", "lora_te1_", "text_encoder.", "text_encoder:", "lora_clip_l_", "text_encoders.clip_l.", "clip_l."),
    ),
    (
        "denoiser",
        (
            *("lora_unet_", "lora_transformer_", "lora_prior_", "lycoris_", "unet.", "unet:", "transformer."),
            *("diffusion_model.", "model.diffusion_model.", "base_model.model."),
            *("double_blocks.", "down_blocks.", "transformer_blocks."),
        ),
    ),
)
_RANKED = re.compile(
    r"(lora_down|lora_A|lora\.down|_lora\d?\.down|lora_linear_layer\.down)(\.default)?\.weight$|:down$"
)


def detect_network(names: Evidence) -> FileIdentity | None:
    """A LoRA or LyCORIS file of any layout."""
    if "lora" not in names.joined and not _SPECIAL & names.tails and ".a1." not in names.joined:
        return _cloneofsimo(names)
    found = [algorithm for algorithm, marks in ALGORITHMS.items() if marks & names.marks]
    older = "down" in names.marks and names.first("lora", ".down.")
    if "lora" not in found and (older or ".lora_A." in names.joined):
        found.append("lora")
    if {"a1", "a2", "b1", "b2"} <= names.marks:
        found.insert(0, "glora")
    if not found:
        return _cloneofsimo(names)
    facts = _facts(names)
    facts["algorithms"] = tuple(found)
    layout = _layout(names)
    family, seen = family_of(names)
    facts.update(seen)
    if family is None:
        facts["family_unknown"] = "neither names nor widths tell the model it was trained on"
    special = found[0]
    kind = "lora" if set(found) <= {"lora", "full", "norm"} and "lora" in found else "lycoris"
    variant = _variant(names, special if kind == "lycoris" else "lora")
    why = f"names end in {_ending(names, special if kind == 'lycoris' else 'lora')}; {layout} names"
    return FileIdentity(kind=kind, family=family, variant=variant, layout=layout, facts=facts, why=why)


def _variant(names: Evidence, algorithm: str) -> str:
    if algorithm == "lora":
        kernels = any(len(info.shape) == 4 and info.shape[-1] > 1 for info in names.infos)
        down = kernels and any(_has_kernel(names, name) for name in names.tensors)
        return "locon" if down or "lora_mid" in names.marks else "lora"
    if algorithm == "oft":
        blocks = next((name for name in names.tensors if name.endswith((".oft_blocks", "boft_R"))), "")
        return "boft" if len(names.shape(blocks)) == 4 or "boft_R" in names.marks else "oft"
    return algorithm


def _has_kernel(names: Evidence, name: str) -> bool:
    shape = names.tensors[name].shape
    return len(shape) == 4 and shape[-1] > 1 and "lora_" in name


def _ending(names: Evidence, algorithm: str) -> str:
    marks = ALGORITHMS.get(algorithm, frozenset(("a1", "b1"))) & names.marks
    return ", ".join(sorted(marks)) or "lora.down"


def _facts(names: Evidence) -> Facts:
    metadata = names.metadata
    facts = known(
        rank=names.kept("rank", lambda: _rank(names)),
        targets=tuple(target for target, starts in _TARGETS[::-1] if any(map(names.starts, starts))),
        network_alpha=metadata.get("ss_network_alpha"),
    )
    if "dora_scale" in names.marks or "lora_magnitude_vector" in names.marks:
        facts["dora"] = True
    bundled = names.starting(_BUNDLE) if names.starts(_BUNDLE) else ()
    tokens = {name[len(_BUNDLE) :].partition(".")[0] for name in bundled}
    if tokens:
        facts["tokens"] = tuple(sorted(tokens))
    return facts


def _rank(names: Evidence) -> int | None:
    """The rank that most modules have."""
    ranks: Counter[int] = Counter()
    for name, info in names.tensors.items():
        if len(info.shape) >= 2:
            if _RANKED.search(name):
                ranks[info.shape[0]] += 1
            elif name.endswith(("hada_w1_a", "lokr_w2_a")):
                ranks[info.shape[1]] += 1
        if ranks.total() >= 32:
            break
    return ranks.most_common(1)[0][0] if ranks else None


def _layout(names: Evidence) -> str:
    if names.starts("lycoris_"):
        return "lycoris"
    if names.starts("lora_"):
        return "kohya"
    if names.first(".processor.", "_lora1."):
        return "xlabs"
    if "lora_A" in names.marks or "lora_B" in names.marks or names.first(".lora_A."):
        return "comfyui" if "diffusion_model" in names.heads else "peft"
    if any(_OLD_DIFFUSERS.search(name) for name in names.tensors) or "lora_linear_layer" in names.marks:
        return "diffusers"
    return "comfyui" if "diffusion_model" in names.heads else "plain"


def _cloneofsimo(names: Evidence) -> FileIdentity | None:
    """The first LoRA trainer's layouts: numbered modules, or (pickled) a bare list of up, down, up, down …."""
    colons = ":down\n" in names.joined
    numbered = [name for name in names.tensors if _CLONEOFSIMO.match(name)] if colons else []
    if numbered:
        tokens = tuple(name for name, word in names.metadata.items() if word == "<embed>" and name in names.tensors)
        downs = [name for name in numbered if name.endswith(":down")]
        text = names.side("text_encoder:0:down", 1)
        facts: Facts = known(rank=names.side(downs[0], 0) if downs else None, text_width=text)
        facts["targets"] = tuple(dict.fromkeys("denoiser" if name[0] == "u" else "text_encoder" for name in numbered))
        facts["algorithms"] = ("lora",)
        if tokens:
            facts["tokens"] = tokens
        widths = {names.side(name, 1) for name in downs if name.startswith("unet:")} | {text}
        family = "sd2" if 1024 in widths else "sd1" if 768 in widths or not widths & {1024, 2048} else "sdxl"
        return FileIdentity(
            kind="lora", family=family, variant="lora", layout="cloneofsimo", facts=facts, why="names like unet:0:down"
        )
    count = len(names.tensors)
    shapes = [info.shape for info in names.tensors.values()]
    pairs = list(zip(shapes[::2], shapes[1::2], strict=False))
    bare = names.format == "pickle" and count >= 4 and not count % 2 and all(name.isdigit() for name in names.tensors)
    if not bare or not all(len(up) == len(down) == 2 and up[1] == down[0] for up, down in pairs):
        return None
    widths = {down[1] for _, down in pairs}
    family = "sd2" if 1024 in widths else "sd1" if 768 in widths else None
    facts = known(rank=shapes[0][1], algorithms=("lora",))
    return FileIdentity(
        kind="lora",
        family=family,
        variant="lora",
        layout="cloneofsimo list",
        facts=facts,
        why="a bare list of pairs of matrices that share a rank",
    )


RULES = (Rule("lora and lycoris", detect_network),)
