"""The fast path by itself: who runs with whom, who is turned away, who is dropped. What it answers is for the doors."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numbered_models
import pytest
from werkzeug.test import EnvironBuilder

from bmp.registry import Registry
from serving import fast
from serving.app import ServingApp, create_app
from serving.batching import Plan
from serving.fast import FastPath, Prediction
from serving.metrics import meters
from serving.models.model import LoadedModel
from serving.settings import Settings

Runs = list[tuple[str, int]]


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    registry = Registry(tmp_path / "registry")
    numbered_models.publish(registry, 1, "one")
    numbered_models.publish(registry, 2, "two")
    return registry


Start = Callable[..., FastPath]


@pytest.fixture
def start(registry: Registry) -> Iterator[Start]:
    """`start(together=…, **settings)`: an app whose models gather so many examples, and its fast path."""
    apps: list[ServingApp] = []

    def start(together: int = 4, **settings: Any) -> FastPath:
        app = create_app(Settings(registry=registry.root, **settings))
        apps.append(app)
        numbered_models.eventually(app.is_started)
        for model in app.service.models():
            model.together.plan = Plan(dict.fromkeys((1, together), 1e-3), together)
        return app.fast_path

    yield start
    for app in apps:
        app.service.stop()


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Runs:
    """Model and number of requests of each run."""
    runs: Runs = []
    run = fast.run_together

    def note(model: LoadedModel, works: list[Any]) -> None:
        runs.append((model.name, len(works)))
        run(model, works)

    monkeypatch.setattr(fast, "run_together", note)
    return runs


def ask(path: FastPath, model: str = "one", count: int = 1, *, body: bytes | None = None, **headers: str) -> Prediction:
    builder = EnvironBuilder(
        "/predict",
        method="POST",
        content_type="application/json",
        headers={name.replace("_", "-"): value for name, value in headers.items()},
    )
    route = path.find(builder.get_environ())
    builder.close()
    assert route is not None
    return route.begin(body or json.dumps({"model": model, "x_test": [[0, 0]] * count}).encode())


def read(prediction: Prediction) -> tuple[int, dict[str, Any]]:
    assert prediction.reply is not None
    return prediction.reply.status, json.loads(prediction.reply.body)


def error(prediction: Prediction) -> tuple[int, str]:
    status, content = read(prediction)
    return status, content["error"]["code"]


def test_what_waits_runs_together_in_order(start: Start, runs: Runs) -> None:
    path = start(together=4)
    asked = [ask(path, count=count) for count in (1, 2, 1, 3, 2)]
    assert all(prediction.reply is None for prediction in asked)
    answered = [path.run(), path.run(), path.run()]
    assert answered == [asked[:3], asked[3:4], asked[4:]] and runs == [("one", 3), ("one", 1), ("one", 1)]
    for prediction, count in zip(asked, (1, 2, 1, 3, 2), strict=True):
        assert read(prediction) == (200, {"prediction": [[1.0]] * count})


def test_models_take_turns(start: Start, runs: Runs) -> None:
    path = start(together=2)
    asked = [ask(path, model) for model in ("one", "one", "one", "two")]
    answered = [prediction for _ in range(3) for prediction in path.run()]
    assert runs == [("one", 2), ("two", 1), ("one", 1)] and set(answered) == set(asked)
    assert read(asked[3]) == (200, {"prediction": [[2.0]]})


def test_where_gathering_does_not_pay_each_runs_alone(start: Start, runs: Runs) -> None:
    path = start(together=1)
    asked = [ask(path, count=count) for count in (1, 3, 1)]
    assert [path.run(), path.run(), path.run()] == [[prediction] for prediction in asked]
    assert runs == [("one", 1)] * 3


def test_a_full_queue_turns_away_at_once_and_counts_it(start: Start) -> None:
    path = start(queue=3)
    labels = {"model": "one", "version": "1", "door": "predict", "outcome": "overloaded"}
    counter = ("bmp_request_duration_seconds_count", labels)
    path.settle()
    before = meters.REGISTRY.get_sample_value(*counter) or 0
    asked = [ask(path), ask(path, count=2)]
    refused = ask(path)
    assert error(refused) == (503, "overloaded")
    assert refused.reply is not None and ("Retry-After", "1") in refused.reply.headers
    path.settle()
    assert meters.REGISTRY.get_sample_value(*counter) == before + 1
    assert ask(path, "two").reply is None, "another model has a queue of its own"
    assert {*path.run(), *path.run()} >= set(asked)
    assert ask(path).reply is None, "there is room again"


def test_one_request_may_always_wait(start: Start) -> None:
    path = start(queue=3)
    large = ask(path, count=9)
    assert large.reply is None and error(ask(path)) == (503, "overloaded")
    path.run()
    assert read(large)[0] == 200


def test_a_full_queue_turns_away_without_reading_the_body(start: Start) -> None:
    path = start(queue=1, models=("one",))
    waiting = ask(path)
    assert error(ask(path, body=b"no JSON")) == (503, "overloaded")
    path.run()
    assert error(ask(path, body=b"no JSON")) == (400, "invalid_request") and read(waiting)[0] == 200


def test_what_is_too_late_is_not_run(start: Start) -> None:
    path = start()
    late, punctual = ask(path, X_Request_Timeout="0.001"), ask(path, X_Request_Timeout="60")
    time.sleep(0.002)
    path.run()
    assert error(late) == (504, "deadline_exceeded") and read(punctual)[0] == 200
    assert error(ask(path, X_Request_Timeout="soon")) == (400, "invalid_request")


def test_who_is_gone_is_not_run(start: Start, runs: Runs) -> None:
    path = start(queue=2)
    gone, staying = ask(path), ask(path)
    path.drop(gone)
    third = ask(path)
    assert third.reply is None, "its place is free"
    assert path.run() == [staying, third] and runs == [("one", 2)]
    path.drop(ask(path))
    last = ask(path, "two")
    assert path.run() == [last]


def test_a_request_ends_with_the_version_it_began_with(start: Start, registry: Registry) -> None:
    path = start(models=("one",))
    began = ask(path)
    numbered_models.publish(registry, 7, "one")
    numbered_models.eventually(lambda: ask(path).model.version == 2)  # type: ignore[union-attr]
    path.run(), path.run()
    assert read(began) == (200, {"prediction": [[1.0]]})
    assert began.reply is not None and ("Bmp-Model", "one/1") in began.reply.headers


def test_a_bug_is_a_500_without_details_and_harms_no_neighbour(
    start: Start, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = start()
    broken, whole = ask(path), ask(path)
    monkeypatch.setattr(broken, "_encode", lambda answer: 1 / 0)
    path.run()
    assert error(broken) == (500, "internal_error") and read(whole)[0] == 200
    assert "ZeroDivisionError" in caplog.text and b"division" not in broken.reply.body  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("method", "target", "is_hot"),
    [
        ("POST", "/predict", True),
        ("POST", "/predict?top_k=1", True),
        ("POST", "/v1/models/one:predict", True),
        ("POST", "/v1/models/one/labels/x:PREDICT", True),
        ("POST", "/v2/models/one/infer", True),
        ("POST", "/v2/models/one/versions/1/infer", True),
        ("GET", "/predict", False),
        ("POST", "/predict/", False),
        ("POST", "//predict", False),
        ("POST", "/v1/models/one:classify", False),
        ("POST", "/v1/models/one", False),
        ("POST", "/v1/models//one:predict", False),
        ("POST", "/v2/models/one/infer/", False),
        ("POST", "/v2/models/one//infer", False),
        ("POST", "/v2/models/a%2Fb/infer", False),
        ("POST", "/v2/models/%C3%A9/infer", False),
        ("POST", "/", False),
    ],
)
def test_hot_routes(start: Start, method: str, target: str, is_hot: bool) -> None:
    builder = EnvironBuilder(target, method=method, data=b"{}", content_type="application/json")
    environ = builder.get_environ()
    environ["PATH_INFO"] = builder.path.replace("%2F", "/").replace("%C3%A9", "\u00c3\u00a9")
    builder.close()
    assert (start().find(environ) is not None) == is_hot
