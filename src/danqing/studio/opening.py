"""From settings to a data folder, a store and a pool."""

from __future__ import annotations

from pathlib import Path

from danqing.spec.errors import DanqingError
from danqing.store.base import Store
from danqing.store.database import Database
from danqing.store.sql import SqlStore
from danqing.studio.settings import Settings
from danqing.workers.local import LocalPool, LocalPoolOptions


def make_folder(path: Path) -> None:
    """The data folder. DanqingError if it cannot be made."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DanqingError(
            f"the data folder cannot be made: {error.strerror}",
            field="data_dir",
            value=str(path),
            next_step="choose another folder with DANQING_DATA_DIR or --data",
        ) from error


def open_store(settings: Settings) -> Store:
    """The database, migrated. DanqingError if it cannot be used."""
    database = Database(settings.database_url, settings.data_dir / "danqing.db")
    try:
        database.migrate()
    except DanqingError:
        database.close()
        raise
    return SqlStore(database)


def local_pool(settings: Settings) -> LocalPool:
    """A worker process for each device."""
    return LocalPool(
        LocalPoolOptions(
            devices=settings.devices,
            models_dir=settings.models_path,
            precision=settings.precision,
            max_inflight=settings.max_inflight,
            arguments=worker_arguments(settings),
            ready_timeout_s=settings.worker_ready_timeout_s,
        )
    )


def worker_arguments(settings: Settings) -> tuple[str, ...]:
    """What a worker is told about previews, what computes, and memory."""
    arguments = (
        *("--preview-every", str(settings.preview_every), "--decoded-every", str(settings.decoded_every)),
        *("--executor", settings.executor),
        *(() if settings.memory_gib is None else ("--memory", str(settings.memory_gib))),
        *(() if settings.vram_gib is None else ("--vram", str(settings.vram_gib))),
    )
    return (*arguments, "--compile") if settings.compile else arguments
