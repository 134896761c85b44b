"""The OpenAPI document: valid, and true of the server that hands it out."""

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from door_models import publish_door_models
from hypothesis import HealthCheck, given, settings
from numbered_models import eventually
from schemathesis import GenerationMode
from schemathesis.checks import CHECKS, load_all_checks
from schemathesis.schemas import BaseSchema

from serving.app import ServingApp, create_app
from serving.settings import Settings

# Not that whatever fits a schema is answered: a schema cannot say everything, such as that sizes belong together.
# Nor that a method without a meaning is 405: what is below /v1/models answers as TensorFlow Serving does.
load_all_checks()
CHECKED = [
    check for check in CHECKS.get_all() if check.__name__ not in ("positive_data_acceptance", "unsupported_method")
]
CASES = {GenerationMode.POSITIVE: 6, GenerationMode.NEGATIVE: 3}


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> ServingApp:
    """Models of tensors, a table and a text, one at two versions."""
    root = tmp_path_factory.mktemp("openapi")
    publish_door_models(root)
    app = create_app(Settings(registry=root / "registry"))
    eventually(app.is_started)
    return app


@pytest.fixture(scope="module")
def api(app: ServingApp) -> BaseSchema:
    return schemathesis.openapi.from_wsgi("/openapi.json", app)


def operations(api: BaseSchema) -> Iterator[Any]:
    """Returns every operation; of versions only those of the model that has two."""
    found = (result.ok() for result in api.get_all_operations())
    return (each for each in found if "/versions/" not in each.path or "/flags/" in each.path)


def test_document_is_valid(api: BaseSchema) -> None:
    api.validate()
    assert "response_schema_conformance" in [check.__name__ for check in CHECKED]
    assert api.raw_schema["openapi"] == "3.1.0"
    assert len([*operations(api)]) > 60


@pytest.mark.parametrize("mode", GenerationMode)
def test_whatever_is_sent_the_answer_is_as_announced(api: BaseSchema, mode: GenerationMode) -> None:
    asked = [each for each in operations(api) if mode is GenerationMode.POSITIVE or each.body]
    statuses = [status for operation in asked for status in send_anything(operation, mode)]
    assert len(statuses) >= len(asked)
    if mode is GenerationMode.POSITIVE:
        assert statuses.count(200) > len(statuses) / 3, "what fits the schemas is hardly ever answered"


def send_anything(operation: Any, mode: GenerationMode) -> list[int]:
    statuses = []

    @settings(max_examples=CASES[mode], deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(case=operation.as_strategy(generation_mode=mode))
    def send(case: schemathesis.Case) -> None:
        statuses.append(case.call_and_validate(checks=CHECKED).status_code)

    send()
    return statuses


def test_every_example_is_answered_as_announced(api: BaseSchema) -> None:
    count = 0
    for operation in operations(api):
        content = operation.definition.raw.get("requestBody", {}).get("content", {}).get("application/json", {})
        for example in content.get("examples", {}).values():
            case = operation.Case(body=example["value"], media_type="application/json", headers={})
            assert case.call_and_validate(checks=CHECKED).status_code == 200, (operation.label, example)
            count += 1
    assert count > 20
