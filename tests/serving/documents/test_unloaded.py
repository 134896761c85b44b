"""The documents tell of models that are not in memory as well, and have none loaded for it."""

import re
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from numbered_models import eventually, publish
from raw_models import publish_models

from bmp.artifact.manifest import read_manifest, write_manifest
from bmp.errors import NotReadyError
from bmp.registry import Registry
from serving.answer import ask_json
from serving.codec.json import decode_request
from serving.documents.examples import list_examples
from serving.documents.openapi import describe_api
from serving.documents.page import write_page
from serving.http.docs import build_docs_door
from serving.models.control import Control
from serving.models.model import LoadedModel
from serving.models.stock import Stock
from serving.models.terms import Terms
from serving.models.versions import UnloadedError
from serving.service import Service

NAMES = ["numbers", "passengers", "reviews", "tumours"]
ADDRESS = "http://localhost:5000"


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    """Models of a table, a text and tensors, with transforms and without; of one, two versions."""
    root = tmp_path_factory.mktemp("unloaded")
    publish_models(root, NAMES[1:])
    registry = Registry(root / "registry")
    for answer in (1, 2):
        publish(registry, answer, NAMES[0])
    registry.set_alias(NAMES[0], "old", 1)
    return registry


@pytest.fixture(scope="module")
def awake(registry: Registry) -> Service:
    """Everything is in memory."""
    service = Service(registry)
    service.load()
    return service


@pytest.fixture
def asleep(registry: Registry) -> Iterator[Service]:
    """There is never more than one in memory."""
    service = Service(registry, terms=Terms(memory_bytes=1))
    service.start()
    eventually(service.is_started)
    yield service
    service.stop()


def in_memory(service: Service) -> list[str]:
    return [model.name for model in service.models()]


def without_examples(document: Any) -> Any:
    if isinstance(document, dict):
        return {key: without_examples(value) for key, value in document.items() if key != "examples"}
    return [without_examples(each) for each in document] if isinstance(document, list) else document


def test_the_document_says_the_same_of_what_is_not_in_memory(awake: Service, asleep: Service) -> None:
    assert in_memory(asleep) == NAMES[:1] and in_memory(awake) == NAMES
    document = describe_api(asleep)
    assert without_examples(document) == without_examples(describe_api(awake))
    assert "/v2/models/numbers/versions/1/infer" in document["paths"]
    assert in_memory(asleep) == NAMES[:1]


def test_the_page_shows_all_models_and_says_which_are_not_in_memory(awake: Service, asleep: Service) -> None:
    pages = {service: unescape(write_page(service, ADDRESS, 8500)) for service in (awake, asleep)}
    for text in pages.values():
        assert re.findall('<section id="(.*?)">', text) == NAMES
    assert "not in memory" not in pages[awake]
    assert "version 1 (old, not in memory), 2</small>" in pages[asleep]
    assert pages[asleep].count("version 1 (not in memory)</small>") == 3
    assert pages[asleep].count("ask again") == 4
    assert "died" in pages[asleep] and "survived" in pages[asleep]
    assert in_memory(asleep) == NAMES[:1]


def test_examples_are_there_before_their_model_and_answered_by_it(asleep: Service) -> None:
    app = Flask("docs")
    app.register_blueprint(build_docs_door(asleep, 8500))
    for name in reversed(NAMES):
        reply = app.test_client().get(f"/docs/examples/{name}/predict.json")
        assert reply.status_code == 200 and reply.get_json()["model"] == name
        (outputs,) = ask_json(load(asleep, name), decode_request(reply.data)).answer().outputs.values()
        assert len(outputs) == 1


def load(service: Service, name: str) -> LoadedModel:
    """Asks until it is there."""
    found: list[LoadedModel] = []

    def ask() -> bool:
        try:
            found.append(service.get(name))
        except UnloadedError:
            return False
        return True

    eventually(ask)
    return found[0]


def test_what_was_in_memory_keeps_its_example(asleep: Service) -> None:
    before = list_examples(load(asleep, "numbers"), named=True)
    load(asleep, "reviews")
    eventually(lambda: in_memory(asleep) == ["reviews"])
    assert list_examples(asleep.describe("numbers"), named=True) == before


def test_what_no_client_wants_is_not_described_but_named(registry: Registry, tmp_path: Path) -> None:
    service = Service(registry, terms=Terms(control=Control(["reviews"], tmp_path / "control")))
    service.load()
    text = unescape(write_page(service, ADDRESS))
    assert re.findall('<section id="(.*?)">', text) == ["reviews"]
    assert "Not loaded: numbers, passengers, tumours. <code>POST /v2/repository/models/NAME/load</code>" in text
    assert "/v2/repository/models/tumours/load" in describe_api(service)["paths"]


def test_what_is_still_loading_is_named(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    service, load, pages = Service(registry), Stock.load, [""]
    monkeypatch.setattr(Stock, "load", lambda *each: pages.append(write_page(service, ADDRESS)) or load(*each))
    assert "No model is served yet" in write_page(service, ADDRESS)
    with pytest.raises(NotReadyError, match="still loading"):
        service.describe("reviews")
    service.load()
    assert "Still loading: numbers. It appears here once it can answer." in pages[1]
    assert "Still loading" not in write_page(service, ADDRESS)


def test_a_manifest_that_does_not_fit_together_is_a_failure_and_harms_no_other(tmp_path: Path) -> None:
    published = publish_models(tmp_path, ["passengers"])["passengers"]
    directory = tmp_path / "passengers"
    transforms = published.preprocessing.to_dict()
    transforms["steps"][0]["fitted"] = None
    write_manifest(read_manifest(directory).model_copy(update={"preprocessing": transforms}), directory)
    Registry(tmp_path / "registry").publish(directory, "zebras")
    service = Service(Registry(tmp_path / "registry"), terms=Terms(memory_bytes=1))
    service.load()
    assert service.failures() == {"zebras": "invalid_artifact"}
    text = write_page(service, ADDRESS)
    assert "<strong>zebras</strong> is not as the registry says: invalid_artifact" in text
    assert re.findall('<section id="(.*?)">', text) == ["passengers"]
