"""Distillations for few steps: how their files are named, and what they are made to be painted with.

LCM: Luo et al., arXiv 2310.04378 and 2311.05556. TCD: Zheng et al., arXiv 2402.19159. SDXL-Lightning: Lin et al., arXiv
2402.13929. Hyper-SD: Ren et al., arXiv 2404.13686.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any, Final

FAMILIES: Final = frozenset({"sd1", "sd2", "sdxl", "danqing"})
"""Families that these numbers are for."""
MOST_STEPS = 16
_STEPS = re.compile(r"(?<![0-9])([0-9]{1,2})[-_ ]?steps?(?![a-z])")


@dataclass(frozen=True)
class FewSteps:
    """A distillation.

    Attributes:
        key: Its name in code.
        name: For a person.
        pattern: Stands in the names of its files, in lower case.
        steps: What it is painted with where its file's name does not say.
        sampler: Key in spec.registry.samplers.
        schedule: Key in spec.registry.schedules.
        guidance_scale: 1 is none.
    """

    key: str
    name: str
    pattern: str
    steps: int
    sampler: str
    schedule: str
    guidance_scale: float = 1.0

    @property
    def defaults(self) -> dict[str, Any]:
        """Its numbers as `ModelDefaults` names them."""
        return {name: getattr(self, name) for name in ("steps", "sampler", "schedule", "guidance_scale")}


FEW_STEPS: Final[tuple[FewSteps, ...]] = (
    FewSteps("lcm", "LCM", r"(?<![a-z])lcm(?![a-z])", 6, "lcm", "sgm_uniform", 1.5),
    FewSteps("tcd", "TCD", r"(?<![a-z])tcd(?![a-z])", 4, "tcd", "sgm_uniform"),
    # A storm is lightning, too: only beside SDXL's name or a number of steps does the word mean the distillation.
    FewSteps("lightning", "Lightning", r"(?=.*(?:xl|[0-9][-_ ]?step)).*lightning", 4, "euler", "sgm_uniform"),
    FewSteps("hyper", "Hyper-SD", r"(?<![a-z])hyper[-_ ]?sd(?:xl|[0-9]|[^a-z]|$)", 4, "euler", "sgm_uniform"),
)
HYPER_CFG = 5.0
"""Hyper-SD's files with `CFG` in their name keep guidance."""


def find_few_steps(*names: str | None) -> FewSteps | None:
    """The distillation that a file says it is, by its name or its trainer's name for it; None for none.

    >>> [find_few_steps(name).key for name in ("lcm-lora-sdv1-5", "sdxl_lightning_8step", "Hyper-SD15-4steps-lora")]
    ['lcm', 'lightning', 'hyper']
    >>> find_few_steps("sdxl_lightning_8step").steps, find_few_steps("lightning storm"), find_few_steps("hyperreal")
    (8, None, None)
    """
    for name in (name.lower() for name in names if name):
        for known in FEW_STEPS:
            if re.search(known.pattern, name):
                return _numbered(known, name)
    return None


def _numbered(known: FewSteps, name: str) -> FewSteps:
    """With the number of steps that the name says, and guidance where Hyper-SD's says so."""
    found = _STEPS.search(name)
    steps = int(found[1]) if found else known.steps
    scale = HYPER_CFG if known.key == "hyper" and re.search(r"(?<![a-z])cfg(?![a-z])", name) else known.guidance_scale
    return replace(known, steps=steps if 1 <= steps <= MOST_STEPS else known.steps, guidance_scale=scale)
