"""The noise schedules: names, labels and hints. Their mathematics is in `danqing.sampling.schedules`."""

from __future__ import annotations

from dataclasses import dataclass

from danqing.spec.registry.lookup import match, unknown


@dataclass(frozen=True)
class ScheduleInfo:
    """A way of spacing the noise levels of a run.

    Attributes:
        key: Stable name in code, requests and records.
        name: The label AUTOMATIC1111 uses.
        aliases: Other accepted spellings.
        hint: One plain sentence for the UI.
        default_rho: Exponent used when the request gives none; None where the schedule has no such parameter.
        flow: Whether it suits flow-matching models (σ from 1 to 0).
    """

    key: str
    name: str
    aliases: tuple[str, ...]
    hint: str
    default_rho: float | None = None
    flow: bool = True


SCHEDULES: tuple[ScheduleInfo, ...] = (
    ScheduleInfo("automatic", "Automatic", ("auto", "default"), "Takes the spacing that suits the chosen sampler."),
    ScheduleInfo("uniform", "Uniform", (), "Equal time steps over the model's own range; the classic choice."),
    ScheduleInfo("karras", "Karras", (), "Spends more steps on fine detail; clean results at 20 to 30 steps.", 7.0),
    ScheduleInfo(
        "exponential", "Exponential", (), "Equal ratios of noise; smooth backgrounds, good with SDE samplers."
    ),
    ScheduleInfo(
        "polyexponential", "Polyexponential", ("poly exponential",), "Exponential with a bend set by rho.", 1.0
    ),
    ScheduleInfo(
        "sgm_uniform",
        "SGM Uniform",
        ("SGMUniform",),
        "Equal time steps that stop early; right for LCM, Lightning, TCD.",
    ),
    ScheduleInfo("simple", "Simple", (), "Every n-th level of the model's table; the usual choice for flow models."),
    ScheduleInfo("normal", "Normal", (), "Equal time steps from the noisiest to the cleanest level."),
    ScheduleInfo("ddim", "DDIM", ("ddim uniform",), "The spacing DDIM was published with.", None, flow=False),
    ScheduleInfo("beta", "Beta", (), "More steps at both ends, fewer in the middle; crisp shapes and detail."),
    ScheduleInfo(
        "kl_optimal", "KL Optimal", ("kl optimal",), "Spacing by the arctangent of the noise; good at few steps."
    ),
    ScheduleInfo(
        "align_your_steps",
        "Align Your Steps",
        ("ays", "Align Your Steps 11"),
        "Levels measured to be best for SD 1.5 and SDXL; strong at about 10 steps.",
        flow=False,
    ),
    ScheduleInfo("turbo", "Turbo", ("sd turbo",), "For Turbo models, 1 to 10 steps.", flow=False),
    ScheduleInfo(
        "linear_quadratic",
        "Linear Quadratic",
        ("linear-quadratic",),
        "Slow at first, then faster and faster; made for flow and video models.",
    ),
)


def find_schedule(name: str) -> ScheduleInfo:
    """The schedule of this key, label or alias, in any case.

    Raises:
        InvalidRequestError: If there is none; it names the nearest.

    >>> find_schedule("SGM uniform").key
    'sgm_uniform'
    """
    info = match(SCHEDULES, name)
    if info is None:
        raise unknown(SCHEDULES, name, field="schedule", what="schedule")
    return info
