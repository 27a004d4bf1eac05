"""What takes a while with a training set: looking at every picture for flaws, or for words. At once, or in a thread."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Literal, Protocol

from danqing.sets.captions import edited, join_tags, tags_of
from danqing.sets.checks import DEFAULT_SIZE_PX, check_set
from danqing.sets.folder import picture_path
from danqing.sets.pictures import flat_rgb, open_file, small_png
from danqing.spec.errors import BadFileError, CancelledError, ConflictError, DanqingError, NotFoundError
from danqing.spec.registry.interrogators import check_threshold, find_interrogator
from danqing.spec.sight import Interrogation
from danqing.spec.training_edit import AutoCaptions, CaptionEdit, SetWork
from danqing.spec.training_set import MAX_CAPTION_CHARS, TrainingPicture, TrainingSet
from danqing.store.ids import new_id
from danqing.studio.sight import Interrogating
from danqing.studio.training_sets import TrainingSets

REMEMBERED: Final = 100
AT_ONCE: Final = 4
_SHOWN_PX = 512
Tell = Callable[[int, int], None]
_log = logging.getLogger(__name__)


class Eyes(Protocol):
    """Who puts pictures into words."""

    def interrogate(
        self, picture: bytes | str, *, tags: int | None = None, asked: Interrogating = ...
    ) -> Interrogation:
        """Tags and a caption."""
        ...


def check(sets: TrainingSets, name: str, size_px: int = DEFAULT_SIZE_PX, tell: Tell | None = None) -> TrainingSet:
    """Look at every picture of a set and keep what was found. NotFoundError."""
    return sets.keep_findings(name, check_set(sets.folder(name), sets.get(name), size_px=size_px, tell=tell))


def caption(
    sets: TrainingSets,
    name: str,
    eyes: Eyes,
    asked: AutoCaptions,
    tell: Tell | None = None,
    files: list[str] | None = None,
) -> str:
    """Put the pictures of a set into words; gives what came of it. One undo takes all of them back.

    Args:
        sets: Where the set is.
        name: Of the set.
        eyes: Who looks.
        asked: How.
        tell: Told how many of how many were looked at; may raise CancelledError, then what is done is kept.
        files: Only these pictures; None for all.

    Raises:
        InvalidRequestError: No such interrogator, or it takes no threshold.
        MissingWeightsError: It is not installed.
    """
    info = find_interrogator(asked.interrogator)
    check_threshold(info, asked.threshold, "threshold")
    check_threshold(info, asked.character_threshold, "character_threshold")
    folder, current = sets.folder(name), sets.get(name)
    todo = [one for one in current.pictures if (files is None or one.file in files) and _wanted(one, asked)]
    how = Interrogating(info.key, asked.threshold, asked.character_threshold)
    words: dict[str, tuple[str, str]] = {}
    unread = 0
    try:
        for number, one in enumerate(todo, start=1):
            try:
                shown = small_png(flat_rgb(open_file(picture_path(folder, one))), _SHOWN_PX)
            except BadFileError:
                unread += 1
            else:
                found = eyes.interrogate(shown, tags=asked.tags, asked=how)
                words[one.file] = (one.caption, worded(found, asked, one.caption))
            if tell is not None:
                tell(number, len(todo))
    finally:
        report = sets.set_captions(name, words, f"captions by {info.name}")
    return f"{report.changed} captions" + (f"; {unread} pictures could not be read" if unread else "")


def worded(found: Interrogation, asked: AutoCaptions, stands: str = "") -> str:
    """A caption from what was seen, with what stands there where that is kept."""
    words = found.wording(asked.language)
    tags = [tag.text for tag in words.tags]
    if words.label and asked.form == "tags":
        tags = [words.label, *tags]
    tags = tags if asked.tags is None else tags[: asked.tags]
    text = {
        "caption": words.caption,
        "tags": join_tags(tags),
        "both": join_tags([words.caption, *(tag for tag in tags if tag.casefold() not in words.caption.casefold())]),
    }[asked.form]
    if asked.leave_out.strip(" ,，"):
        text = edited(text, CaptionEdit(action="remove", text=asked.leave_out))
    if asked.keep == "add" and stands:
        here = {tag.casefold() for tag in tags_of(stands)}
        text = join_tags([stands, *(tag for tag in tags_of(text) if tag.casefold() not in here)])
    return text[:MAX_CAPTION_CHARS]


def _wanted(picture: TrainingPicture, asked: AutoCaptions) -> bool:
    return asked.keep != "empty" or not picture.caption


@dataclass
class _Running:
    state: SetWork
    stop: threading.Event = field(default_factory=threading.Event)


class SetWorks:
    """Checks and captions that this process does in threads, and the last of those that have ended.

    Args:
        sets: Where the sets are.
        eyes: Who puts pictures into words.
    """

    def __init__(self, sets: TrainingSets, eyes: Eyes) -> None:
        self._sets = sets
        self._eyes = eyes
        self._lock = threading.Lock()
        self._known: dict[str, _Running] = {}

    def start_check(self, name: str, size_px: int = DEFAULT_SIZE_PX) -> SetWork:
        """Begin to check a set. NotFoundError; ConflictError while something else is done with it."""

        def work(tell: Tell) -> str:
            found = check(self._sets, name, size_px, tell)
            flawed = sum(bool(picture.complaints) for picture in found.pictures)
            return f"{flawed} of {len(found.pictures)} pictures have something against them"

        return self._start(name, "check", work)

    def start_captions(self, name: str, asked: AutoCaptions, files: list[str] | None = None) -> SetWork:
        """Begin to put a set into words. InvalidRequestError; NotFoundError; ConflictError."""
        check_threshold(find_interrogator(asked.interrogator), asked.threshold, "threshold")
        check_threshold(find_interrogator(asked.interrogator), asked.character_threshold, "character_threshold")
        return self._start(name, "captions", lambda tell: caption(self._sets, name, self._eyes, asked, tell, files))

    def get(self, work_id: str) -> SetWork:
        """How it goes. NotFoundError."""
        return self._of(work_id).state

    def of_set(self, name: str) -> list[SetWork]:
        """What is done, and was done, with a set; the newest first."""
        with self._lock:
            return [one.state for one in reversed(self._known.values()) if one.state.set_name == name]

    def cancel(self, work_id: str) -> SetWork:
        """Stop it after the picture at hand. NotFoundError; ConflictError if it has ended."""
        running = self._of(work_id)
        if running.state.state != "running":
            raise ConflictError("it has ended", value=running.state.state, next_step="look at the set")
        running.stop.set()
        return running.state

    def _start(self, name: str, kind: Literal["check", "captions"], work: Callable[[Tell], str]) -> SetWork:
        total = len(self._sets.get(name).pictures)
        running = _Running(SetWork(id=new_id(), set_name=name, kind=kind, total=total))
        with self._lock:
            busy = [one.state for one in self._known.values() if one.state.state == "running"]
            if any(one.set_name == name for one in busy) or len(busy) >= AT_ONCE:
                raise ConflictError(
                    "something is being done with a set already",
                    value=[one.set_name for one in busy],
                    allowed=f"one at a time for each set, {AT_ONCE} in all",
                    next_step="wait for it to end, or cancel it",
                )
            self._known[running.state.id] = running
            ended = [key for key, one in self._known.items() if one.state.state != "running"]
            for key in ended[: max(0, len(self._known) - REMEMBERED)]:
                del self._known[key]
        threading.Thread(target=_run, args=(running, work), name=f"set-{running.state.id}", daemon=True).start()
        return running.state

    def _of(self, work_id: str) -> _Running:
        with self._lock:
            if work_id not in self._known:
                raise NotFoundError(
                    "there is no such work",
                    field="work_id",
                    value=work_id,
                    next_step="look at the set: works are forgotten when the server ends, their results are not",
                )
            return self._known[work_id]


def _run(running: _Running, work: Callable[[Tell], str]) -> None:
    def tell(done: int, total: int) -> None:
        running.state = running.state.model_copy(update={"done": done, "total": total})
        if running.stop.is_set():
            raise CancelledError("the person stopped it")

    try:
        note = work(tell)
        running.state = running.state.model_copy(update={"state": "done", "note": note})
    except CancelledError:
        running.state = running.state.model_copy(update={"state": "cancelled"})
    except DanqingError as error:
        running.state = running.state.model_copy(update={"state": "failed", "error": error.as_dict()})
    except Exception as error:  # noqa: BLE001 - nobody else would hear of it
        _log.exception("work on the training set %s broke", running.state.set_name)
        told = DanqingError(f"something went wrong: {type(error).__name__}: {error}", next_step="see the server's log")
        running.state = running.state.model_copy(update={"state": "failed", "error": told.as_dict()})
