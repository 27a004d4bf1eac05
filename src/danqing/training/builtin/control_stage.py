"""`python -m danqing.training.builtin.control_stage KIND`: trains, shows and exports one ControlNet of the family."""

from __future__ import annotations

import copy
import json
import sys
import tempfile
from datetime import UTC, datetime
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from diffusers import ControlNetModel

from danqing.spec.errors import InvalidRequestError
from danqing.training.builtin.captions import Words, say, style_words
from danqing.training.builtin.control import CLASSES, ControlData, control_run, hint_batch, train_control
from danqing.training.builtin.diffusion import make_schedule
from danqing.training.builtin.export import publish
from danqing.training.builtin.finished import Finished, SideJob, open_finished, side_main
from danqing.training.builtin.loop import Progress, step_rng
from danqing.training.builtin.sample import decode_pixels, save_grid, sigma_ladder
from danqing.training.commands import tell

ABOUT = {
    "line": "Follows lines: canny, line art, soft edges, scribbles, straight segments.",
    "block": "Follows areas and relief: colour regions, depth, normals.",
    "detail": "Keeps the picture and renews its detail: tile, blur.",
}


@torch.no_grad()
def sample_controlled(
    done: Finished, net: ControlNetModel | None, prompts: list[str], hints: torch.Tensor, seed: int, steps: int = 16
) -> torch.Tensor:
    """Latents `[b, c, h, w]` painted under control maps `[b, 3, H, W]`; `net = None` paints the same noise without."""
    models, schedule = done.models, make_schedule(done.config)
    shape = done.latents.shape[2:]
    noise = [torch.randn(shape, generator=torch.Generator().manual_seed(seed + i)) for i in range(len(prompts))]
    states = models.encode([*prompts, *[""] * len(prompts)], models.unet.device)
    sigmas, log_table = sigma_ladder(schedule, steps), np.log(schedule.sigmas)
    x = torch.stack(noise).to(models.unet.device) * sigmas[0]
    for sigma, following in pairwise(sigmas):
        place = float(np.interp(np.log(sigma), log_table, np.arange(len(log_table))))
        t = torch.full((2 * len(x),), place, device=x.device)
        both = torch.cat([x, x])
        scaled = both / (sigma**2 + 1) ** 0.5
        added: dict[str, object] = {}
        if net is not None:
            down, mid = net(scaled, t, states, torch.cat([hints, hints]), return_dict=False)
            added = {"down_block_additional_residuals": down, "mid_block_additional_residual": mid}
        v = models.unet(scaled, t, encoder_hidden_states=states, **added).sample
        cond, uncond = (both / (sigma**2 + 1) - v * sigma / (sigma**2 + 1) ** 0.5).chunk(2)
        guided = uncond + 3.0 * (cond - uncond)
        x = guided + (x - guided) * (following / sigma)
    return x


def draw_sheet(done: Finished, data: ControlData, net: ControlNetModel, path: Path, count: int = 8) -> None:
    """Three rows: control maps of evenly spread drawings, pictures with control, the same noise without."""
    rows = np.linspace(0, len(data.pool.pictures) - 1, count).astype(int)
    hints = hint_batch(data, [(int(r), 0) for r in rows], step_rng(done.config.seed, "eval", 0))
    found = [data.pool.pictures[int(r)] for r in rows]
    prompts = [say(Words(p.concept.words["en"][0], style_words(p.style, "en")[0]), "en") for p in found]
    maps = (hints.permute(0, 2, 3, 1).numpy() * 255).round().astype(np.uint8)
    painted = [decode_pixels(done.vae, sample_controlled(done, n, prompts, hints, 0)) for n in (net, None)]
    save_grid(np.concatenate([maps, *painted]), path, count)


def export_control(net: ControlNetModel, kind: str, job: SideJob, progress: Progress) -> Path:
    """Writes `controlnet/<base>-<kind>` beside the model: diffusers' layout, float16."""
    target = job.model_dir.parent / "controlnet" / f"{job.model_dir.name}-{kind}"
    about = {
        "name": target.name,
        "kind": "controlnet",
        "base": job.model_dir.name,
        "annotators": list(CLASSES[kind]),
        "description": ABOUT[kind],
        "made_by": "danqing.training.builtin.control_stage",
        "config": job.config.name,
        "config_sha256": job.config.digest(),
        "date": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "samples": progress.samples,
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        copy.deepcopy(net).half().save_pretrained(str(folder), safe_serialization=True)
        (folder / "danqing.json").write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
        publish(folder, target)
    return target


def control_stage(job: SideJob, kind: str) -> None:
    """The whole stage, from a finished run to the exported folder and a sheet of samples.

    Started from an exported model it goes on with the ControlNet beside that model, if there is one.
    """
    done = open_finished(job)
    data = ControlData(done.pool, done.latents, kind)
    own = None if job.start is None else job.start.parent / "controlnet" / f"{job.start.name}-{kind}"
    start = own if own is not None and (own / "config.json").is_file() else None
    net = train_control(done.models, data, job.config, job.run, job.until, start)
    progress = control_run(done.models, job.config, kind, job.run, job.device)[1].progress
    draw_sheet(done, data, net, job.run / "samples" / f"control-{kind}.png")
    export_control(net, kind, job, progress)


def main(argv: list[str]) -> int:
    """The command; 0 when done, 2 for a mistake in its input."""
    kind = argv[0] if argv else ""
    if kind not in CLASSES:
        return tell(InvalidRequestError("no such ControlNet", field="KIND", value=kind, allowed=", ".join(CLASSES)))
    return side_main(partial(control_stage, kind=kind), f"control-{kind}", argv[1:])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
