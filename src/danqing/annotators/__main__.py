"""One map in a process of its own: `python -m danqing.annotators` with a task on stdin, for a front without torch.

The task is JSON: `annotator`, `picture` and `out` (paths of .npy files), `params`, `resolution_px`, `seed`,
`weights_dir`. An error is one JSON object on the last line of stderr, and the exit code is 1.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import numpy as np

from danqing.annotators.base import annotate
from danqing.spec.errors import DanqingError


def main() -> int:
    """Do the task on stdin."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    task = json.load(sys.stdin)
    try:
        found = annotate(
            task["annotator"],
            np.load(task["picture"], allow_pickle=False),
            task["params"],
            task["resolution_px"],
            task["seed"],
            Path(task["weights_dir"]),
        )
    except DanqingError as error:
        sys.stderr.write("\n" + json.dumps(error.as_dict(), ensure_ascii=True) + "\n")
        return 1
    np.save(task["out"], found, allow_pickle=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
