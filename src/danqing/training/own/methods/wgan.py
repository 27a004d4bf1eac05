"""WGAN-GP: the same generator against a critic whose slope is held at 1 (Gulrajani et al. 2017, arXiv 1704.00028)."""

from __future__ import annotations

import torch

from danqing.spec.training_methods import WganRequest
from danqing.training.own.foundation_gan import Gan
from danqing.training.own.foundation_nets import critic_loss, gradient_penalty
from danqing.training.own.methods.base import Settings
from danqing.training.own.seeds import torch_of


class Wgan(Gan):
    """A generator that lowers the critic's estimate of Wasserstein's distance."""

    default = Settings(steps=700, batch=32, learning_rate=1e-4)
    betas = (0.0, 0.9)
    batch_norm = False
    other = "critic"
    kind = "WGAN-GP generator"
    source = "Gulrajani et al. 2017 (arXiv 1704.00028)"
    request: WganRequest

    def advance(self, step: int) -> dict[str, float]:
        """`critic_steps` of the critic, each on pictures and noise of its own, then one of the generator.

        `distance` is the estimate of Wasserstein's distance; the slope's gradient is taken in float32.
        """
        rounds = self.request.critic_steps
        distance = penalty = 0.0
        for number in range(step * rounds, (step + 1) * rounds):
            distance, penalty = self._criticise(number)
        self.critic.requires_grad_(requires_grad=False)
        with self.computing():
            score = self.critic(self.generator(self._fresh(step))).float()
        own = -score.mean()
        self.descend("generator", own)
        self.critic.requires_grad_(requires_grad=True)
        return {"loss": distance, "distance": distance, "penalty": penalty, "generator": own.item()}

    def _fresh(self, step: int) -> torch.Tensor:
        drawn = torch_of(self.request.seed, "latent of the generator", step)
        return self.generator.noise(self.settings.batch, drawn).to(self.context.device)

    def _criticise(self, number: int) -> tuple[float, float]:
        """A step of the critic; the distance it saw and the penalty."""
        real = self.real(number)
        with torch.no_grad(), self.computing():
            fake = self.generator(self.noise(number)).float()
        with self.computing():
            scores = self.critic(torch.cat([real, fake])).float()
        loss = critic_loss(*scores.chunk(2))
        shares = torch.rand(len(real), generator=torch_of(self.request.seed, "between", number))
        penalty = gradient_penalty(self.critic, real, fake, shares)
        self.descend("critic", loss + self.request.gradient_penalty * penalty)
        return -loss.item(), penalty.item()
