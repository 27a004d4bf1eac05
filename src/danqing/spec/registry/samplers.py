"""The samplers: names, labels, options and hints. Their mathematics is in `danqing.sampling`.

Labels, aliases and automatic schedules are those of AUTOMATIC1111's web UI, so that its infotexts and
API requests mean the same here.
"""

from __future__ import annotations

from dataclasses import dataclass

from danqing.spec.registry.lookup import match, normalise, unknown
from danqing.spec.registry.schedules import SCHEDULES, ScheduleInfo

_CHURN = ("s_churn", "s_tmin", "s_tmax", "s_noise")
_ANCESTRAL = ("eta", "s_noise")


@dataclass(frozen=True)
class SamplerInfo:
    """A sampler: how a run gets from noise to a picture.

    Attributes:
        key: Stable name in code, requests and records.
        name: The label AUTOMATIC1111 uses.
        aliases: Other accepted spellings.
        order: Model calls per step (for the adaptive sampler, per attempted step).
        stochastic: Whether it adds fresh noise on the way with its default options.
        default_schedule: Key of the schedule that "Automatic" means for it.
        options: The fields of `SamplerOptions` it reads.
        adaptive: Whether it chooses its own number of steps.
        discard_next_to_last_sigma: Whether its schedule is made one longer and loses its last level before zero.
        hint: One plain sentence for the UI.
        brownian: Whether it draws noise by interval (`NoiseSource.between`) instead of by step.
        uses_ensd: Whether A1111's "eta noise seed delta" applies.
        cfg_pp: Whether it needs the unconditional prediction beside the guided one.
        flow: Whether it can run a flow-matching model.
        default_eta: The eta used when the request gives none.
    """

    key: str
    name: str
    aliases: tuple[str, ...]
    order: int
    stochastic: bool
    default_schedule: str
    options: tuple[str, ...]
    adaptive: bool = False
    discard_next_to_last_sigma: bool = False
    hint: str = ""
    brownian: bool = False
    uses_ensd: bool = False
    cfg_pp: bool = False
    flow: bool = True
    default_eta: float = 1.0


