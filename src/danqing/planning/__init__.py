"""Request and catalogue in, Plan out: pure functions."""

from danqing.planning.plan import ModelFinder, plan

__all__ = ["ModelFinder", "plan"]
