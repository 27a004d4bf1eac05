"""The samplers by registry key."""

from __future__ import annotations

from collections.abc import Mapping

from danqing.sampling.consistency import ddim_cfgpp, lcm, tcd
from danqing.sampling.dpm_solver import dpm_adaptive, dpm_fast
from danqing.sampling.dpmpp import dpmpp_2m, dpmpp_2s_a
from danqing.sampling.euler import ddim, ddpm, dpm2, dpm2_a, euler, euler_a, heun
from danqing.sampling.multistep import deis, lms, plms
from danqing.sampling.parametrization import in_ve
from danqing.sampling.restart import restart
from danqing.sampling.sde import dpmpp_2m_sde, dpmpp_2m_sde_heun, dpmpp_3m_sde, dpmpp_sde
from danqing.sampling.types import SamplerFunction
from danqing.sampling.unipc import unipc

SAMPLERS: Mapping[str, SamplerFunction] = {
    "dpmpp_2m": dpmpp_2m,
    "dpmpp_sde": in_ve(dpmpp_sde),
    "dpmpp_2m_sde": in_ve(dpmpp_2m_sde),
    "dpmpp_2m_sde_heun": in_ve(dpmpp_2m_sde_heun),
    "dpmpp_2s_a": dpmpp_2s_a,
    "dpmpp_3m_sde": in_ve(dpmpp_3m_sde),
    "euler_a": euler_a,
    "euler": euler,
    "lms": lms,
    "heun": heun,
    "dpm2": dpm2,
    "dpm2_a": dpm2_a,
    "dpm_fast": in_ve(dpm_fast),
    "dpm_adaptive": in_ve(dpm_adaptive),
    "restart": in_ve(restart),
    "ddim": ddim,
    "ddim_cfgpp": ddim_cfgpp,
    "plms": plms,
    "unipc": unipc,
    "deis": deis,
    "ddpm": ddpm,
    "lcm": lcm,
    "tcd": tcd,
}
"""Keys equal those of `danqing.spec.registry.samplers.SAMPLERS` (tested)."""
