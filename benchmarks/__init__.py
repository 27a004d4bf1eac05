"""One command each: `python -m benchmarks.NAME [--json]`. See `benchmarks/README.md`."""
