"""The real comparisons over the fake studio of the page's tests."""

from __future__ import annotations

import secrets
import threading
from types import SimpleNamespace

from danqing.spec.errors import NotFoundError
from danqing.spec.registry.samplers import find_sampler
from danqing.store.explorations import FakeExplorations
from danqing.studio.exploring import Exploring


class Comparing(Exploring):
    """Cells are jobs of the fake studio."""

    def __init__(self, studio):
        self._studio = studio
        self._kept = FakeExplorations(threading.RLock())

    @property
    def _store(self):
        return SimpleNamespace(explorations=self._kept, record_ids=self._record_ids)

    def _record_ids(self, job_id):
        return {record.index: record.id for record in list(self._studio.kept.values()) if record.job_id == job_id}

    def _planned(self, request):
        if request.sampling.sampler:
            find_sampler(request.sampling.sampler)
        if request.model not in (None, *(model.name for model in self._studio.known)):
            raise NotFoundError("there is no such model", field="model", value=request.model)
        return (self._studio._plan(request, secrets.randbelow(2**31) if request.seed is None else request.seed),)

    def live_project(self, project_id):
        return self._studio.live_project(project_id)

    def _queue(self, request, plans, *, tie=None, **_):
        return self._studio.submit(request.model_copy(update={"seed": plans[0].seeds.seed}), tie=tie)

    def record(self, record_id):
        return self._studio.record(record_id)

    def picture_bytes(self, sha256):
        return self._studio.picture_bytes(sha256)

    def cancel(self, job_id):
        return self._studio.cancel(job_id)
