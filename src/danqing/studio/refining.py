"""The part of the Studio that refines pictures: at once for the CLI, in threads for the API. No torch."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final, cast

from danqing.review.base import checked_brief, find_reviewer
from danqing.spec.errors import ConflictError, DanqingError, NotFoundError
from danqing.spec.refine import Refinement, RefineOptions
from danqing.spec.request import Request
from danqing.store.ids import new_id
from danqing.studio.refiner import SILENT, Refiner, Watch, Workshop
from danqing.studio.reviewing import Reviewing

AT_ONCE: Final = 8
REMEMBERED: Final = 100
_log = logging.getLogger(__name__)


class Refining(Reviewing):
    """Refinements: at once, or in a thread for the API."""

    def refine(
        self,
        start: Request | str,
        options: RefineOptions | None = None,
        *,
        brief: str | None = None,
        watch: Watch = SILENT,
    ) -> Refinement:
        """Refine a picture; returns when nothing improves, the rounds are used up or it was stopped.

        Args:
            start: What to paint first, or the id of a Record.
            options: Rounds, reviewer, and when the judge accepts.
            brief: What the picture is to show; the prompt if unset.
            watch: Who hears of it and may stop it.

        Raises:
            DanqingError: The first picture cannot be painted or reviewed. Later failures reject their round.
        """
        refiner = self.refiner(start, options or RefineOptions(), brief, watch)
        return refiner.run(start)

    def start_refinement(
        self, start: Request | str, options: RefineOptions | None = None, *, brief: str | None = None
    ) -> Refinement:
        """As `refine`, in a thread; ask `refinement` how it goes. ConflictError where eight run already."""
        return self._refinements.start(start, options or RefineOptions(), brief)

    def refinement(self, refinement_id: str) -> Refinement:
        """A refinement of this process as it stands. NotFoundError."""
        return self._refinements.get(refinement_id)

    def cancel_refinement(self, refinement_id: str) -> Refinement:
        """Stop it; accepted versions stay. NotFoundError; ConflictError if it has ended."""
        return self._refinements.cancel(refinement_id)

    @cached_property
    def _refinements(self) -> Refinements:
        return Refinements(self)

    def refiner(self, start: Request | str, options: RefineOptions, brief: str | None, watch: Watch) -> Refiner:
        """A refinement that has not begun.

        Raises:
            InvalidRequestError: There is no brief, or no such reviewer.
            NotFoundError: There is no such Record.
        """
        words = brief
        if words is None:
            words = self._words_of(f"record:{start}") if isinstance(start, str) else start.prompt
        reviewer = find_reviewer(options.reviewer)
        begun = Refinement(id=new_id(), brief=checked_brief(words), reviewer=reviewer.key)
        return Refiner(cast("Workshop", self), begun, options, watch)


@dataclass
class _Running:
    state: Refinement
    stop: threading.Event = field(default_factory=threading.Event)


class Refinements:
    """The refinements that this process runs in threads, and the last of those that have ended.

    Args:
        studio: Whose they are.
    """

    def __init__(self, studio: Refining) -> None:
        self._studio = studio
        self._lock = threading.Lock()
        self._known: dict[str, _Running] = {}

    def start(self, start: Request | str, options: RefineOptions, brief: str | None) -> Refinement:
        """See `Refining.start_refinement`."""
        running = _Running(Refinement(id="", brief="-", reviewer=""))

        def report(state: Refinement) -> None:
            running.state = state

        refiner = self._studio.refiner(start, options, brief, Watch(report, running.stop.is_set))
        running.state = refiner.state
        with self._lock:
            if sum(one.state.state == "running" for one in self._known.values()) >= AT_ONCE:
                raise ConflictError(
                    "too many pictures are being refined",
                    value=AT_ONCE,
                    allowed=f"{AT_ONCE} at once",
                    next_step="wait for one to end, or cancel it",
                )
            self._known[refiner.state.id] = running
            self._forget()
        threading.Thread(target=_run, args=(refiner, start), name=f"refine-{refiner.state.id}", daemon=True).start()
        return refiner.state

    def get(self, refinement_id: str) -> Refinement:
        """See `Refining.refinement`."""
        return self._of(refinement_id).state

    def cancel(self, refinement_id: str) -> Refinement:
        """See `Refining.cancel_refinement`."""
        running = self._of(refinement_id)
        if running.state.state != "running":
            raise ConflictError(
                "the refinement has ended", value=running.state.state, next_step="look at its versions in the gallery"
            )
        running.stop.set()
        return running.state

    def _of(self, refinement_id: str) -> _Running:
        with self._lock:
            if refinement_id not in self._known:
                raise NotFoundError(
                    "there is no such refinement",
                    field="refinement_id",
                    value=refinement_id,
                    next_step="look in the gallery: refinements are forgotten when the server ends, versions are not",
                )
            return self._known[refinement_id]

    def _forget(self) -> None:
        ended = [name for name, one in self._known.items() if one.state.state != "running"]
        for name in ended[: max(0, len(self._known) - REMEMBERED)]:
            del self._known[name]


def _run(refiner: Refiner, start: Request | str) -> None:
    try:
        refiner.run(start)
    except DanqingError as error:  # the state says so
        _log.info("refinement %s failed: %s", refiner.state.id, error)
    except Exception as error:  # noqa: BLE001  nobody else would hear of it
        _log.exception("refinement %s broke", refiner.state.id)
        refiner.fail(error)
