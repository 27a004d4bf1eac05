"""Networks called by buckets: eagerly at first, then as a recorded graph, then as a recorded graph of compiled blocks.

A bucket is a call of one kind with feeds of one shape. Nobody waits for it to be ready: its first batches run as they
would without; recording takes about as long as two of them; compiling goes on in a thread of its own while the
recording of the blocks as they are serves. A step that fails is not tried again, and the one before it stays.
"""

from __future__ import annotations

import logging
import sys
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from danqing.models.compiling import allow_variants, compile_blocks, fuse_projections, twin_of
from danqing.models.cuda_graphs import Feeds, Recorder, Recording, Work, static_feeds

ROWS = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 56, 64)
"""Of the buckets: at most a quarter is filled up, and what fills changes no other row."""
SPARED_BYTES = 1 << 29
"""Left free for whatever else a picture needs."""
ACTIVATIONS = 64
"""Times the bytes of a network's widest map: what its call needs at most, roughly."""
STEADY_SWITCH_S = 0.0001
"""While something is compiled, the thread that paints waits for Python so long at each launch, not 5 ms."""
logger = logging.getLogger(__name__)


class Kind(Protocol):
    """A way to call a network; equal kinds are the same."""

    def work(self, network: Any) -> Work:
        """The call of this network, or of its twin."""
        ...


@dataclass(frozen=True)
class WarmupOptions:
    """When what is done.

    Attributes:
        record_after: Batches of a bucket before it is recorded.
        compile_after: Batches of a bucket before its blocks are compiled; None never compiles.
        most: Buckets that are kept; the one used longest ago goes.
        patience: Failed recordings, and times that memory had to be given back, after which no more is tried.
        backend: What compiles.
    """

    record_after: int = 2
    compile_after: int | None = 12
    most: int = 24
    patience: int = 3
    backend: str = "inductor"


@dataclass
class _Bucket:
    """What is known of one."""

    uses: int = 0
    plain: Recording | None = None
    quick: Recording | None = None
    unrecordable: bool = False
    compiled: bool = False
    uncompilable: bool = False


@dataclass
class _Twins:
    """A network's twins, and what is recorded of them.

    Attributes:
        plain: With fused projections.
        quick: With compiled blocks, too; None before.
        pool: Memory of the recordings.
        ends: The network's first and last weight, which tell whether it was moved.
        places: Where they lay.
        buckets: By kind, rows and shapes.
    """

    plain: Any
    quick: Any
    pool: Any
    ends: tuple[Tensor, ...]
    places: tuple[int, ...]
    buckets: OrderedDict[Hashable, _Bucket] = field(default_factory=OrderedDict[Hashable, _Bucket])


