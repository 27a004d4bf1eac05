"""Danqing (丹青), an AI painting studio for designers: brief, draft, review, revise."""

__version__ = "0.1.0"
