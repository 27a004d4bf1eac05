"""LoRA, LyCORIS, hypernetwork and embedding files with random numbers, in the layouts that their trainers write."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from danqing.adapters.hypernet import HypernetShape, Hypernetwork, write_hypernetwork

Tensors = dict[str, Tensor]
SIZE = 0.3
"""How large the changes are: large enough to be seen in a picture of six steps."""


def noise(seed: int, *shape: int, size: float = SIZE) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * size


def layers(root: nn.Module, *endings: str, convs: bool = False) -> list[tuple[str, nn.Module]]:
    """The linear layers (and convolutions) of a module whose paths end so, all of them where none is given."""
    kinds = (nn.Linear, nn.Conv2d) if convs else (nn.Linear,)
    found = [(path, module) for path, module in root.named_modules() if isinstance(module, kinds)]
    return [(path, module) for path, module in found if not endings or path.endswith(endings)]


ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
TEXT = ("q_proj", "v_proj", "fc1")


def kohya(prefix: str, path: str) -> str:
    """kohya's name of a layer: `lora_unet_down_blocks_0_…`, with `text_model` in text encoders."""
    flat = path.replace(".", "_")
    if prefix.startswith("lora_te") and not flat.startswith("text_model"):
        flat = f"text_model_{flat}"
    return f"{prefix}_{flat}"


def low_rank(module: Any, seed: int, rank: int = 2) -> tuple[Tensor, Tensor]:
    """down and up for a linear layer or a convolution."""
    weight = module.weight
    down = noise(seed, rank, *weight.shape[1:])
    up = noise(seed + 1, weight.shape[0], rank, *([1, 1] if weight.ndim == 4 else []))
    return down, up


def lora_tensors(
    root: nn.Module, prefix: str, chosen: Iterable[tuple[str, nn.Module]] | None = None, seed: int = 0
) -> Tensors:
    """A LoRA in kohya's layout."""
    found: Tensors = {}
    for index, (path, module) in enumerate(chosen if chosen is not None else layers(root, *ATTENTION)):
        down, up = low_rank(module, seed * 1000 + 2 * index)
        name = kohya(prefix, path)
        found |= {f"{name}.lora_down.weight": down, f"{name}.lora_up.weight": up, f"{name}.alpha": torch.tensor(1.0)}
    return found


def peft_tensors(
    root: nn.Module, part: str, chosen: Iterable[tuple[str, nn.Module]] | None = None, seed: int = 0
) -> Tensors:
    """The same LoRA in PEFT's layout, without alpha."""
    found: Tensors = {}
    for index, (path, module) in enumerate(chosen if chosen is not None else layers(root, *ATTENTION)):
        down, up = low_rank(module, seed * 1000 + 2 * index)
        found |= {f"{part}.{path}.lora_A.weight": down, f"{part}.{path}.lora_B.weight": up}
    return found


def save(path: Path, tensors: Tensors, metadata: dict[str, str] | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path, metadata)
    return path


def peft_metadata(rank: int, alpha: float, *, rslora: bool = False, part: str = "unet") -> dict[str, str]:
    config = {f"{part}.r": rank, f"{part}.lora_alpha": alpha, f"{part}.use_rslora": rslora}
    return {"lora_adapter_metadata": json.dumps(config)}


def save_lora(path: Path, model: Any, *, seed: int, metadata: dict[str, str] | None = None) -> Path:
    """A LoRA for both parts of a loaded model, as kohya's trainer writes it."""
    unet = lora_tensors(model.unet, "lora_unet", seed=seed)
    text = lora_tensors(model.text.model, "lora_te", layers(model.text.model, *TEXT), seed=seed + 1)
    return save(path, unet | text, {"ss_output_name": f"trained-{path.stem}", **(metadata or {})})


def lycoris_tensors(algorithm: str, name: str, module: Any, seed: int = 0) -> Tensors:
    """One layer's change in one of LyCORIS's ways, under kohya's name of the layer."""
    return {f"{name}.{key}": tensor for key, tensor in _LYCORIS[algorithm](module.weight, seed).items()}


