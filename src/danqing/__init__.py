"""Danqing (丹青), an AI painting studio for designers: brief, draft, review, revise."""

import os

from danqing.surroundings import prepare

__version__ = "0.1.0"

prepare(os.environ)
