"""ArtAug (Duan et al. 2024, arXiv 2412.12888): what the review loop mends again and again, as one enhancement LoRA.

Differential training, group by group (a group of one pair is the paper's way): LoRA 1 overfits the pictures *before*
and is frozen in; LoRA 2 learns on top of it how *after* differs, so that it holds the difference alone and not what is
shown; LoRA 1 is thrown away. A LoRA 2 that clearly makes the judge's score fall on its own briefs (other seeds) is
dropped. The others are averaged: the mean of their products (their factors have no mean that means anything), brought
back to the rank by an SVD; what the noise of single groups left in them is lost. What the mean gains on held-back
briefs decides how strongly it is fused into the model, and whether at all. The next round starts from the fused model:
it paints the *before* of every pair anew.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Self

import torch
from PIL import Image
from torch import Tensor, nn
from torch.optim import Optimizer

from danqing.models.families.sd import Added
from danqing.review.scoring import Judge
from danqing.spec.refine import Scores
from danqing.spec.training_methods import ArtAugRequest
from danqing.training.own.artaug import (
    Gain,
    Plan,
    Stage,
    check_briefs,
    check_request,
    make_groups,
    metadata,
    moved,
    open_judge,
    read_figures,
    read_result,
    result_file,
    seeded,
    shown,
    write_result,
)
from danqing.training.own.artaug_report import groups_told, named, nothing_told, rounds_told
from danqing.training.own.context import Context
from danqing.training.own.data import bucket_sizes
from danqing.training.own.methods import diffusion
from danqing.training.own.methods.base import CardFacts, Sample, Settings, SteppingMethod
from danqing.training.own.methods.diffusion import SAMPLE_SEED
from danqing.training.own.networks.average import Products, products_of, put, summed
from danqing.training.own.networks.network import Network, write_network
from danqing.training.own.noise import Levels, noised, squared_error
from danqing.training.own.opened import Opened, open_model
from danqing.training.own.optimizers import default_rate, make_optimizer, rate_factor, set_rate
from danqing.training.own.pairs import Pair, pairs_digest, read_pairs
from danqing.training.own.pictures import to_tensor
from danqing.training.own.sampling import Look, Painting, grid, paint
from danqing.training.own.seeds import rng_of, torch_of

DEFAULTS = {
    "danqing": Settings(steps=150, batch=8, learning_rate=1e-3),
    "*": Settings(steps=100, batch=1, learning_rate=2e-4),
}
"""By family of the model; steps are those of one LoRA 2."""
BEFORE_SHARE = 1.5
"""LoRA 1's steps to LoRA 2's, where nobody says otherwise."""
EMPTY_SHARE = 0.15
"""Of the showings without words: guidance compares with those."""
FILTER_SEEDS, FILTER_PICTURES = 4, 24
"""Of the brief of a single pair; of all briefs of a group together."""
FILTER_STRENGTH = 0.5
"""At which a group's LoRA 2 is judged; alone and at 1 it says too much, the mean of several says it at 1."""
CHECK_PICTURES = 64
"""Standard error of the gain about 0.007 on the built-in model; as many again confirm what was chosen by them."""
CHECK_STEPS = 30  # at most: what is measured is what people will paint
STRENGTHS = (0.25, 0.5, 0.75, 1.0)
_SAMPLES = 4


