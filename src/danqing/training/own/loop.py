"""The loop that all methods share: accumulation, clipping, rates, averages, checkpoints, samples, pauses, events."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState
from torch import Tensor, nn

from danqing.spec.training_run import CheckpointEvent, SampleEvent, StartEvent, StepEvent
from danqing.training.builtin.loop import Ema
from danqing.training.own import checkpoint
from danqing.training.own.board import Board, open_board
from danqing.training.own.checkpoint import Kept, Progress
from danqing.training.own.events import now
from danqing.training.own.methods.base import Losses, LossMethod, Method, SteppingMethod, TrainedMethod
from danqing.training.own.optimizers import default_rate, make_optimizer, rate_factor, set_rate
from danqing.training.own.seeds import seed_of

TELL_EVERY_S = 0.5
SCORES = 10
"""How often in a run the best checkpoint is looked for."""
_SMOOTH = 0.98


@dataclass(frozen=True)
class LoopOptions:
    """How a run is watched over.

    Attributes:
        stop_after: Pauses after this step, as if it were asked to.
        catch_signals: SIGTERM and SIGINT pause the run.
        after_step: Called with the number of each step that is done.
    """

    stop_after: int | None = None
    catch_signals: bool = False
    after_step: Callable[[int], None] | None = None


@dataclass(frozen=True)
class Outcome:
    """How a run left the loop.

    Attributes:
        paused: A checkpoint was written before the last step.
        step: Steps done.
        figures: Of the end.
    """

    paused: bool
    step: int
    seconds: float
    figures: dict[str, float] = field(default_factory=dict[str, float])


class Trainer:
    """A method in training.

    Args:
        method: What is trained.
        options: How it is watched over.
    """

    def __init__(self, method: TrainedMethod, options: LoopOptions | None = None) -> None:
        self.method = method
        self.options = options or LoopOptions()
        self.request = method.request
        self.folder = method.context.folder
        self.events = method.context.events
        self.digest = checkpoint.digest_of(self.request, method.data_digest())
        self.progress = Progress(threads=torch.get_num_threads())
        self.accelerator = _accelerator(method)
        self.parts = method.trainable()
        self.params: list[nn.Parameter] = [one for params, _ in self.parts for one in params]
        self.rate = default_rate(self.request, method.settings.learning_rate)
        self.own = method.optimizers() if isinstance(method, SteppingMethod) else {}
        self.optimizer: Any = None
        if isinstance(method, LossMethod):
            self.optimizer = self.accelerator.prepare(make_optimizer(self.request, self.parts, self.rate))
        self.average = Ema(self.params, self.request.ema) if self.request.ema > 0 else None
        self.board: Board = open_board(self.folder, quiet=method.context.estimating)
        self._pausing = False

    @property
    def steps(self) -> int:
        """Of the whole run."""
        return self.method.settings.steps

    def step(self) -> dict[str, float | Tensor]:
        """One step; its figures, as tensors where reading them would make a GPU wait."""
        step = self.progress.step
        rate = self.rate * rate_factor(self.request, step, self.steps)
        for one in self.own.values() or (self.optimizer,):
            set_rate(one, rate)
        if isinstance(self.method, SteppingMethod):
            torch.manual_seed(seed_of(self.request.seed, "global", step))
            figures: dict[str, float | Tensor] = dict(self.method.advance(step))
        else:
            figures = self._descend(self.method, step)
        if self.average is not None:
            self.average.update(step)
        self.progress.step += 1
        return figures

    def _descend(self, method: LossMethod, step: int) -> dict[str, float | Tensor]:
        """The gradients of a step's batches, and a step down their mean."""
        count = self.request.accumulate
        figures: dict[str, float | Tensor] = {}
        for part in range(count):
            number = step * count + part
            torch.manual_seed(seed_of(self.request.seed, "global", number))
            found = method.loss(number)
            losses = found if isinstance(found, Losses) else Losses(found)
            self.accelerator.backward(losses.total / count)
            for name, value in {"loss": losses.total.detach(), **losses.parts}.items():
                figures[name] = figures.get(name, 0.0) + value / count
        if self.request.grad_clip > 0:
            self.accelerator.clip_grad_norm_(self.params, self.request.grad_clip)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return figures

    def save(self) -> Path:
        """Write the checkpoint."""
        path = self.folder / checkpoint.FILE
        scaler = self.accelerator.scaler
        kept = Kept(
            {name: module.state_dict() for name, module in self.method.modules().items()},
            {name: one.state_dict() for name, one in self._optimizers().items()},
            [] if self.average is None else self.average.shadow,
            {} if scaler is None else scaler.state_dict(),
        )
        checkpoint.write(path, self.digest, self.progress, kept)
        return path

    def resume(self) -> bool:
        """Go on from the checkpoint; False where there is none.

        Raises:
            BadFileError: It is damaged, or belongs to another Request.
        """
        found = checkpoint.read(self.folder / checkpoint.FILE, self.digest)
        if found is None:
            return False
        self.progress, kept = found
        if self.progress.threads:
            torch.set_num_threads(self.progress.threads)
        for name, module in self.method.modules().items():
            module.load_state_dict(kept.modules[name])
        for name, one in self._optimizers().items():
            one.load_state_dict(kept.optimizers[name])
        if self.average is not None:
            for shadow, value in zip(self.average.shadow, kept.average, strict=True):
                shadow.copy_(value)
        if self.accelerator.scaler is not None and kept.scaler:
            self.accelerator.scaler.load_state_dict(kept.scaler)
        return True

    def _optimizers(self) -> dict[str, Any]:
        return self.own or {"optimizer": self.optimizer}

    def run(self) -> Outcome:
        """Steps until the end or a pause. The weights stay as they are trained; `exported` gives the ones to keep."""
        self.resume()
        device = self.method.context.device
        count = sum(one.numel() for one in self.params)
        self.events.tell(
            StartEvent(at=now(), step=self.progress.step, steps=self.steps, parameters=count, device=str(device))
        )
        with self._listening():
            self._training_mode(train=True)
            self._go()
        paused = self.progress.step < self.steps
        self.save()
        self.board.close()
        return Outcome(paused, self.progress.step, self.progress.seconds, {} if paused else self._figures())

    def _go(self) -> None:
        pace = Pace(self)
        saved = time.monotonic()
        while self.progress.step < self.steps and not self._is_asked_to_stop():
            started = time.monotonic()
            figures = self.step()
            self.progress.seconds += time.monotonic() - started
            pace.tell(figures)
            if self._is_due(self.request.sample_every):
                pace.flush()  # curves among the samples show every step so far
                self.show()
            if self._is_due(max(1, self.steps // SCORES)):
                self._score()
            if time.monotonic() - saved > self.request.checkpoint_every_s:
                file = self.save().name
                self.events.tell(CheckpointEvent(step=self.progress.step, file=file))
                saved = time.monotonic()
            if self.options.after_step is not None:
                self.options.after_step(self.progress.step)
        pace.flush()

    def _is_due(self, every: int) -> bool:
        return bool(every) and (self.progress.step % every == 0 or self.progress.step == self.steps)

    def _is_asked_to_stop(self) -> bool:
        stop = self.options.stop_after
        return self._pausing or (stop is not None and self.progress.step >= stop)

    @contextmanager
    def exported(self) -> Iterator[None]:
        """Inside, what is learnt has the values to keep: averaged ones where there are, and nothing drops out."""
        self._training_mode(train=False)
        try:
            if self.average is None:
                yield
            else:
                with self.average.applied():
                    yield
        finally:
            self._training_mode(train=True)

    def _training_mode(self, *, train: bool) -> None:
        for module in self.method.modules().values():
            module.train(train)

    def show(self) -> None:
        """Samples as they are painted by now."""
        step = self.progress.step
        folder = self.folder / "samples"
        folder.mkdir(parents=True, exist_ok=True)
        with self.exported():
            samples = self.method.sample(step)
        for number, sample in enumerate(samples):
            more = f"-{number}" if sum(one.what == sample.what for one in samples) > 1 else ""
            path = folder / f"{sample.what}-{step:06}{more}.png"
            temporary = path.with_suffix(".tmp")
            sample.image.save(temporary, "PNG")
            temporary.replace(path)
            self.board.picture(sample.what, sample.image, step)
            self.events.tell(SampleEvent(step=step, file=f"samples/{path.name}", what=sample.what))

    def _score(self) -> None:
        """Measure, and keep the weights if they are the best so far."""
        step = self.progress.step
        with self.exported():
            score = self.method.score(step)
            if score is None:
                return
            best = self.progress.best_score
            # A later checkpoint wins a tie.
            if best is None or score >= best:
                modules = {name: module.state_dict() for name, module in self.method.modules().items()}
                checkpoint.save_atomically(self.folder / checkpoint.BEST_FILE, {"step": step, "modules": modules})
                self.progress.best_step, self.progress.best_score = step, score
        self.board.number("score", score, step)
        self.events.tell(CheckpointEvent(step=step, file=checkpoint.BEST_FILE, score=score))

    def load_best(self) -> int | None:
        """Put the best weights into the modules; their step, or None where the last are the best."""
        path = self.folder / checkpoint.BEST_FILE
        if self.progress.best_step in (-1, self.progress.step) or not path.is_file():
            return None
        data = checkpoint.load(path)
        for name, module in self.method.modules().items():
            module.load_state_dict(data["modules"][name])
        return int(data["step"])

    def _figures(self) -> dict[str, float]:
        found = {"loss": self.progress.loss, "best_score": self.progress.best_score}
        kept = {name: round(value, 6) for name, value in found.items() if value is not None}
        if self.progress.best_step >= 0:
            kept["best_step"] = float(self.progress.best_step)
        return kept

    @contextmanager
    def _listening(self) -> Iterator[None]:
        """Inside, SIGTERM and SIGINT ask for a pause."""
        if not self.options.catch_signals:
            yield
            return

        def pause(_: int, __: FrameType | None) -> None:
            self._pausing = True

        kept = {number: signal.signal(number, pause) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in kept.items():
                signal.signal(number, handler)


class Pace:
    """Tells how far the run is, about twice a second, with its speed and what is left."""

    def __init__(self, trainer: Trainer) -> None:
        self._trainer = trainer
        self._told = time.monotonic()
        self._at = (trainer.progress.step, trainer.progress.seconds)
        self._waiting: list[dict[str, float | Tensor]] = []

    def tell(self, figures: dict[str, float | Tensor]) -> None:
        """A step's figures; an event if it is time for one."""
        self._waiting.append(figures)
        if time.monotonic() - self._told >= TELL_EVERY_S:
            self.flush()

    def flush(self) -> None:
        """The event of the steps since the last one."""
        if not self._waiting:
            return
        trainer, progress = self._trainer, self._trainer.progress
        for figures in self._waiting:
            loss = float(figures.get("loss", 0.0))
            progress.loss = loss if progress.loss is None else _SMOOTH * progress.loss + (1 - _SMOOTH) * loss
        parts = {name: float(value) for name, value in self._waiting[-1].items() if name != "loss"}
        self._waiting = []
        self._told = time.monotonic()
        done, spent = progress.step - self._at[0], progress.seconds - self._at[1]
        if spent > 2.0:
            self._at = (progress.step, progress.seconds)
        each = spent / max(1, done)
        rate = trainer.rate * rate_factor(trainer.request, progress.step - 1, trainer.steps)
        pictures = trainer.method.settings.batch * trainer.request.accumulate
        event = StepEvent(
            step=progress.step,
            loss=progress.loss,
            parts=parts,
            learning_rate=rate,
            samples_per_s=round(pictures / each, 3) if each > 0 else None,
            eta_s=round(each * (trainer.steps - progress.step), 1),
        )
        trainer.events.tell(event)
        for name, value in {"loss": progress.loss, "learning_rate": rate, **parts}.items():
            if value is not None:
                trainer.board.number(name, value, progress.step)


def _accelerator(method: Method) -> Accelerator:
    """One device; float16 gets a loss scale. Formats are the methods' own affair, so it casts nothing."""
    device = method.context.device
    # Its state outlives it: another run in the same process may use another device.
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()
    half = method.request.precision == "float16" and device.type == "cuda"
    return Accelerator(mixed_precision="fp16" if half else "no", cpu=device.type == "cpu")


def train(method: TrainedMethod, options: LoopOptions | None = None) -> tuple[Trainer, Outcome]:
    """Train a method until its end or a pause."""
    trainer = Trainer(method, options)
    return trainer, trainer.run()


def export_all(trainer: Trainer) -> tuple[list[Path], dict[str, float]]:
    """Write the product; where an earlier checkpoint measured better, that one beside it as `NAME-best`.

    Returns:
        The files, the product first (none where the method says that nothing was gained), and the method's figures of
        the end.
    """
    method, name = trainer.method, trainer.request.name
    folder = trainer.folder / "model"
    folder.mkdir(parents=True, exist_ok=True)
    nothing = bool(method.nothing_gained())
    with trainer.exported():
        files = [] if nothing else list(method.export(folder, name, trainer.progress.step))
        more, figures = method.finish(folder)
    best = None if nothing else trainer.load_best()
    if best is not None:
        trainer.events.note(f"step {best} measured better than the last one: it is kept as {name}-best")
        files += method.export(folder, f"{name}-best", best)
    return [*files, *more], figures


def relative(files: Sequence[Path], folder: Path) -> tuple[str, ...]:
    """Paths as events tell them."""
    return tuple(dict.fromkeys(file.relative_to(folder).as_posix() for file in files))
