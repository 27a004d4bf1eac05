"""DCGAN: two convolutional networks against each other (Radford et al. 2015, arXiv 1511.06434)."""

from __future__ import annotations

import torch
from torch import Tensor

from danqing.training.own.foundation_gan import Gan
from danqing.training.own.foundation_nets import discriminator_loss, generator_loss
from danqing.training.own.methods.base import Settings


class Dcgan(Gan):
    """A generator that learns what a discriminator takes for real."""

    default = Settings(steps=4000, batch=32, learning_rate=2e-4)
    betas = (0.5, 0.999)
    kind = "DCGAN generator"
    source = "Radford et al. 2015 (arXiv 1511.06434); loss: Goodfellow et al. 2014 (arXiv 1406.2661), non-saturating"

    def advance(self, step: int) -> dict[str, float]:
        """The discriminator on real pictures and on painted ones, each batch with its own statistics; then the other.

        D(x) and D(G(z)) are its beliefs before it has learnt from this step.
        """
        real = self.real(step)
        with self.computing():
            fake = self.generator(self.noise(step))
            believed = self.critic(real).float()
            seen_through = self.critic(fake.detach()).float()
        loss = discriminator_loss(believed, seen_through)
        self.descend("discriminator", loss)
        # Only the generator learns from what follows.
        self.critic.requires_grad_(requires_grad=False)
        with self.computing():
            answer = self.critic(fake).float()
        own = generator_loss(answer)
        self.descend("generator", own)
        self.critic.requires_grad_(requires_grad=True)
        return {
            "loss": loss.item() + own.item(),
            "generator": own.item(),
            "discriminator": loss.item(),
            "D(x)": _belief(believed),
            "D(G(z))": _belief(seen_through),
        }


def _belief(logits: Tensor) -> float:
    return torch.sigmoid(logits.detach()).mean().item()
