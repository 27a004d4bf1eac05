"""What a model is painted with where it, or a LoRA in the words, was distilled for few steps."""

from __future__ import annotations

from collections.abc import Sequence

from danqing.spec.model import ModelInfo
from danqing.spec.network import NetworkPlan
from danqing.spec.painting import PaintRequest
from danqing.spec.registry.few_steps import FAMILIES, FewSteps, find_few_steps
from danqing.spec.registry.samplers import find_sampler
from danqing.spec.registry.schedules import find_schedule

MANY_TIMES = 3
"""A person who asks for more than so many times the steps is told."""


def fitted(
    model: ModelInfo, networks: Sequence[NetworkPlan], names: Sequence[tuple[str, str | None]]
) -> tuple[ModelInfo, FewSteps | None, str]:
    """A model that likes what the first LoRA for few steps is made for; else as it is.

    Args:
        model: That paints.
        networks: What the words load.
        names: Of each network, its own and its trainer's.

    Returns:
        The model, the distillation, and the name of the file that says so.
    """
    if model.foreign is not None or model.family not in FAMILIES:
        return model, None, ""
    for plan, told in zip(networks, names, strict=True):
        acts = plan.kind == "lora" and any(point.weight > 0 for point in plan.unet)
        found = find_few_steps(*told) if acts else None
        if found is not None:
            defaults = model.defaults.model_copy(update=found.defaults)
            return model.model_copy(update={"defaults": defaults}), found, plan.model.name
    found = find_few_steps(model.name)
    likes = found is not None and all(getattr(model.defaults, name) == value for name, value in found.defaults.items())
    return model, found if likes else None, model.name


def notes_of(request: PaintRequest, found: FewSteps | None, name: str) -> list[str]:
    """What was chosen for the person, and what they chose that does not go with it.

    Args:
        request: What was asked for.
        found: The distillation.
        name: Of the file that says so.
    """
    if found is None:
        return []
    asked = request.sampling
    filled: list[str] = []
    if asked.steps is None:
        filled.append(f"{found.steps} steps")
    if asked.sampler is None:
        filled += [find_sampler(found.sampler).name, find_schedule(asked.schedule or found.schedule).name]
    if request.guidance.scale is None:
        filled.append(f"guidance {found.guidance_scale:g}")
    notes: list[str] = []
    if filled:
        notes.append(f"{name} is made for few steps ({found.name}): {', '.join(filled)}")
    if asked.steps is not None and asked.steps > MANY_TIMES * found.steps:
        notes.append(f"{name} is made for about {found.steps} steps ({found.name}), {asked.steps} are asked for")
    return notes
