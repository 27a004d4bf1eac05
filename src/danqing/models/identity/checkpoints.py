"""Checkpoints: a denoiser, alone or with its autoencoder and text encoders in one file."""

from __future__ import annotations

from danqing.models.identity.denoisers import find_denoiser
from danqing.models.identity.evidence import Evidence, Rule
from danqing.spec.files import FileIdentity

# (head of the names, further beginning, part)
_PARTS = (
    ("first_stage_model", "first_stage_model.", "vae"),
    ("vae", "vae.", "vae"),
    ("cond_stage_model", "cond_stage_model.", "text_encoder"),
    ("text_encoder", "text_encoder.", "text_encoder"),
    ("text_encoder_2", "text_encoder_2.", "text_encoder_2"),
    ("conditioner", "conditioner.embedders.0.", "text_encoder"),
    ("conditioner", "conditioner.embedders.1.", "text_encoder_2"),
    ("model_ema", "model_ema.", "ema"),
    ("embedder", "embedder.model.visual.", "image_encoder"),
    ("safety_checker", "safety_checker.", "safety_checker"),
)
_ENCODERS = ("clip_l", "clip_g", "t5xxl", "qwen25_7b", "qwen3_4b", "gemma2_2b", "llama", "umt5xxl")
_REFINER_ENCODER = "conditioner.embedders.0.model."


def detect_checkpoint(names: Evidence) -> FileIdentity | None:
    """A checkpoint or a bare denoiser."""
    found = find_denoiser(names)
    if found is None:
        return None
    facts = dict(found.facts)
    parts = ["denoiser", *_other_parts(names)]
    encoders = tuple(name for name in _ENCODERS if names.starts(f"text_encoders.{name}"))
    if encoders:
        facts["text_encoders"] = encoders
        parts += [f"text_encoder_{index}" if index > 1 else "text_encoder" for index in range(1, len(encoders) + 1)]
    whole = any(part in {"vae", "text_encoder", "text_encoder_2"} for part in parts)
    if found.prefix:
        facts["prefix"] = found.prefix
    return FileIdentity(
        kind="checkpoint" if whole else "denoiser",
        family=found.family,
        variant=found.variant,
        layout=found.layout,
        prediction=found.prediction,
        parts=tuple(dict.fromkeys(parts)),
        facts=facts,
        why=found.why,
    )


def _other_parts(names: Evidence) -> list[str]:
    parts = [part for head, start, part in _PARTS if head in names.heads and names.starts(start)]
    if "conditioner" in names.heads and names.starts(_REFINER_ENCODER):
        # The refiner has the big encoder alone, which is SDXL's second.
        parts = ["text_encoder_2" if part == "text_encoder" else part for part in parts]
    return parts


RULES = (Rule("checkpoint", detect_checkpoint),)
