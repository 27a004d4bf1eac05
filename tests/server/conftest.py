from __future__ import annotations

import pytest
from door_studio import FakeStudio
from fastapi.testclient import TestClient

from danqing.server.app import create_app
from danqing.studio.settings import Settings


@pytest.fixture
def studio(tmp_path):
    return FakeStudio(tmp_path)


@pytest.fixture
def settings(tmp_path):
    return Settings(data_dir=tmp_path, upload_max_bytes=64 * 1024)


@pytest.fixture
def client(studio, settings):
    with TestClient(create_app(studio, settings), base_url="http://127.0.0.1:7860") as test_client:
        yield test_client
