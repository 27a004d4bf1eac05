"""What a product does at each strength, as one labelled sheet: prompts from top to bottom, strengths across."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from PIL import Image

from danqing.spec.errors import CancelledError, ConflictError, DanqingError
from danqing.spec.events import Event
from danqing.spec.explore import Axis, Exploration, ExploreRequest
from danqing.spec.painting import Txt2ImgRequest
from danqing.spec.record import Job, Record
from danqing.spec.request import parse_request
from danqing.spec.training import AnyTraining
from danqing.spec.training_methods import DistillRequest, EmbeddingRequest
from danqing.store.ids import new_id
from danqing.store.owners import utc_now
from danqing.studio.painting_parts import Painting
from danqing.studio.sheet import Place, draw_sheet
from danqing.studio.training_products import product_kind

STRENGTHS: Final = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25)
TRAINING: Final = "training"
"""The user of a sheet's jobs: a page does not take them for paintings of its own."""
MAX_PROMPTS: Final = 4
_WATCH_S: Final = 0.5
_SEEDS: Final = 2**32


class SheetPainting(Painting):
    """Painting sheets for a Studio; their Records are deleted once the sheet is drawn."""

    @abstractmethod
    def job(self, job_id: str) -> Job:
        """A job as it stands."""

    @abstractmethod
    def watch(self, job_id: str, *, after: int = 0, timeout_s: float | None = None) -> Iterator[tuple[int, Event]]:
        """Its events."""

    @abstractmethod
    def delete_record(self, record_id: str) -> Record:
        """Hide it."""

    def paint_strengths(
        self, training: AnyTraining, product: str, prompts: Sequence[str], stopped: Callable[[], bool]
    ) -> Image.Image:
        """Paint every prompt at every strength, all with one seed, and draw the sheet.

        Raises:
            CancelledError: `stopped` said so.
            DanqingError: A picture cannot be painted.
        """
        cells = [
            ((x, y, 0), request_at(training, product, prompt, strength))
            for y, prompt in enumerate(prompts)
            for x, strength in enumerate(STRENGTHS)
        ]
        planned = [(place, request, self._planned(request)) for place, request in cells]
        jobs = {place: self._queue(request, plans, user=TRAINING, priority=-1) for place, request, plans in planned}
        pictures: dict[Place, Image.Image] = {}
        try:
            for place, job in jobs.items():
                pictures[place] = self._sheet_picture(job, stopped)
        finally:
            for job in jobs.values():
                self._clear_sheet(job)
        return draw_sheet(_sheet_of(cells[0][1], product, prompts), pictures)

    def _sheet_picture(self, job: Job, stopped: Callable[[], bool]) -> Image.Image:
        seen = 0
        while not (now := self.job(job.id)).is_final:
            if stopped():
                raise CancelledError("the sheet was stopped", value=job.id)
            for number, _ in self.watch(job.id, after=seen, timeout_s=_WATCH_S):
                seen = number
        if not now.records:
            raise DanqingError.from_dict(now.error or {"message": "the job ended without a picture"})
        return self.opened(self.record(now.records[0]))

    def _clear_sheet(self, job: Job) -> None:
        try:
            now = self.job(job.id)
            if not now.is_final:
                now = self.cancel(job.id)
            for record_id in now.records:
                self.delete_record(record_id)
        except ConflictError:
            return  # it ended, or somebody deleted it, in this moment


def request_at(training: AnyTraining, product: str, prompt: str, strength: float) -> Txt2ImgRequest:
    """What paints a prompt with the product at a strength."""
    data: dict[str, Any] = {
        "kind": "txt2img",
        "prompt": _called(training, product, prompt, strength),
        "seed": training.seed % _SEEDS,
        "model": getattr(training, "model", None),
    }
    if isinstance(training, DistillRequest):
        data |= {"sampling": {"sampler": training.way.upper(), "steps": 4}, "guidance": {"scale": 1.0}}
    elif isinstance(training, EmbeddingRequest) and training.negative:
        data |= {"prompt": prompt, "negative_prompt": _called(training, product, "", strength)}
    found = parse_request(data)
    if not isinstance(found, Txt2ImgRequest):
        raise TypeError(found)
    return found


def _called(training: AnyTraining, product: str, prompt: str, strength: float) -> str:
    """The prompt with the product in it, in A1111's grammar; at strength 0 without it, as a plain baseline."""
    kind = product_kind(training)
    if kind == "embedding":
        word = f"({product}:{strength:g})" if strength else ""
        if product in prompt:
            return prompt.replace(product, word).strip(", ")
        return ", ".join(part for part in (word, prompt) if part)
    tag = "hypernet" if kind == "hypernetwork" else "lora"
    return f"{prompt} <{tag}:{product}:{strength:g}>"


def _sheet_of(first: Txt2ImgRequest, product: str, prompts: Sequence[str]) -> Exploration:
    strengths = tuple(f"{strength:g}" for strength in STRENGTHS)
    asked = ExploreRequest(request=first, x=Axis(axis="LoRA weight", values=f"{product}: {', '.join(strengths)}"))
    return Exploration(
        id=new_id(),
        asked=asked,
        names=(product, "prompt"),
        columns=strengths,
        rows=tuple(prompts),
        cells=(),
        created_at=utc_now(),
    )
