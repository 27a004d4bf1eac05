"""Sums of LoRAs as one LoRA: the products are added, not the factors, and brought back to the rank by an SVD.

The factors themselves have no mean that means anything: (up·A, A⁻¹·down) is the same change for every invertible A.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from danqing.training.own.networks.layers import TrainedLora
from danqing.training.own.networks.network import Network

Product: TypeAlias = tuple[Tensor, Tensor]
"""up [out, r] and down [r, inputs], float32 on the CPU; the change is their product, scale included."""
Products: TypeAlias = Mapping[str, Product]
"""By layer."""


def products_of(network: Network) -> dict[str, Product]:
    """What each layer of a LoRA adds, as two matrices."""
    found: dict[str, Product] = {}
    for key, layer in network.layers.items():
        lora = _lora(layer)
        up, down = lora.up.detach().flatten(1), lora.down.detach().flatten(1)
        found[key] = (up * lora.scale).cpu().clone(), down.cpu().clone()
    return found


def summed(parts: Sequence[tuple[Products, float]], rank: int) -> dict[str, Product]:
    """The LoRA of this rank that is nearest to a weighted sum of others (Eckart and Young 1936), layer by layer.

    Args:
        parts: LoRAs and their weights.
        rank: Of what comes out; fewer columns where the sum has a smaller rank.
    """
    found: dict[str, Product] = {}
    for key in parts[0][0]:
        ups = [products[key][0] * weight for products, weight in parts]
        downs = [products[key][1] for products, _ in parts]
        found[key] = _nearest(torch.cat(ups, 1).double(), torch.cat(downs, 0).double(), rank)
    return found


def _nearest(up: Tensor, down: Tensor, rank: int) -> Product:
    """The product's best approximation; the whole matrix is never made, only what lies between two QR's."""
    left, inner = torch.linalg.qr(up)
    right, other = torch.linalg.qr(down.T)
    u, values, v = torch.linalg.svd(inner @ other.T, full_matrices=False)
    root = values[:rank].sqrt()
    return (left @ u[:, :rank] * root).float(), (root[:, None] * (v[:rank] @ right.T)).float()


@torch.no_grad()
def put(network: Network, products: Products) -> None:
    """Make a LoRA add exactly these products, of its rank or less."""
    for key, layer in network.layers.items():
        lora = _lora(layer)
        up, down = products[key]
        count = up.shape[1]
        lora.up.zero_()
        lora.down.zero_()
        lora.up[:, :count] = (up / lora.scale).view(len(up), count, *lora.up.shape[2:]).to(lora.up)
        lora.down[:count] = down.view(count, *lora.down.shape[1:]).to(lora.down)


def _lora(layer: object) -> TrainedLora:
    if type(layer) is not TrainedLora:
        raise TypeError("only LoRAs are added up")
    return layer
