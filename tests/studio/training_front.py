"""A whole server process that trains, for tests that kill it: data folder, JSON of the environment."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from training_helpers import asked, make_studio


def main() -> None:
    studio = make_studio(Path(sys.argv[1]), **json.loads(sys.argv[2]))
    studio.start(eager=True)
    sys.stdout.write(studio.submit_training(asked()).id + "\n")
    sys.stdout.flush()
    time.sleep(120)


if __name__ == "__main__":
    main()
