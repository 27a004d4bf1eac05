"""Danqing (丹青), an AI painting studio for designers: brief, draft, review, revise."""

import os

__version__ = "0.1.0"

# PyTorch's threads wait for their next work by spinning, for milliseconds (libgomp) or 0.2 s (libiomp), which keeps the
# cores from OpenVINO's threads and from other programs: a fourth of a small picture's time. Read when PyTorch loads.
for _name in ("GOMP_SPINCOUNT", "KMP_BLOCKTIME"):
    os.environ.setdefault(_name, "0")
del _name
