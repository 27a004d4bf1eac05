"""Noise schedules: which levels a run visits.

Every schedule gives n + 1 descending levels; all but KL Optimal end at 0. Names and formulas are AUTOMATIC1111's
(and, for Turbo and Linear Quadratic, those of the models that need them).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.special import betaincinv
from torch import Tensor

from danqing.sampling.tables import FlowTable, NoiseTable, SigmaTable, dynamic_shift
from danqing.spec.errors import InvalidRequestError
from danqing.spec.registry.samplers import SamplerInfo
from danqing.spec.registry.schedules import find_schedule

__all__ = [
    "SCHEDULES",
    "FlowTable",
    "NoiseTable",
    "ScheduleSettings",
    "SigmaTable",
    "StepPlan",
    "dynamic_shift",
    "resolve_schedule",
    "sigmas",
    "steps_for_strength",
]

MAX_STEPS = 1000

ALIGN_YOUR_STEPS: Mapping[str, tuple[float, ...]] = {
    "sd15": (14.615, 6.475, 3.861, 2.697, 1.886, 1.396, 0.963, 0.652, 0.399, 0.152, 0.029),
    "sdxl": (14.615, 6.315, 3.771, 2.181, 1.342, 0.862, 0.555, 0.380, 0.234, 0.113, 0.029),
}
"""Sabour, Fidler, Kreis 2024 (arXiv:2404.14507), 10 steps."""


@dataclass(frozen=True)
class ScheduleSettings:
    """What can be set on a schedule.

    Attributes:
        rho: Exponent of Karras and Polyexponential; None for the schedule's own.
        sigma_min: Lowest level above 0; None for the model's.
        sigma_max: Highest level; None for the model's.
        beta_alpha: α of the Beta schedule.
        beta_beta: β of the Beta schedule.
        align_table: "sd15" or "sdxl" for Align Your Steps.
        threshold_noise: How far Linear Quadratic goes in its slow half.
    """

    rho: float | None = None
    sigma_min: float | None = None
    sigma_max: float | None = None
    beta_alpha: float = 0.6
    beta_beta: float = 0.6
    align_table: str = "sd15"
    threshold_noise: float = 0.025


@dataclass(frozen=True)
class _Range:
    low: float
    high: float
    table: NoiseTable
    settings: ScheduleSettings

    def rho(self, default: float) -> float:
        return default if self.settings.rho is None else self.settings.rho


Levels = Tensor | list[float]


def _uniform(n: int, r: _Range) -> Levels:
    start, end = len(r.table.sigmas) - 1, 0
    return [r.table.t_to_sigma(float(t)) for t in np.linspace(start, end, n)]


def _normal(n: int, r: _Range) -> Levels:
    start, end = r.table.sigma_to_t(r.high), r.table.sigma_to_t(r.low)
    return [r.table.t_to_sigma(float(t)) for t in np.linspace(start, end, n)]


def _sgm_uniform(n: int, r: _Range) -> Levels:
    start, end = r.table.sigma_to_t(r.high), r.table.sigma_to_t(r.low)
    return [r.table.t_to_sigma(float(t)) for t in np.linspace(start, end, n + 1)[:-1]]


def _karras(n: int, r: _Range) -> Levels:
    rho = r.rho(7.0)
    low, high = r.low ** (1 / rho), r.high ** (1 / rho)
    return (high + torch.linspace(0, 1, n) * (low - high)) ** rho


def _exponential(n: int, r: _Range) -> Levels:
    return torch.linspace(math.log(r.high), math.log(r.low), n).exp()


def _polyexponential(n: int, r: _Range) -> Levels:
    ramp = torch.linspace(1, 0, n) ** r.rho(1.0)
    return torch.exp(ramp * (math.log(r.high) - math.log(r.low)) + math.log(r.low))


def _simple(n: int, r: _Range) -> Levels:
    values = r.table.sigmas
    return [float(values[-1 - int(i * len(values) / n)]) for i in range(n)]


def _ddim(n: int, r: _Range) -> Levels:
    values = r.table.sigmas
    stride = max(len(values) // n, 1)
    offset = 1 if (n - 1) * stride + 1 < len(values) else 0
    return [float(values[offset + i * stride]) for i in reversed(range(n))]


def _turbo(n: int, r: _Range) -> Levels:
    values = r.table.sigmas
    return [float(values[round(i * len(values) / n) - 1]) for i in range(n, 0, -1)]


def _beta(n: int, r: _Range) -> Levels:
    # the quantile function of the Beta distribution; scipy.stats would cost a second of start-up
    quantiles = betaincinv(r.settings.beta_alpha, r.settings.beta_beta, 1 - np.linspace(0, 1, n))
    return [r.low + float(q) * (r.high - r.low) for q in quantiles]


def _kl_optimal(n: int, r: _Range) -> Levels:
    share = torch.arange(n + 1, dtype=torch.float64) / n
    return torch.tan(share * math.atan(r.low) + (1.0 - share) * math.atan(r.high))


def _align_your_steps(n: int, r: _Range) -> Levels:
    known = np.log(np.asarray(ALIGN_YOUR_STEPS[r.settings.align_table]))
    low, high = math.log(r.low), math.log(r.high)
    if max(abs(known[0] - high), abs(known[-1] - low)) > 0.02:
        known = low + (known - known[-1]) * (high - low) / (known[0] - known[-1])
    at = np.linspace(0, 1, n)
    logs = np.interp(at, np.linspace(0, 1, len(known)), known)
    return [min(math.exp(float(v)), r.high) for v in logs]


def _linear_quadratic(n: int, r: _Range) -> Levels:
    if n == 1:
        return [r.high]
    threshold, linear = r.settings.threshold_noise, n // 2
    rest = n - linear
    gap = linear - threshold * n
    quadratic = gap / (linear * rest**2)
    slope = threshold / linear - 2 * gap / rest**2
    done = [i * threshold / linear for i in range(linear)]
    done += [quadratic * i**2 + slope * i + quadratic * linear**2 for i in range(linear, n)]
    return [(1.0 - share) * r.high for share in done]


SCHEDULES: Mapping[str, Callable[[int, _Range], Levels]] = {
    "uniform": _uniform,
    "karras": _karras,
    "exponential": _exponential,
    "polyexponential": _polyexponential,
    "sgm_uniform": _sgm_uniform,
    "simple": _simple,
    "normal": _normal,
    "ddim": _ddim,
    "beta": _beta,
    "kl_optimal": _kl_optimal,
    "align_your_steps": _align_your_steps,
    "turbo": _turbo,
    "linear_quadratic": _linear_quadratic,
}


def resolve_schedule(schedule: str, table: NoiseTable, sampler: SamplerInfo | None = None) -> str:
    """The schedule's key, with "automatic" settled for this sampler and kind of model.

    Raises:
        InvalidRequestError: If there is no such schedule.
    """
    key = find_schedule(schedule).key
    if key != "automatic":
        return key
    if table.flow:
        return "simple"
    return "uniform" if sampler is None else sampler.default_schedule


def sigmas(
    schedule: str,
    steps: int,
    table: NoiseTable,
    sampler: SamplerInfo | None = None,
    settings: ScheduleSettings | None = None,
) -> Tensor:
    """The levels of a run: float32 [steps + 1], descending.

    Args:
        schedule: Key or label.
        steps: Number of steps, 1 to 1000.
        table: The model's levels.
        sampler: The sampler, which settles "automatic" and may drop the level before the last.
        settings: Exponent, range and the like.

    Raises:
        InvalidRequestError: If the schedule is unknown, or the steps or the range make no sense.
    """
    if not 1 <= steps <= MAX_STEPS:
        raise InvalidRequestError(
            "the number of steps is out of range", field="steps", value=steps, allowed=f"1 to {MAX_STEPS}"
        )
    key = resolve_schedule(schedule, table, sampler)
    discard = sampler is not None and sampler.discard_next_to_last_sigma
    count = min(steps + 1, MAX_STEPS) if discard else steps
    values = SCHEDULES[key](count, _range(table, settings or ScheduleSettings()))
    out = torch.as_tensor(values, dtype=torch.float32)
    if len(out) == count:
        out = torch.cat([out, out.new_zeros(1)])
    if not bool((out[1:] < out[:-1]).all()):
        raise InvalidRequestError(
            "two steps of this schedule would have the same noise level",
            field="steps",
            value=steps,
            allowed="levels that fall from step to step",
            next_step="take fewer steps, a smaller rho or a wider range of sigma",
        )
    return torch.cat([out[:-2], out[-1:]]) if count > steps else out


def _range(table: NoiseTable, settings: ScheduleSettings) -> _Range:
    low = table.sigma_min if settings.sigma_min is None else settings.sigma_min
    high = table.sigma_max if settings.sigma_max is None else settings.sigma_max
    if not 0 < low < high or not math.isfinite(high):
        raise InvalidRequestError(
            "the range of noise levels is empty",
            field="sigma_min",
            value=(low, high),
            allowed="0 < sigma_min < sigma_max",
            next_step="leave both empty to take the model's own range",
        )
    if settings.rho is not None and not 0 < settings.rho < math.inf:
        raise InvalidRequestError("rho must be positive", field="rho", value=settings.rho, allowed="above 0")
    if settings.align_table not in ALIGN_YOUR_STEPS:
        settings = replace(settings, align_table="sd15")
    return _Range(low, high, table, settings)


@dataclass(frozen=True)
class StepPlan:
    """Which part of a schedule a picture-to-picture run takes.

    Attributes:
        total: Steps the schedule is made for.
        skip: Levels left out at the start; run `sigmas(...)[skip:]`.
    """

    total: int
    skip: int

    @property
    def run(self) -> int:
        """Steps that are run."""
        return self.total - self.skip


def steps_for_strength(steps: int, strength: float, *, exact: bool = False) -> StepPlan:
    """The part of the schedule for a denoising strength, in AUTOMATIC1111's two ways.

    Args:
        steps: Steps asked for.
        strength: 0 keeps the picture, 1 repaints it.
        exact: Whether to run exactly `steps` steps, from a longer schedule.

    Raises:
        InvalidRequestError: If the strength is not a number from 0 to 1.

    >>> steps_for_strength(20, 0.75)
    StepPlan(total=20, skip=4)
    >>> steps_for_strength(20, 0.75, exact=True)
    StepPlan(total=26, skip=6)
    """
    if not 0.0 <= strength <= 1.0:
        raise InvalidRequestError("the strength is out of range", field="strength", value=strength, allowed="0 to 1")
    bounded = min(strength, 0.999)
    if exact and strength > 0:
        total = int(min(steps / bounded, MAX_STEPS))
        return StepPlan(total, max(total - steps, 0))
    return StepPlan(steps, steps - int(bounded * steps) - 1)
