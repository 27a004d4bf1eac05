"""From a cold command line to the first picture, and to the help (bars: at most 12 s; under 0.6 s).

Each time a new process with an empty data folder: interpreter, imports, database, worker, model, painting, saving.
The operating system's file cache is warm, as on the second start of a day; the first time is told apart.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from benchmarks._bench import BRIEFS, workbench
from benchmarks._machine import ROOT
from benchmarks._report import Options, Outcome, median, run

BAR_PAINT_S = 12.0
BAR_HELP_S = 0.6
TIMEOUT_S = 300.0


def command(*words: str) -> list[str]:
    """The installed `danqing`, or the module where it is not installed."""
    script = Path(sys.executable).with_name("danqing")
    return [str(script), *words] if script.exists() else [sys.executable, "-m", "danqing.cli.main", *words]


def timed(words: Sequence[str]) -> float:
    """Wall seconds of a command that must succeed.

    Raises:
        RuntimeError: It failed; the message has what it said.
    """
    source = os.pathsep.join(filter(None, [str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]))
    started = time.perf_counter()
    done = subprocess.run(
        command(*words),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
        env={**os.environ, "PYTHONPATH": source},
    )
    seconds = time.perf_counter() - started
    if done.returncode != 0:
        raise RuntimeError(f"`danqing {' '.join(words)}` ended with {done.returncode}: {done.stderr.strip()[-2000:]}")
    return seconds


def paint(folder: Path, models_dir: Path | None, model: str, device: str) -> float:
    """Wall seconds of `danqing paint` with a new data folder; the picture is opened to see that it is one."""
    target = folder / "first.png"
    words = ["paint", BRIEFS[0], "--seed", "1", "--data", str(folder / "data"), "--device", device, "--quiet"]
    if models_dir is not None:
        words += ["--models", str(models_dir), "--model", model]
    seconds = timed([*words, "-o", str(target)])
    with Image.open(target) as picture:
        picture.load()
    return seconds


def measure(options: Options) -> Outcome:
    """Help and paint in turns."""
    painted: list[float] = []
    helped: list[float] = []
    with workbench(options) as bench:
        for _ in range(options.times(full=5, quick=1)):
            helped.append(timed(["--help"]))
            with tempfile.TemporaryDirectory(prefix="danqing-cold-") as name:
                painted.append(paint(Path(name), bench.models_dir, bench.model.name, options.device))
            options.say(f"help {helped[-1]:.2f} s, first picture {painted[-1]:.2f} s")
        details = {
            **bench.about(),
            "command": Path(command()[0]).name,
            "paint_s": [round(value, 3) for value in painted],
            "help_s": [round(value, 3) for value in helped],
        }
    figures = {
        "first_picture_s": median(painted),
        "help_s": median(helped),
        "first_picture_first_time_s": painted[0],
        "help_first_time_s": helped[0],
    }
    passed = figures["first_picture_s"] <= BAR_PAINT_S and figures["help_s"] < BAR_HELP_S
    return Outcome(figures, f"first picture ≤ {BAR_PAINT_S:g} s and help < {BAR_HELP_S:g} s", passed, details)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    return run("cold_start", __doc__ or "", measure, argv)


if __name__ == "__main__":
    sys.exit(main())
