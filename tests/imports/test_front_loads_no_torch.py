"""The front answers without torch: no package of it may load a heavy library, even indirectly."""

from __future__ import annotations

import subprocess
import sys

FRONT = ("spec", "prompt", "planning", "store", "studio", "recipes", "server", "web", "cli")
HEAVY = ("torch", "diffusers", "transformers", "ray")
PROGRAM = """
import importlib, pkgutil, sys
front, heavy = sys.argv[1].split(","), set(sys.argv[2].split(","))
for part in front:
    package = importlib.import_module("danqing." + part)
    names = [package.__name__]
    names += [found.name for found in pkgutil.walk_packages(package.__path__, package.__name__ + ".")]
    for name in names:
        if not name.endswith("__main__") and ".migrations." not in name:
            importlib.import_module(name)
    print(part, len(names), *sorted(heavy & set(sys.modules)), flush=True)
"""


def test_the_front_loads_no_torch():
    """One process for all, lowest layer first: the first package with a name behind it is the one that loads it."""
    command = [sys.executable, "-W", "ignore", "-c", PROGRAM, ",".join(FRONT), ",".join(HEAVY)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    told = [line.split() for line in done.stdout.splitlines()]
    assert [part for part, *_ in told] == list(FRONT)
    for part, count, *loaded in told:
        assert int(count) >= 1
        assert loaded == [], f"danqing.{part} loads {loaded}"


def test_the_catalogue_and_the_worker_protocol_load_no_torch():
    code = "import sys, danqing.models.catalog, danqing.workers.local; print(*set(sys.argv[1:]) & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code, *HEAVY], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.split() == []
