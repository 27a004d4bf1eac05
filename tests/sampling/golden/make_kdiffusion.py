"""Writes kdiffusion.json: what k-diffusion 0.1.1 computes on Gaussian data, driven as AUTOMATIC1111 drives it.

Usage: pip download --no-deps k-diffusion==0.1.1.post1, unzip it, then
    python make_kdiffusion.py PATH/k_diffusion/sampling.py
"""

from __future__ import annotations

import importlib.util
import json
import sys
import types
from pathlib import Path

import torch

MU, SD = 0.7, 0.5
SHAPE = (1, 2, 2)
SEEDS = (7, 11)
STEPS = 8


def load(path: str):
    package = types.ModuleType("kd")
    package.__path__ = []
    utils = types.ModuleType("kd.utils")
    utils.append_dims = lambda x, n: x[(...,) + (None,) * (n - x.ndim)]
    odeint = types.ModuleType("torchdiffeq")
    odeint.odeint = None
    sys.modules.update({"kd": package, "kd.utils": utils, "torchdiffeq": odeint})
    package.utils = utils
    spec = importlib.util.spec_from_file_location("kd.sampling", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Rows:
    """`torch` with a randn_like that draws each row from its own generator."""

    def __init__(self) -> None:
        self.generators = [torch.Generator().manual_seed(seed) for seed in SEEDS]

    def randn_like(self, x):
        return torch.stack([torch.randn(SHAPE, generator=g, dtype=torch.float32) for g in self.generators])

    def __getattr__(self, name):
        return getattr(torch, name)


def model(x, sigma):
    s = sigma.reshape(-1, 1, 1, 1)
    return (SD**2 * x + s**2 * MU) / (SD**2 + s**2)


CASES = {
    "euler": ("sample_euler", {}),
    "euler_churn": ("sample_euler", {"s_churn": 4.0, "s_tmin": 0.2, "s_tmax": 9.0, "s_noise": 1.003}),
    "heun": ("sample_heun", {}),
    "heun_churn": ("sample_heun", {"s_churn": 4.0}),
    "dpm2": ("sample_dpm_2", {}),
    "lms": ("sample_lms", {}),
    "dpmpp_2m": ("sample_dpmpp_2m", {}),
    "euler_a": ("sample_euler_ancestral", {}),
    "euler_a_eta": ("sample_euler_ancestral", {"eta": 0.6, "s_noise": 1.01}),
    "dpm2_a": ("sample_dpm_2_ancestral", {}),
    "dpmpp_2s_a": ("sample_dpmpp_2s_ancestral", {}),
    "dpmpp_sde": ("sample_dpmpp_sde", {}),
    "dpmpp_sde_eta": ("sample_dpmpp_sde", {"eta": 0.5}),
    "dpmpp_2m_sde": ("sample_dpmpp_2m_sde", {}),
    "dpmpp_2m_sde_heun": ("sample_dpmpp_2m_sde", {"solver_type": "heun"}),
    "dpmpp_3m_sde": ("sample_dpmpp_3m_sde", {}),
    "dpm_fast": ("sample_dpm_fast", {"eta": 1.0}),
    "dpm_fast_eta0": ("sample_dpm_fast", {"eta": 0.0}),
    "dpm_adaptive_eta0": ("sample_dpm_adaptive", {"eta": 0.0}),
    "dpm_adaptive_order2": ("sample_dpm_adaptive", {"eta": 0.0, "order": 2}),
    "dpm_adaptive": ("sample_dpm_adaptive", {"eta": 1.0}),
}


def one(kd, function: str, options: dict, seed_count: int) -> list[float]:
    rows = Rows()
    rows.generators = rows.generators[:seed_count]
    kd.torch = rows
    sigmas = kd.get_sigmas_karras(STEPS, 0.0292, 14.6146).double()
    x = rows.randn_like(None).double() * sigmas[0]
    call = dict(options)
    if "sde" in function:
        call["noise_sampler"] = kd.BrownianTreeNoiseSampler(
            x.float(), sigmas[-2], sigmas[0], seed=list(SEEDS[:seed_count])
        )
    if function in {"sample_dpm_fast", "sample_dpm_adaptive"}:
        low, high = sigmas[-2].item(), sigmas[0].item()
        count = {"n": STEPS} if "fast" in function else {}
        # its own scalars in float64, or their rounding hides the method
        torch.set_default_dtype(torch.float64)
        out = getattr(kd, function)(model, x, low, high, disable=True, **count, **call)
        torch.set_default_dtype(torch.float32)
    else:
        out = getattr(kd, function)(model, x, sigmas, disable=True, **call)
    return out.flatten().tolist()


def main() -> None:
    kd = load(sys.argv[1])
    kept = kd.torch
    sigmas = {
        "karras": kd.get_sigmas_karras(10, 0.0292, 14.6146).tolist(),
        "exponential": kd.get_sigmas_exponential(10, 0.0292, 14.6146).tolist(),
        "polyexponential": kd.get_sigmas_polyexponential(10, 0.0292, 14.6146, rho=0.7).tolist(),
    }
    # the adaptive sampler couples the rows of a batch there, and not here: one row
    results = {name: one(kd, f, o, 1 if "adaptive" in name else 2) for name, (f, o) in CASES.items()}
    kd.torch = kept
    options = {name: o for name, (_, o) in CASES.items()}
    data = {"seeds": SEEDS, "steps": STEPS, "options": options, "sigmas": sigmas, "results": results}
    target = Path(__file__).with_name("kdiffusion.json")
    target.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(f"wrote {target}\n")


if __name__ == "__main__":
    main()
