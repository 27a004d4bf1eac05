"""What DCGAN and WGAN-GP share: two networks, two optimisers, the file of the generator."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from danqing.spec.errors import UnsupportedError
from danqing.spec.training_methods import DcganRequest, WganRequest
from danqing.training.own.context import Context
from danqing.training.own.foundation import Foundation
from danqing.training.own.foundation_data import to_pixels
from danqing.training.own.foundation_nets import Discriminator, Generator, fresh_weights, settled
from danqing.training.own.methods.base import Settings, SteppingMethod
from danqing.training.own.seeds import torch_of

_PAINTED_AT_ONCE = 64
SCORED_PICTURES = 256


class Gan(Foundation, SteppingMethod):
    """A generator against another network.

    Attributes:
        default: Steps, batch and rate where the Request leaves them open.
        betas: Of both Adams.
        batch_norm: Whether the other network has it.
        other: What the other network is called.
    """

    default: ClassVar[Settings]
    betas: ClassVar[tuple[float, float]]
    batch_norm: ClassVar[bool] = True
    other: ClassVar[str] = "discriminator"
    request: DcganRequest | WganRequest

    @classmethod
    def open(cls, request: Any, context: Context) -> Self:
        """Pictures read, fresh networks made.

        Raises:
            DanqingError: The pictures or the settings do not do.
        """
        self = cls()
        if request.accumulate > 1:
            raise UnsupportedError(
                "two networks against each other cannot accumulate batches",
                field="accumulate",
                value=request.accumulate,
                allowed="1",
                next_step="take a larger batch",
            )
        self.begin(request, context)
        self.settings = Settings.of(request, cls.default)
        self.generator = Generator(request.latent_dim, request.width, request.size_px)
        self.critic = Discriminator(request.width, request.size_px, batch_norm=cls.batch_norm)
        for number, network in enumerate((self.generator, self.critic)):
            fresh_weights(network, torch_of(request.seed, "weights", number))
            network.to(context.device, memory_format=torch.channels_last)
        rate = self.settings.learning_rate
        self._adams: dict[str, Optimizer] = {
            name: Adam(network.parameters(), rate, cls.betas, fused=True) for name, network in self.modules().items()
        }
        return self

    def trainable(self) -> list[tuple[list[nn.Parameter], float]]:
        """The generator: it is what is averaged and counted."""
        return [(list(self.generator.parameters()), 1.0)]

    def modules(self) -> dict[str, nn.Module]:
        """Both."""
        return {"generator": self.generator, self.other: self.critic}

    def optimizers(self) -> dict[str, Optimizer]:
        """One Adam for each network."""
        return self._adams

    def real(self, number: int) -> Tensor:
        """Training pictures of one batch, on the device."""
        pictures = self.data.batch(self.request.seed, number, self.settings.batch)
        return pictures.to(self.context.device, memory_format=torch.channels_last)

    def noise(self, number: int) -> Tensor:
        """Fresh noise of one batch, on the device."""
        drawn = torch_of(self.request.seed, "latent", number)
        return self.generator.noise(self.settings.batch, drawn).to(self.context.device)

    def descend(self, name: str, loss: Tensor) -> None:
        """One step of one network's Adam down a loss."""
        self._adams[name].zero_grad(set_to_none=True)
        loss.backward()
        self._adams[name].step()

    @torch.no_grad()
    def paint(self, count: int) -> NDArray[np.uint8]:
        """Pictures of the fixed noise."""
        return paint(settled(self.generator, self.request.seed), count, self.request.seed)

    def score(self, step: int) -> float | None:
        """Less the Fréchet distance to held-out pictures."""
        del step
        distance = self.eye.distance(self.eye.vectors(self.paint(SCORED_PICTURES)))
        return None if distance is None else -distance

    def export(self, folder: Path, name: str, step: int) -> list[Path]:
        """`NAME.safetensors` and `NAME.json`: weights with settled batch norms, and how to build the network."""
        own = settled(self.generator, self.request.seed)
        config = {
            "kind": "danqing-generator",
            "method": self.request.method,
            "latent_dim": own.latent_dim,
            "width": own.width,
            "size_px": own.size_px,
            "step": step,
        }
        tensors = {key: value.detach().cpu().contiguous() for key, value in own.state_dict().items()}
        weights, about = folder / f"{name}.safetensors", folder / f"{name}.json"
        temporary = weights.with_suffix(".tmp")
        save_file(tensors, temporary, {key: str(value) for key, value in config.items()})
        temporary.replace(weights)
        about.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        return [weights, about]


@torch.no_grad()
def paint(generator: Generator, count: int, seed: int) -> NDArray[np.uint8]:
    """The first `count` pictures of a seed `[count, s, s, 3]`, by a generator with settled batch norms."""
    noise = generator.noise(count, torch_of(seed, "fixed", 0)).to(next(generator.parameters()).device)
    return np.concatenate([to_pixels(generator(some)) for some in noise.split(_PAINTED_AT_ONCE)])
