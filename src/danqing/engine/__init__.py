"""The event loop that batches the Calls of all live Sessions."""

from danqing.engine.calls import Call, Session
from danqing.engine.events import Finished, Previewed, Progressed, SessionEvent
from danqing.engine.executor import Executor
from danqing.engine.loop import Engine, EngineOptions

__all__ = [
    "Call",
    "Engine",
    "EngineOptions",
    "Executor",
    "Finished",
    "Previewed",
    "Progressed",
    "Session",
    "SessionEvent",
]
