"""One command each: `python -m benchmarks.NAME [--json]`. See `benchmarks/README.md`."""

import os
import sys

_at = sys.orig_argv.index("-m") + 1 if "-m" in sys.orig_argv else len(sys.orig_argv)
_module = "".join(sys.orig_argv[_at : _at + 1])

# A peer's process is begun as the benchmark wants it.
if _module != "benchmarks.peers._child":
    from danqing.surroundings import begun_so

    if _module.startswith("benchmarks.") and not begun_so():
        # As a person's worker is: the same interpreter and arguments, with the settings that importing danqing made.
        os.execv(sys.executable, sys.orig_argv)  # noqa: S606
