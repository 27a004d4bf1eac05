"""The front answers without torch: no package of it may load a heavy library, even indirectly."""

from __future__ import annotations

import subprocess
import sys

import pytest

FRONT = ("spec", "prompt", "planning", "store", "studio", "recipes", "server", "web", "cli")
HEAVY = ("torch", "diffusers", "transformers", "ray")
PROGRAM = """
import importlib, pkgutil, sys
package = importlib.import_module("danqing." + sys.argv[1])
names = [package.__name__]
names += [found.name for found in pkgutil.walk_packages(package.__path__, package.__name__ + ".")]
for name in names:
    if not name.endswith("__main__") and ".migrations." not in name:
        importlib.import_module(name)
print(len(names), *sorted(set(sys.argv[2:]) & set(sys.modules)))
"""


@pytest.mark.parametrize("package", FRONT)
def test_the_front_loads_no_torch(package: str):
    command = [sys.executable, "-W", "ignore", "-c", PROGRAM, package, *HEAVY]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    count, *loaded = done.stdout.split()
    assert int(count) >= 1
    assert loaded == [], f"danqing.{package} loads {loaded}"


def test_the_catalogue_and_the_worker_protocol_load_no_torch():
    code = "import sys, danqing.models.catalog, danqing.workers.local; print(*set(sys.argv[1:]) & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code, *HEAVY], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.split() == []
