"""A whole front process for tests that kill it: opens a Studio on a folder, submits, then serves until it is ended.

Arguments: data folder, seconds for each of 4 steps, number of pictures to submit (0: only serve).
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from studio_helpers import fake_planner

from danqing.spec.painting import Txt2ImgRequest
from danqing.studio.service import Studio
from danqing.studio.settings import load_settings
from danqing.workers.local import LocalPool, LocalPoolOptions

FAKE_WORKER = (sys.executable, str(Path(__file__).parents[1] / "workers" / "fake_worker.py"))


def local_pool(delay_s: float, **options: object) -> LocalPool:
    values = {"devices": ("cpu",), "command": FAKE_WORKER, "backoff_s": 0.05, "max_inflight": 1, **options}
    return LocalPool(LocalPoolOptions(environment={"FAKE_DELAY_S": str(delay_s)}, **values))  # type: ignore[arg-type]


def main() -> None:
    data_dir, delay_s, count = Path(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
    with Studio(load_settings(data_dir=data_dir), local_pool(delay_s), planner=fake_planner) as studio:
        if count:
            sys.stdout.write(studio.submit(Txt2ImgRequest(prompt="an apple", seed=1, count=count)).id + "\n")
            sys.stdout.flush()
        time.sleep(120)


if __name__ == "__main__":
    main()
