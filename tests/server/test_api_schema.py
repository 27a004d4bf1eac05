"""The OpenAPI description holds: schemathesis makes requests from it, and every answer must be as described."""

from __future__ import annotations

import pytest
import schemathesis
from door_studio import FakeStudio
from hypothesis import HealthCheck, Phase, given, settings

from danqing.server.app import create_api
from danqing.server.problems import MEDIA_TYPE

CHECKS = [
    schemathesis.checks.not_a_server_error,
    schemathesis.checks.status_code_conformance,
    schemathesis.checks.content_type_conformance,
    schemathesis.checks.response_schema_conformance,
]
POSITIVE, NEGATIVE = schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE
DESCRIPTION = create_api(None).openapi()  # takes seconds, and is the same whatever studio stands behind it


def every_operation():
    for path, item in DESCRIPTION["paths"].items():
        for method, operation in item.items():
            yield path, method, POSITIVE
            if "parameters" in operation or "requestBody" in operation:  # else nothing can be wrong
                yield path, method, NEGATIVE


@pytest.fixture(scope="module")
def schema(tmp_path_factory):
    api = create_api(FakeStudio(tmp_path_factory.mktemp("api")))
    # as a server at the root, so that the description's own server prefix does not matter
    description = {**DESCRIPTION, "servers": [{"url": "/"}]}
    loaded = schemathesis.openapi.from_dict(description)
    loaded.app = api
    return loaded


@pytest.mark.parametrize(("path", "method", "mode"), list(every_operation()))
def test_every_answer_is_as_described(schema, path, method, mode):
    strategy = schema[path][method].as_strategy(generation_mode=mode)

    @given(case=strategy)
    @settings(
        max_examples=12,
        deadline=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def answers(case):
        response = case.call()
        case.validate_response(response, checks=CHECKS)
        if response.status_code >= 400:
            assert response.headers["content-type"] == [MEDIA_TYPE]
            assert response.json()["status"] == response.status_code

    answers()
