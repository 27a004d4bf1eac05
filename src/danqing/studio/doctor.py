"""What is here, what is missing and how to get it; the device is asked for in a worker, so no torch is loaded here."""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
import sys
from importlib import metadata
from typing import TYPE_CHECKING, Any

from danqing import __version__
from danqing.spec.errors import DanqingError

if TYPE_CHECKING:
    from danqing.studio.service import Studio

_PACKAGES = ("torch", "diffusers", "transformers", "safetensors", "pillow", "sqlalchemy", "fastapi", "gradio")
_EXTRAS = ("openvino",)
_PROBE_TIMEOUT_S = 180.0


def examine(studio: Studio) -> dict[str, Any]:
    """Facts as plain JSON; `problems` lists what to do something about."""
    problems: list[str] = []
    facts: dict[str, Any] = {
        "danqing": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {
            **{name: _version(name, problems) for name in _PACKAGES},
            # What can be left out is no problem where it is missing.
            **{name: _version(name, []) for name in _EXTRAS},
        },
        "folders": _folders(studio, problems),
        "models": _models(studio, problems),
        "database": _database(studio, problems),
        "device": (device := _device(studio, problems)),
        "training": _training(studio, device),
        "workers": [
            {"device": worker.device, "state": worker.state, "pid": worker.pid, "restarts": worker.restarts}
            for worker in studio.workers()
        ],
    }
    return {**facts, "problems": problems}


def _version(package: str, problems: list[str]) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        problems.append(f"the package {package} is not installed: install Danqing with -c constraints.txt")
        return None


def _folders(studio: Studio, problems: list[str]) -> dict[str, Any]:
    settings = studio.settings
    free_bytes = shutil.disk_usage(settings.data_dir).free
    if free_bytes < 1024**3:
        problems.append(f"only {free_bytes // 1024**2} MiB are free where the pictures go: {settings.data_dir}")
    return {
        "data": str(settings.data_dir),
        "models": str(settings.models_path),
        "models_exists": settings.models_path.is_dir(),
        "logs": str(settings.logs_path),
        "free_bytes": free_bytes,
    }


def _models(studio: Studio, problems: list[str]) -> list[dict[str, Any]]:
    try:
        models = studio.models()
        unusable: dict[str, str] = studio.catalog.problems()
    except DanqingError as error:
        problems.append(str(error))
        return []
    problems.extend(f"{path}: {why}" for path, why in unusable.items())
    if not models:
        problems.append(
            "there is no model: the built-in one is missing from the package (install it again), and none lies in "
            f"{studio.settings.models_path / 'Stable-diffusion'}"
        )
    return [
        {"name": model.name, "family": model.family, "hash": model.short_hash, "builtin": model.builtin}
        for model in models
    ]


def _training(studio: Studio, device: dict[str, Any]) -> dict[str, Any]:
    """What trains, and which extras of training are here; none of them is needed."""
    name = str(device.get("versions", {}).get("device", studio.settings.devices[0]))
    cuda = not name.startswith(("cpu", "mps", "xpu", "auto"))
    bitsandbytes, board = _installed("bitsandbytes"), _installed("tensorboard")
    eight_bit = "no: pip install 'danqing[quant]'" if bitsandbytes is None else "yes" if cuda else "needs a CUDA device"
    return {
        "device": name,
        "accelerate": _installed("accelerate"),
        "tensorboard": board or "no: pip install 'danqing[train]'",
        "eight_bit_optimizer": eight_bit,
        "prodigy_optimizer": "yes" if _installed("prodigyopt") else "no: pip install prodigyopt",
        "waiting_runs": len(studio.trainings_waiting()),
    }


def _installed(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _database(studio: Studio, problems: list[str]) -> dict[str, Any]:
    place = studio.settings.database_url or str(studio.settings.data_dir / "danqing.db")
    try:
        live = studio.jobs(states=("queued", "running"), limit=1000)
        latest = studio.records(limit=1)
    except DanqingError as error:
        problems.append(str(error))
        return {"place": _without_password(place), "ok": False}
    return {
        "place": _without_password(place),
        "ok": True,
        "unfinished_jobs": len(live),
        "latest_record": latest[0].id if latest else None,
    }


def _without_password(place: str) -> str:
    head, separator, tail = place.rpartition("@")
    return f"{head.split('://', maxsplit=1)[0]}://***@{tail}" if separator and "://" in head else place


def _device(studio: Studio, problems: list[str]) -> dict[str, Any]:
    settings = studio.settings
    command = [sys.executable, "-m", "danqing.workers.main", "--probe", "--data", str(settings.data_dir)]
    command += ["--models", str(settings.models_path), "--precision", settings.precision]
    command += ["--device", settings.devices[0]]
    try:
        done = subprocess.run(  # noqa: S603 - our own module, no shell
            command, capture_output=True, text=True, timeout=_PROBE_TIMEOUT_S, check=False, stdin=subprocess.DEVNULL
        )
        lines = done.stdout.strip().splitlines()
        if done.returncode == 0 and lines:
            facts: dict[str, Any] = json.loads(lines[-1])
            facts.pop("type", None)
            return {"ok": True, **facts}
        why = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
    except (OSError, subprocess.TimeoutExpired, json.JSONDecodeError) as error:
        why = str(error)
    problems.append(f"a worker cannot start, so nothing can be painted: {why}")
    return {"ok": False, "error": why}
