"""One command each: `python -m benchmarks.NAME [--json]`. See `benchmarks/README.md`."""

from contextlib import suppress

# First of all, so that PyTorch's threads wait as they do for a person; a peer's environment may be without it.
with suppress(ImportError):
    import danqing as danqing
