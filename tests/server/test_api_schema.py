"""The OpenAPI description holds: schemathesis makes requests from it, and every answer must be as described."""

from __future__ import annotations

import pytest
import schemathesis
from door_studio import FakeStudio
from hypothesis import HealthCheck, Phase, settings

from danqing.server.app import create_app
from danqing.server.problems import MEDIA_TYPE
from danqing.studio.settings import Settings

CHECKS = [
    schemathesis.checks.not_a_server_error,
    schemathesis.checks.status_code_conformance,
    schemathesis.checks.content_type_conformance,
    schemathesis.checks.response_schema_conformance,
]


@pytest.fixture
def api(tmp_path):
    app = create_app(FakeStudio(tmp_path), Settings(data_dir=tmp_path))
    loaded = schemathesis.openapi.from_asgi("/api/v1/openapi.json", app, headers={"Host": "127.0.0.1"})
    loaded.config.generation.update(modes=[schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE])
    return loaded


schema = schemathesis.pytest.from_fixture("api")


@schema.parametrize()
@settings(
    max_examples=12,
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_every_answer_is_as_described(case):
    response = case.call(headers={"Host": "127.0.0.1"})
    case.validate_response(response, checks=CHECKS)
    if response.status_code >= 400:
        assert response.headers["content-type"] == [MEDIA_TYPE]
        assert response.json()["status"] == response.status_code