class Warmup:
    """Calls networks, each by its own twins.

    Args:
        recorder: Records calls.
        options: When.
        background: Runs a job beside the painting; a thread of its own if None.
    """

    def __init__(
        self,
        recorder: Recorder,
        options: WarmupOptions | None = None,
        background: Callable[[Callable[[], None]], None] | None = None,
    ) -> None:
        self._recorder = recorder
        self.options = options or WarmupOptions()
        self._background = background or _in_thread
        self._twins: weakref.WeakKeyDictionary[nn.Module, _Twins] = weakref.WeakKeyDictionary()
        self._busy = threading.Event()
        self._failures = 0
        self.reasons: list[str] = []

    @property
    def resting(self) -> bool:
        """Whether it has given up recording."""
        return self._failures >= self.options.patience

    @property
    def free_bytes(self) -> int:
        """Device memory that can be had."""
        return self._recorder.free_bytes()

    @property
    def compiling(self) -> bool:
        """Whether something is being compiled now."""
        return self._busy.is_set()

    def __call__(self, network: nn.Module, kind: Kind, feeds: Feeds) -> tuple[Tensor, ...]:
        """A network's answers, which hold until its next call.

        Args:
            network: Plain: with nothing of adapters in it.
            kind: How to call it.
            feeds: What it reads, on its device.
        """
        twins = self._twins_of(network)
        count = len(next(iter(feeds.values())))
        rows = next((most for most in ROWS if most >= count), None)
        if rows is None or self.resting:
            return kind.work(twins.plain)(feeds)
        shapes = tuple((name, tuple(one.shape[1:]), one.dtype) for name, one in feeds.items())
        bucket = self._bucket(twins, (kind, rows, shapes))
        bucket.uses += 1
        recording = self._recording(twins, bucket, kind, (feeds, rows))
        return kind.work(twins.plain)(feeds) if recording is None else recording(feeds)

    def bytes_of(self, network: nn.Module) -> int:
        """Device memory that a network's recordings hold."""
        twins = self._twins.get(network)
        if twins is None:
            return 0
        pairs = [(bucket.plain, bucket.quick) for bucket in twins.buckets.values()]
        return sum(one.size_bytes for pair in pairs for one in pair if one is not None)

    def drop(self) -> bool:
        """Give up all recordings, since memory ran out. False if there was none."""
        there = any(bucket.plain or bucket.quick for one in self._twins.values() for bucket in one.buckets.values())
        self._twins.clear()
        self._failures += there
        return there

    def states(self) -> dict[str, int]:
        """How many buckets are eager, recorded and compiled."""
        counts = {"eager": 0, "recorded": 0, "compiled": 0}
        for twins in self._twins.values():
            for one in twins.buckets.values():
                counts["compiled" if one.quick else "recorded" if one.plain else "eager"] += 1
        return counts

    def _twins_of(self, network: nn.Module) -> _Twins:
        found = self._twins.get(network)
        # Recordings know weights by their place in memory: a network that was moved is another one.
        if found is None or found.places != _places(found.ends):
            plain = twin_of(network)
            # The network gets views of the joined weights, and has to go on to pass gradients.
            with torch.inference_mode(False):
                fuse_projections(plain)
            weights = list(network.parameters())
            ends = (weights[0], weights[-1])
            found = self._twins[network] = _Twins(plain, None, self._recorder.new_pool(), ends, _places(ends))
        return found

    def _bucket(self, twins: _Twins, key: Hashable) -> _Bucket:
        bucket = twins.buckets.setdefault(key, _Bucket())
        twins.buckets.move_to_end(key)
        while len(twins.buckets) > self.options.most:
            twins.buckets.popitem(last=False)
        return bucket

    def _recording(self, twins: _Twins, bucket: _Bucket, kind: Kind, given: tuple[Feeds, int]) -> Recording | None:
        """The best that is ready, made ready now if that takes no compiling."""
        if bucket.quick is not None or self.compiling:
            # What compiles waits for the whole device now and then, which no recording survives.
            return bucket.quick or bucket.plain
        if bucket.compiled:
            bucket.quick = self._record(twins, kind, given, quick=True)
            # Either there is a better one from here on, or there will be none.
            bucket.compiled, bucket.uncompilable = False, True
            if bucket.quick is not None:
                bucket.plain = None
                return bucket.quick
        if bucket.plain is None and not bucket.unrecordable and bucket.uses > self.options.record_after:
            bucket.plain = self._record(twins, kind, given)
            bucket.unrecordable = bucket.plain is None
        self._consider_compiling(twins, bucket, kind, given)
        return bucket.plain

    def _record(self, twins: _Twins, kind: Kind, given: tuple[Feeds, int], *, quick: bool = False) -> Recording | None:
        """A recording that was seen to say what eager PyTorch says; None if there is none to be had."""
        feeds, rows = given
        if self._recorder.free_bytes() < _needed(twins.plain, feeds, rows) + SPARED_BYTES:
            self._note("too little memory is free for a recording")
            return None
        expected = kind.work(twins.plain)(feeds)
        try:
            work = kind.work(twins.quick if quick else twins.plain)
            recording = self._recorder.record(work, static_feeds(feeds, rows), twins.pool)
            found = recording(feeds)
        except (RuntimeError, MemoryError) as error:
            self._failures += 1
            self._note(f"a batch of {rows} rows cannot be recorded: {error}")
            # Memory that a broken recording was given is not asked for another one.
            twins.pool = self._recorder.new_pool()
            return None
        if not all(map(_agree, found, expected)):
            self._failures += 1
            self._note(f"a recording of {rows} rows differed from what was recorded")
            return None
        return recording

    def _consider_compiling(self, twins: _Twins, bucket: _Bucket, kind: Kind, given: tuple[Feeds, int]) -> None:
        after = self.options.compile_after
        if after is None or bucket.plain is None or bucket.uses <= after or bucket.uncompilable:
            return
        feeds, rows = given
        # Whoever asks for float32 asks for the exact picture.
        if feeds["sample"].dtype is torch.float32:
            return
        if self._recorder.free_bytes() < _needed(twins.plain, feeds, rows) + SPARED_BYTES:
            return
        static = static_feeds(feeds, rows)
        self._busy.set()
        self._background(lambda: self._compile(twins, bucket, kind, static))

    def _compile(self, twins: _Twins, bucket: _Bucket, kind: Kind, static: dict[str, Tensor]) -> None:
        """Have a bucket's blocks compiled by calling them once, in whatever thread this is."""
        switch_s = sys.getswitchinterval()
        try:
            sys.setswitchinterval(STEADY_SWITCH_S)
            allow_variants()
            if twins.quick is None:
                quick = twin_of(twins.plain)
                compile_blocks(quick, self.options.backend)
                twins.quick = quick
            with torch.inference_mode():
                self._recorder.apart(lambda: kind.work(twins.quick)(static))
            bucket.compiled = True
        except Exception as error:  # noqa: BLE001  whatever a compiler says: pictures go on without it
            bucket.uncompilable = True
            self._note(f"blocks cannot be compiled: {type(error).__name__}: {error}")
        finally:
            sys.setswitchinterval(switch_s)
            self._busy.clear()

    def _note(self, reason: str) -> None:
        logger.warning("%s", reason[:2000])
        self.reasons.append(reason)


def _in_thread(job: Callable[[], None]) -> None:
    threading.Thread(target=job, name="warm-up", daemon=True).start()


def _places(weights: Iterable[Tensor]) -> tuple[int, ...]:
    """Where weights lie in memory."""
    return tuple(one.data_ptr() for one in weights)


def _needed(network: Any, feeds: Feeds, rows: int) -> int:
    """Bytes of device memory that a call takes, roughly."""
    sample = feeds["sample"]
    widest = int(network.config["block_out_channels"][0])
    return ACTIVATIONS * rows * widest * sample.shape[-2] * sample.shape[-1] * sample.element_size()


def _agree(found: Tensor, expected: Tensor) -> bool:
    """Whether two answers are the same but for rounding."""
    a, b = found.float(), expected.float()
    tolerance = 5e-3 if expected.dtype is torch.float32 else 0.05
    # Where eager PyTorch overflows, there is nothing to compare with.
    if not bool(torch.isfinite(b).all()):
        return True
    return float((a - b).square().sum()) <= tolerance**2 * float(b.square().sum())