class ArtAug(SteppingMethod):
    """Three LoRAs on one model: what is fused, LoRA 1 (`before`) and LoRA 2 (`after`)."""

    request: ArtAugRequest
    opened: Opened
    levels: Levels
    plan: Plan
    pairs: list[Pair]
    groups: list[list[Pair]]
    look: Look
    briefs: list[str]
    networks: dict[str, Network]
    _optimizers: dict[str, Optimizer]

    @classmethod
    def open(cls, request: ArtAugRequest, context: Context) -> Self:
        """Model and pairs, and three fresh networks.

        Raises:
            DanqingError: The model or the pairs cannot be used, or the network is no plain LoRA.
        """
        check_request(request)
        method = cls()
        method.request, method.context = request, context
        method.opened = open_model(request.model, context, request.precision)
        size_px = request.size_px or method.opened.native_px
        pairs = read_pairs(request.pairs, context.sets_dir, bucket_sizes(method.opened, size_px, buckets=True))
        method.briefs, method.pairs = check_briefs(request, pairs)
        method.levels = diffusion.choose_levels(method.opened)
        one = Settings.of(request, diffusion.family_settings(method.opened, DEFAULTS))
        before = request.before_steps or round(one.steps * BEFORE_SHARE)
        method.groups = make_groups(method.pairs, request.group, request.seed)
        method.plan = Plan(request.rounds, len(method.groups), before, one.steps)
        method.settings = Settings(method.plan.steps, one.batch, one.learning_rate)
        method.look = Look.of(method.opened, request.size_px, min(method.opened.info.defaults.steps, CHECK_STEPS))
        method._make_networks()
        method._texts, method._latents, method._judge = {}, {}, None
        return method

    _texts: dict[str, tuple[Tensor, Tensor | None]]
    _latents: dict[tuple[int, int, str], Tensor]
    _judge: Judge | None

    def _make_networks(self) -> None:
        parts: dict[str, nn.Module] = {"unet": self.opened.unet}
        # Every LoRA 2 begins alike, so that what they share is not lost among differences of their beginnings.
        self.networks = {
            name: Network(parts, self.request.network, self.request.seed).attach()
            for name in ("fused", "before", "after")
        }
        rate = default_rate(self.request, self.settings.learning_rate)
        self._optimizers = {
            name: make_optimizer(self.request, [(self.networks[name].parameters_of("unet"), 1.0)], rate)
            for name in ("before", "after")
        }
        self._rate = rate

    _rate: float

    def trainable(self) -> list[tuple[list[nn.Parameter], float]]:
        """LoRA 1 and LoRA 2."""
        return [(self.networks[name].parameters_of("unet"), 1.0) for name in ("before", "after")]

    def modules(self) -> dict[str, nn.Module]:
        """All three; finished LoRA 2s lie in files of the run's folder."""
        return dict(self.networks)

    def optimizers(self) -> dict[str, Optimizer]:
        """One for LoRA 1, one for LoRA 2, forgetful between groups."""
        return self._optimizers

    def advance(self, step: int) -> dict[str, float]:
        """A step of LoRA 1 or LoRA 2; at a group's end it is judged, at a round's end the mean."""
        stage = self.plan.at(step)
        if stage.local == 0:
            self._begin(stage)
        for name, network in self.networks.items():
            network.requires_grad_(name == stage.name)
        optimizer = self._optimizers[stage.name]
        set_rate(optimizer, self._rate * rate_factor(self.request, stage.local, stage.length))
        with self.acting(after=float(stage.name == "after")):
            loss = self._error(stage)
        torch.autograd.backward(loss)
        if self.request.grad_clip > 0:
            nn.utils.clip_grad_norm_(self.networks[stage.name].parameters(), self.request.grad_clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if stage.is_last and stage.name == "after" and not self.context.estimating:
            self._end_group(stage)
            if stage.group == self.plan.groups - 1:
                self._end_round(stage.round)
        return {"loss": float(loss.detach()), "round": stage.round + 1.0, "pair": stage.group + 1.0}

    @contextmanager
    def acting(self, *, fused: float = 1.0, before: float = 1.0, after: float = 1.0) -> Iterator[None]:
        """Inside, the three networks act with these strengths."""
        with (
            self.networks["fused"].at(fused),
            self.networks["before"].at(before),
            self.networks["after"].at(after),
        ):
            yield

    def _begin(self, stage: Stage) -> None:
        """A fresh LoRA, and an optimiser that remembers nothing."""
        chosen = [stage.name] if stage.name == "after" else ["before", "after"]
        for name in chosen:
            network = self.networks[name]
            with torch.no_grad():
                for number, layer in enumerate(network.layers.values()):
                    for one in layer.parameters():
                        one.zero_()
                    layer.reset(torch_of(self.request.seed, "network", number))  # type: ignore[operator]
            self._optimizers[name].state.clear()

    def _error(self, stage: Stage) -> Tensor:
        """The weighted squared error of a batch of the group's pictures, each with its own level and noise.

        LoRA 1 learns *before*. LoRA 2 sees the same and answers what LoRA 1 does, moved by *after* − *before*: what
        LoRA 1 has not learnt is no affair of LoRA 2. Without words it leaves everything as it is.
        """
        opened, count, seed = self.opened, self.settings.batch, self.request.seed
        group = self.groups[stage.group]
        rows = shown(len(group), count, seed, stage)
        before = self._latents_of(stage, "before")[rows].to(opened.device)
        noise = torch.randn(before.shape, generator=torch_of(seed, "noise", stage.draw)).to(opened.device)
        times = torch.from_numpy(self.levels.draw(seed, stage.draw, count)).to(opened.device)
        empty = rng_of(seed, "words", stage.draw).random(count) < EMPTY_SHARE
        read = [self._read("" if left_out else group[row].brief) for left_out, row in zip(empty, rows, strict=True)]
        context = torch.cat([states for states, _ in read])
        added = self._added([one for _, one in read if one is not None], group[0])
        alphas = self.levels.signal(times)
        gamma = 0.0 if opened.info.family == "danqing" else diffusion.MIN_SNR_GAMMA
        batch = noised(before, noise, alphas, opened.prediction, gamma)
        if stage.name == "after":
            said = torch.from_numpy(~empty).to(before).view(-1, 1, 1, 1)
            difference = (self._latents_of(stage, "after")[rows].to(opened.device) - before) * said
            with torch.no_grad(), self.acting(after=0.0):
                known = opened.predict(batch.x, times, context, added)
            batch = replace(batch, target=known + moved(difference, alphas, opened.prediction))
        return squared_error(opened.predict(batch.x, times, context, added), batch).mean()

    def _added(self, pooled: Sequence[Tensor], pair: Pair) -> Added | None:
        if not self.opened.is_sdxl or not pooled:
            return None
        wide, high = pair.before.size
        numbers = torch.tensor([(high, wide, 0, 0, high, wide)] * len(pooled), dtype=torch.float32)
        return Added(torch.cat(list(pooled)), numbers.to(self.opened.device))

    def _read(self, words: str) -> tuple[Tensor, Tensor | None]:
        if words not in self._texts:
            with torch.no_grad():
                self._texts[words] = self.opened.read_text(self.opened.token_ids([words]))
        return self._texts[words]

    def _latents_of(self, stage: Stage, side: str) -> Tensor:
        """Of a group's pictures [n, c, h, w]; from the second round on the model itself paints what was before."""
        key = (stage.round, stage.group, side)
        if key not in self._latents:
            group = self.groups[stage.group]
            pictures = [pair.after if side == "after" else pair.before for pair in group]
            if side == "before" and stage.round > 0:
                with self.acting(before=0.0, after=0.0):
                    pictures = self._painted([Painting(pair.brief, pair.seed) for pair in group], pictures[0].size)
            found = [self.opened.encode_pictures(to_tensor(picture)[None]) for picture in pictures]
            kept = {one: value for one, value in self._latents.items() if one[:2] == key[:2]}
            self._latents = {**kept, key: torch.cat(found)}
        return self._latents[key]

    def _painted(self, wanted: Sequence[Painting], size: tuple[int, int] | None = None) -> list[Image.Image]:
        wide, high = size or (self.look.width_px, self.look.height_px)
        training = self.networks["after"].training
        for network in self.networks.values():
            network.eval()
        try:
            return paint(self.opened, wanted, replace(self.look, width_px=wide, height_px=high))
        finally:
            for network in self.networks.values():
                network.train(training)

    def _end_group(self, stage: Stage) -> None:
        """Judge LoRA 2 by its own briefs under seeds that it never saw, and keep it in a file."""
        group = self.groups[stage.group]
        wanted = self.filtering(group)
        with self.acting(before=0.0, after=0.0):
            plain = self._judged(wanted)
        with self.acting(before=0.0, after=1.0 if len(group) == 1 else FILTER_STRENGTH):
            gain = Gain.between(plain, self._judged(wanted))
        file = result_file(self.context.folder, stage.round, stage.group)
        write_result(file, gain, products_of(self.networks["after"]))
        kept = "is kept" if gain.passes else "is dropped"
        self.context.events.note(
            f"round {stage.round + 1}, group {stage.group + 1} of {self.plan.groups} ({named(group)}) {kept}: {gain}"
        )

    def filtering(self, group: Sequence[Pair]) -> list[Painting]:
        """What a LoRA 2 is measured on: its own briefs."""
        briefs = list(dict.fromkeys(pair.brief for pair in group))
        return seeded(briefs, FILTER_PICTURES if len(group) > 1 else FILTER_SEEDS, self.request.seed, "filter")

    def _judged(self, wanted: Sequence[Painting]) -> list[Scores]:
        """Scores of what is painted now."""
        if self._judge is None:
            self._judge = open_judge(self.context)
        pictures = self._painted(wanted)
        scores: list[Scores] = []
        for brief in dict.fromkeys(one.prompt for one in wanted):
            own = [picture for picture, one in zip(pictures, wanted, strict=True) if one.prompt == brief]
            scores += self._judge.scores(own, brief)
        return scores

    def _end_round(self, number: int) -> None:
        """Average what was kept, find its strength on held-back briefs, fuse it if it gains enough."""
        read = [read_result(result_file(self.context.folder, number, i)) for i in range(self.plan.groups)]
        kept = [products for gain, products in read if gain.passes]
        folder, notes = self.context.folder, self.context.events
        if not kept:
            write_result(result_file(folder, number), Gain(0.0, 0.0), {}, kept=0, strength=0.0)
            notes.note(f"round {number + 1}: no LoRA made the judge's score rise; the model stays as it was")
            return
        fused, shape = products_of(self.networks["fused"]), self.request.network
        gains: dict[float, tuple[Gain, Products]] = {}
        with self.acting(before=0.0, after=0.0):
            plain, fresh = (self._judged(self.checks(seeds)) for seeds in ("check", "confirm"))
            for strength in STRENGTHS:
                weights = [(products, strength / len(kept)) for products in kept]
                mixed = summed([(fused, 1.0), *weights], shape.rank)
                put(self.networks["fused"], mixed)
                gains[strength] = (Gain.between(plain, self._judged(self.checks())), mixed)
            # A picture that looks better and fits its brief less is not what was asked for.
            strength = max(gains, key=lambda one: (gains[one][0].prompt >= 0, gains[one][0].total))
            put(self.networks["fused"], gains[strength][1])
            # The best of several owes something to luck, which other seeds do not share.
            gain = Gain.between(fresh, self._judged(self.checks("confirm")))
        taken = gain.clear >= self.request.accept_gain and gain.prompt >= min(0.0, self.request.accept_gain)
        put(self.networks["fused"], gains[strength][1] if taken else fused)
        tried = {f"sum_at_{one:g}": found.total for one, (found, _) in gains.items()}
        tried |= {f"prompt_at_{one:g}": found.prompt for one, (found, _) in gains.items()}
        fold = strength if taken else 0.0
        write_result(result_file(folder, number), gain, {}, kept=len(kept), strength=fold, **tried)
        said = f"fused {strength:g}-fold" if taken else "not fused"
        notes.note(
            f"round {number + 1}: {len(kept)} of {self.plan.groups} LoRAs averaged, {said}: held-back briefs {gain}"
        )

    def checks(self, seeds: str = "check") -> list[Painting]:
        """What a round is measured on: held-back briefs, each under several seeds of one kind."""
        return seeded(self.briefs, CHECK_PICTURES, self.request.seed, seeds)

    def sample(self, step: int) -> Sequence[Sample]:
        """Held-back briefs, as the model paints them and with what is learnt by now (LoRA 2 of this pair at first)."""
        done = step % self.plan.round_steps == 0
        wanted = [Painting(brief, SAMPLE_SEED + i) for i, brief in enumerate(self.briefs[:_SAMPLES])]
        with self.acting(fused=0.0, before=0.0, after=0.0):
            plain = self._painted(wanted)
        with self.acting(before=0.0, after=float(not done)):
            learnt = self._painted(wanted)
        labels = [f"{one.prompt} {side}" for side in ("- without", "- with") for one in wanted]
        return [Sample(grid([*plain, *learnt], labels, len(wanted)))]

    def export(self, folder: Path, name: str, step: int) -> list[Path]:
        """`NAME.safetensors`: all rounds in one LoRA, in kohya's layout."""
        told = metadata(self.request, self.settings, self.opened.info, name, step)
        return [write_network(folder / f"{name}.safetensors", self.networks["fused"].state_for_file(), told)]

    def finish(self, folder: Path) -> tuple[list[Path], dict[str, float]]:
        """How many pairs were kept, and what the judge said of each round."""
        del folder
        figures: dict[str, float] = {
            "pairs": float(len(self.pairs)),
            "groups": float(self.plan.groups),
            "held_back_briefs": float(len(self.briefs)),
        }
        for number in range(self.plan.rounds):
            file = result_file(self.context.folder, number)
            if file.is_file():
                figures |= {f"round_{number + 1}_{key}": value for key, value in read_figures(file).items()}
        return [], figures

    def nothing_gained(self) -> str:
        """Where nothing was fused, the LoRA is one of zeros."""
        if any(bool(up.any()) for up, _ in products_of(self.networks["fused"]).values()):
            return ""
        return nothing_told(self.context.folder, self.plan, self.request.accept_gain)

    def data_digest(self) -> str:
        """Of pairs and model."""
        return pairs_digest(self.pairs) + self.opened.info.sha256

    def preparation_s(self) -> float:
        """What painting for the judge takes, from two pictures."""
        started = time.monotonic()
        with self.acting(before=0.0, after=0.0):
            self._painted(self.checks()[:2])
        one = (time.monotonic() - started) / 2
        for_round = len(self.checks()) * (3 + len(STRENGTHS))
        for_groups = sum(2 * len(self.filtering(group)) for group in self.groups)
        return one * self.plan.rounds * (for_groups + for_round)

    def card(self) -> CardFacts:
        """What it was learnt from."""
        request, info = self.request, self.opened.info
        facts = {
            "base model": f"{info.name} (sha256 {info.sha256})",
            "pairs": f"{len(self.pairs)} accepted before/after pairs of {request.pairs}",
            "rounds": str(request.rounds),
            "groups": f"{self.plan.groups} of at most {request.group} pairs",
            "steps of a group": f"LoRA 1 {self.plan.before}, LoRA 2 {self.plan.after}",
            "held-back briefs": "; ".join(self.briefs),
            **rounds_told(self.context.folder, self.plan, request.accept_gain),
        }
        usage = (
            f"Write `<lora:{request.name}:1>` into the prompt; no trigger word is needed. The file goes into "
            "`models/Lora`, here and in AUTOMATIC1111; diffusers reads it with `pipe.load_lora_weights(file)`."
        )
        note = "It was trained on the model's own pictures, revised by the review loop; the model's licence holds."
        report = groups_told(self.context.folder, self.plan, self.groups)
        return CardFacts(f"ArtAug enhancement LoRA of rank {request.network.rank}", facts, usage, note, report)
