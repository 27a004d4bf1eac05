"""Seconds of one denoiser call of transformers (SD 3.5 medium's and FLUX's widths) by PyTorch and by their graphs.

Both in bfloat16, in turns in one process, with the published widths, words and picture size (512 × 512) but few layers,
so that two copies fit into 4 GB: all blocks are alike, and the ratio does not hang on how many there are. Weights are
random, which does not change the time.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

import torch
from diffusers import FluxTransformer2DModel, SD3Transformer2DModel
from torch import Tensor

from benchmarks._report import Options, Outcome, run
from benchmarks._timing import alternate
from danqing.models.families.flux import packed, places, unpacked
from danqing.models.graphs.compiled import ShapedGraphs
from danqing.models.graphs.transformers import GraphTransformer, transformer_graph

BAR = 1.0
SIDE_LATENT_PX = 64
ROWS = {"sd3": 2, "flux": 1}
TOKENS = {"sd3": 333, "flux": 512}
"""Of text, as the pipelines have them."""


def build(kind: str, *, quick: bool) -> Any:
    """A random transformer in bfloat16: 0.55 and 0.69 billion numbers."""
    torch.manual_seed(1)
    torch.set_default_dtype(torch.bfloat16)
    try:
        if kind == "flux":
            heads = {"num_attention_heads": 1} if quick else {}
            net: Any = FluxTransformer2DModel(num_layers=1, num_single_layers=2, guidance_embeds=True, **heads)
        else:
            heads = 1 if quick else 24
            net = SD3Transformer2DModel(
                num_layers=2 if quick else 6,
                num_attention_heads=heads,
                caption_projection_dim=64 * heads,
                dual_attention_layers=(0,) if quick else (0, 1, 2),
                qk_norm="rms_norm",
            )
    finally:
        torch.set_default_dtype(torch.float32)
    return net.eval().requires_grad_(False)


def by_torch(net: Any, x: Tensor, times: Tensor, words: Tensor, options: dict[str, Any]) -> Tensor:
    """One call as diffusers makes it, latents in and out."""
    told = {"timestep": times, "encoder_hidden_states": words, "return_dict": False, **options}
    if isinstance(net, SD3Transformer2DModel):
        return net(hidden_states=x, **told)[0]
    sides = (x.shape[-2] // 2, x.shape[-1] // 2)
    ids = {"txt_ids": torch.zeros(words.shape[1], 3), "img_ids": places(*sides)}
    return unpacked(net(hidden_states=packed(x), **ids, **told)[0], *sides)


def sides_of(kind: str, *, quick: bool) -> dict[str, Callable[[], object]]:
    """The same call by PyTorch and by a graph."""
    net, rows, side = build(kind, quick=quick), ROWS[kind], 4 if quick else SIDE_LATENT_PX
    graph = GraphTransformer(
        net, ShapedGraphs(lambda: transformer_graph(net, torch.bfloat16), None, lambda more_bytes: more_bytes >= 0)
    )
    x = torch.randn(rows, 16, side, side).bfloat16()
    words = torch.randn(rows, TOKENS[kind], net.config["joint_attention_dim"]).bfloat16()
    options = {"pooled_projections": torch.randn(rows, net.config["pooled_projection_dim"]).bfloat16()}
    if kind == "flux":
        options["guidance"] = torch.full((rows,), 3.5)
    asked = (x, torch.full((rows,), 0.7 if kind == "flux" else 700.0), words, options)
    return {"torch": torch.inference_mode()(lambda: by_torch(net, *asked)), "graph": lambda: graph(*asked)}


def measure(options: Options) -> Outcome:
    """Each transformer's two sides in turns."""
    figures: dict[str, float] = {}
    details: dict[str, Any] = {"precision": "bfloat16", "rows": ROWS, "threads": torch.get_num_threads()}
    for kind in ("sd3", "flux"):
        options.say(f"measuring {kind} …")
        repeats = options.times(full=7, quick=2)
        rounds = alternate(sides_of(kind, quick=options.quick), repeats, torch.device("cpu"))
        figures[f"speedup_{kind}"] = rounds.ratio("torch", "graph")
        figures |= {f"{side}_{kind}_s": rounds.median_s(side) for side in ("torch", "graph")}
        details[kind] = rounds.details()
    passed = all(figures[f"speedup_{kind}"] >= BAR for kind in ("sd3", "flux"))
    return Outcome(figures, f"graphs ≥ {BAR} × PyTorch", passed, details)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    return run("dit_step", __doc__ or "", measure, argv)


if __name__ == "__main__":
    sys.exit(main())
