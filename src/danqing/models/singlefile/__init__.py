"""Checkpoints in one file: what they hold, told from shapes (no torch), and their weights as diffusers' modules.

`facts`, `shapes`, `sidecar` and `describe` load no torch; `weights` and `build` do.
"""
