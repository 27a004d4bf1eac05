"""Requests, Plans, Records, Reviews, geometry and the error tree: plain data, no torch, no I/O."""
