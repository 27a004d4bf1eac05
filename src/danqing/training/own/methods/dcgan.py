"""DCGAN: two convolutional networks against each other (Radford et al. 2015, arXiv 1511.06434)."""

from __future__ import annotations

import torch
from torch import Tensor

from danqing.spec.training_methods import DcganRequest
from danqing.training.own.foundation_gan import Gan
from danqing.training.own.foundation_nets import discriminator_loss, generator_loss, shifted
from danqing.training.own.methods.base import Settings
from danqing.training.own.seeds import torch_of


class Dcgan(Gan):
    """A generator that learns what a discriminator takes for real."""

    default = Settings(steps=8000, batch=32, learning_rate=2e-4)
    betas = (0.5, 0.999)
    kind = "DCGAN generator"
    source = "Radford et al. 2015 (arXiv 1511.06434); loss: Goodfellow et al. 2014 (arXiv 1406.2661), non-saturating"
    request: DcganRequest

    def advance(self, step: int) -> dict[str, float]:
        """The discriminator on real pictures and on painted ones, each batch with its own statistics; then the other.

        D(x) and D(G(z)) are its beliefs before it has learnt from this step.
        """
        drawn = torch_of(self.request.seed, "shift", step)
        real = self.real(step)
        with self.computing():
            fake = self.generator(self.noise(step)).float()
        believed = self._judged(real, drawn)
        seen_through = self._judged(fake.detach(), drawn)
        loss = discriminator_loss(believed, seen_through, self.request.label_smoothing)
        self.descend("discriminator", loss)
        # Only the generator learns from what follows.
        self.critic.requires_grad_(requires_grad=False)
        own = generator_loss(self._judged(fake, drawn))
        self.descend("generator", own)
        self.critic.requires_grad_(requires_grad=True)
        return {
            "loss": loss.item() + own.item(),
            "generator": own.item(),
            "discriminator": loss.item(),
            "D(x)": _belief(believed),
            "D(G(z))": _belief(seen_through),
        }

    def _judged(self, pictures: Tensor, drawn: torch.Generator) -> Tensor:
        """Logits `[n]` of pictures as the discriminator sees them: moved."""
        seen = shifted(pictures, self.request.shift, drawn).contiguous(memory_format=torch.channels_last)
        with self.computing():
            return self.critic(seen).float()


def _belief(logits: Tensor) -> float:
    return torch.sigmoid(logits.detach()).mean().item()
