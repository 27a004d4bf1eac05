"""One short file per Request kind; all are generators of Calls."""

from danqing.pipelines.run import expected_calls, paint

__all__ = ["expected_calls", "paint"]