def _loha(weight: Tensor, seed: int) -> Tensors:
    out, inside = weight.shape[0], weight[0].numel()
    shapes = {"hada_w1_a": (out, 2), "hada_w1_b": (2, inside), "hada_w2_a": (out, 2), "hada_w2_b": (2, inside)}
    numbers = {key: noise(seed + i, *shape, size=1.0) for i, (key, shape) in enumerate(shapes.items())}
    return numbers | {"alpha": torch.tensor(1.0)}


def _lokr(weight: Tensor, seed: int) -> Tensors:
    out, inside = weight.shape[0], weight.shape[1]
    rest = weight[0, 0].numel()
    shapes = {"lokr_w1": (4, 4), "lokr_w2_a": (out // 4, 2), "lokr_w2_b": (2, inside // 4 * rest)}
    numbers = {key: noise(seed + i, *shape, size=0.7) for i, (key, shape) in enumerate(shapes.items())}
    return numbers | {"alpha": torch.tensor(2.0)}


def _ia3(weight: Tensor, seed: int) -> Tensors:
    return {"weight": noise(seed, 1, weight.shape[1]), "on_input": torch.tensor(True)}


def _full(weight: Tensor, seed: int) -> Tensors:
    return {"diff": noise(seed, *weight.shape, size=0.1), "diff_b": noise(seed + 1, weight.shape[0], size=0.1)}


def _norm(weight: Tensor, seed: int) -> Tensors:
    return {"w_norm": noise(seed, *weight.shape), "b_norm": noise(seed + 1, *weight.shape)}


def _oft(weight: Tensor, seed: int) -> Tensors:
    size = weight.shape[0] // 4
    return {"oft_blocks": noise(seed, 4, size, size, size=0.1), "alpha": torch.tensor(0.0)}


_LYCORIS: dict[str, Callable[[Tensor, int], Tensors]] = {
    "loha": _loha, "lokr": _lokr, "ia3": _ia3, "full": _full, "norm": _norm, "oft": _oft,
}  # fmt: skip


def cloneofsimo_tensors(unet: nn.Module, text: nn.Module, seed: int = 0) -> Tensors:
    """The first trainer's layout: numbered layers, in the order in which diffusers had them in 2022."""
    order = ("attn1.to_q", "attn1.to_k", "attn1.to_v", "attn1.to_out.0", "ff.net.0.proj")
    order += ("attn2.to_q", "attn2.to_k", "attn2.to_v", "attn2.to_out.0")
    modules = dict(unet.named_modules())
    blocks = [path for path in modules if path.rpartition(".")[0].endswith("transformer_blocks")]
    ordered = [modules[f"{block}.{layer}"] for block in blocks for layer in order]
    attentions = [module for path, module in text.named_modules() if path.endswith("self_attn")]
    texts = [
        getattr(attention, name) for attention in attentions for name in ("k_proj", "v_proj", "q_proj", "out_proj")
    ]
    found: Tensors = {"<s1>": noise(seed + 5, texts[0].weight.shape[0])}
    for part, chosen in (("unet", ordered), ("text_encoder", texts)):
        for index, module in enumerate(chosen):
            down, up = low_rank(module, seed * 100 + 2 * index)
            found |= {f"{part}:{index}:down": down, f"{part}:{index}:up": up}
    return found


def save_hypernetwork(path: Path, widths: Iterable[int], *, seed: int = 0, **shape: Any) -> Path:
    """A hypernetwork as A1111 writes it, with nets that change something."""
    form = HypernetShape(**shape)
    pairs = {width: (form.build(width), form.build(width)) for width in widths}
    for i, pair in enumerate(pairs.values()):
        for j, net in enumerate(pair):
            for k, parameter in enumerate(net.parameters()):
                parameter.data = noise(seed * 997 + i * 100 + j * 10 + k, *parameter.shape, size=0.2)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_hypernetwork(path, Hypernetwork(form, pairs, {"name": path.stem, "step": 10}))
    return path


def save_embedding(path: Path, vectors: int, width: int, *, seed: int = 0) -> Path:
    """A textual inversion as A1111 writes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = {
        "string_to_token": {"*": 265},
        "string_to_param": {"*": noise(seed, vectors, width, size=2.0)},
        "name": path.stem,
    }
    torch.save(data | {"step": 5, "sd_checkpoint": None, "sd_checkpoint_name": None}, path)
    return path