SAMPLERS: tuple[SamplerInfo, ...] = (
    SamplerInfo(
        "dpmpp_2m",
        "DPM++ 2M",
        ("k_dpmpp_2m",),
        1,
        False,
        "karras",
        (),
        hint="Fast and dependable: good pictures in 20 to 30 steps.",
    ),
    SamplerInfo(
        "dpmpp_sde",
        "DPM++ SDE",
        ("k_dpmpp_sde",),
        2,
        True,
        "karras",
        ("eta", "s_noise", "r"),
        hint="Rich texture in few steps; each step takes twice as long.",
        brownian=True,
    ),
    SamplerInfo(
        "dpmpp_2m_sde",
        "DPM++ 2M SDE",
        ("k_dpmpp_2m_sde",),
        1,
        True,
        "exponential",
        ("eta", "s_noise"),
        hint="Like DPM++ 2M with fresh noise at each step: more texture, 25 to 40 steps.",
        brownian=True,
    ),
    SamplerInfo(
        "dpmpp_2m_sde_heun",
        "DPM++ 2M SDE Heun",
        ("k_dpmpp_2m_sde_heun",),
        1,
        True,
        "exponential",
        ("eta", "s_noise"),
        hint="DPM++ 2M SDE with a slightly different correction; a little softer.",
        brownian=True,
    ),
    SamplerInfo(
        "dpmpp_2s_a",
        "DPM++ 2S a",
        ("k_dpmpp_2s_a", "DPM++ 2S Ancestral", "dpmpp_2s_ancestral"),
        2,
        True,
        "karras",
        _ANCESTRAL,
        hint="Inventive and detailed; each step takes twice as long.",
        uses_ensd=True,
    ),
    SamplerInfo(
        "dpmpp_3m_sde",
        "DPM++ 3M SDE",
        ("k_dpmpp_3m_sde",),
        1,
        True,
        "exponential",
        ("eta", "s_noise"),
        discard_next_to_last_sigma=True,
        hint="For long runs of 30 steps and more, with a lower guidance.",
        brownian=True,
    ),
    SamplerInfo(
        "euler_a",
        "Euler a",
        ("k_euler_a", "k_euler_ancestral", "Euler Ancestral"),
        1,
        True,
        "uniform",
        _ANCESTRAL,
        hint="Quick and inventive: the picture keeps changing with more steps.",
        uses_ensd=True,
    ),
    SamplerInfo(
        "euler",
        "Euler",
        ("k_euler",),
        1,
        False,
        "uniform",
        _CHURN,
        hint="The simplest sampler: steady and soft, and it works with every model.",
    ),
    SamplerInfo(
        "lms",
        "LMS",
        ("k_lms",),
        1,
        False,
        "uniform",
        ("order",),
        hint="Looks back at four steps to aim better; wants 30 steps or more.",
    ),
    SamplerInfo(
        "heun",
        "Heun",
        ("k_heun",),
        2,
        False,
        "uniform",
        _CHURN,
        hint="Euler that checks every step: more exact, twice the time.",
    ),
    SamplerInfo(
        "dpm2",
        "DPM2",
        ("k_dpm_2", "dpm_2"),
        2,
        False,
        "karras",
        _CHURN,
        discard_next_to_last_sigma=True,
        hint="Exact like Heun, with its second look in the middle of the step.",
    ),
    SamplerInfo(
        "dpm2_a",
        "DPM2 a",
        ("k_dpm_2_a", "DPM2 Ancestral", "dpm_2_ancestral"),
        2,
        True,
        "karras",
        _ANCESTRAL,
        discard_next_to_last_sigma=True,
        hint="DPM2 with fresh noise at each step: lively, twice the time.",
        uses_ensd=True,
    ),
    SamplerInfo(
        "dpm_fast",
        "DPM fast",
        ("k_dpm_fast",),
        1,
        True,
        "uniform",
        ("eta", "s_noise"),
        hint="Spends exactly the steps you give on its own spacing; for 10 to 20 steps.",
        uses_ensd=True,
        flow=False,
    ),
    SamplerInfo(
        "dpm_adaptive",
        "DPM adaptive",
        ("k_dpm_ad", "k_dpm_adaptive"),
        3,
        True,
        "uniform",
        ("eta", "s_noise", "order", "rtol", "atol", "h_init", "pcoeff", "icoeff", "dcoeff", "accept_safety"),
        adaptive=True,
        hint="Chooses its own number of steps until it is exact; slow and very faithful.",
        uses_ensd=True,
    ),
    SamplerInfo(
        "restart",
        "Restart",
        ("restart",),
        2,
        True,
        "karras",
        ("s_noise",),
        hint="Goes back and repaints part of the way: clean detail, from 20 steps up; twice the time.",
        flow=False,
    ),
    SamplerInfo(
        "ddim",
        "DDIM",
        ("k_ddim",),
        1,
        False,
        "ddim",
        ("eta",),
        hint="The early classic: predictable, and good for repainting pictures.",
        default_eta=0.0,
    ),
    SamplerInfo(
        "ddim_cfgpp",
        "DDIM CFG++",
        ("ddim_cfg_pp", "ddim cfgpp"),
        1,
        False,
        "ddim",
        (),
        hint="DDIM for very low guidance: set CFG between 0.2 and 1.",
        cfg_pp=True,
    ),
    SamplerInfo(
        "plms",
        "PLMS",
        ("pndm", "k_plms"),
        1,
        False,
        "ddim",
        (),
        hint="DDIM that looks back at four steps; wants 30 steps or more.",
    ),
    SamplerInfo(
        "unipc",
        "UniPC",
        ("uni_pc", "UniPC bh1"),
        1,
        False,
        "sgm_uniform",
        ("order", "variant", "lower_order_final"),
        hint="Predicts and corrects in one go: good pictures in 10 to 20 steps.",
    ),
    SamplerInfo(
        "deis",
        "DEIS",
        ("deis_multistep",),
        1,
        False,
        "uniform",
        ("order",),
        hint="Exact extrapolation of the last steps: good pictures in 10 to 20 steps.",
    ),
    SamplerInfo(
        "ddpm",
        "DDPM",
        ("k_ddpm",),
        1,
        True,
        "uniform",
        ("s_noise",),
        hint="The original random walk: natural variety, wants 50 steps or more.",
    ),
    SamplerInfo(
        "lcm",
        "LCM",
        ("k_lcm",),
        1,
        True,
        "sgm_uniform",
        ("s_noise",),
        hint="For LCM models and LoRAs: 4 to 8 steps, CFG 1 to 2.",
    ),
    SamplerInfo(
        "tcd",
        "TCD",
        ("k_tcd",),
        1,
        True,
        "sgm_uniform",
        ("eta", "s_noise"),
        hint="For TCD models and LoRAs: 4 to 20 steps; eta 0 to 1 trades calm for detail.",
        flow=False,
        default_eta=0.3,
    ),
)


def split_legacy_name(name: str) -> tuple[str, str | None]:
    """Divide an old combined label into sampler and schedule.

    Returns:
        The label of the sampler and of the schedule; the schedule is None when the name has none, and the name
        comes back unchanged when it does not begin with a sampler.

    >>> split_legacy_name("DPM++ 2M Karras")
    ('DPM++ 2M', 'Karras')
    >>> split_legacy_name("Euler a")
    ('Euler a', None)
    """
    if match(SAMPLERS, name) is not None:
        return name, None
    wanted = normalise(name)
    endings = [(normalise(s), schedule) for schedule in SCHEDULES for s in _spellings(schedule)]
    for ending, schedule in sorted(endings, key=lambda pair: -len(pair[0])):
        if wanted.endswith(f" {ending}"):
            sampler = match(SAMPLERS, wanted[: -len(ending)])
            if sampler is not None:
                return sampler.name, schedule.name
    return name, None


def _spellings(schedule: ScheduleInfo) -> tuple[str, ...]:
    return (schedule.name, schedule.key, *schedule.aliases)


def find_sampler(name: str) -> SamplerInfo:
    """The sampler of this key, label, alias or old combined label, in any case.

    Raises:
        InvalidRequestError: If there is none; it names the nearest.

    >>> find_sampler("dpm++ 2m karras").key
    'dpmpp_2m'
    """
    info = match(SAMPLERS, split_legacy_name(name)[0])
    if info is None:
        raise unknown(SAMPLERS, name, field="sampler", what="sampler")
    return info
