"""Danqing against other programs on the same checkpoint and machine: `python -m benchmarks.peers`.

What a peer's own process imports (`_jobs`, `_child`, `NAME_peer`) needs the standard library,
Pillow and that peer, nothing else.
"""
