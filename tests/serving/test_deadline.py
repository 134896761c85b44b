"""How long an answer may take: what is too late is refused before it runs, and so is what finds the queue full."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from numbered_models import eventually, publish
from werkzeug.test import TestResponse

from bmp.errors import DeadlineError, RequestError
from bmp.registry import Registry
from serving import deadline
from serving.app import ServingApp, create_app
from serving.deadline import read_timeout
from serving.engines import LiteRTEngine
from serving.settings import Settings

V2_BODY = {"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}]}
DOORS = {
    "/predict": {"x_test": [[1, 2]]},
    "/v1/models/n:predict": {"instances": [[1, 2]]},
    "/v2/models/n/infer": V2_BODY,
}


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    registry = Registry(tmp_path_factory.mktemp("deadline") / "registry")
    publish(registry, 7)
    return registry.root


@pytest.fixture(scope="module")
def make_app(registry: Path) -> Iterator[Callable[..., ServingApp]]:
    apps: list[ServingApp] = []

    def make(**settings: Any) -> ServingApp:
        apps.append(create_app(Settings(registry=registry, reload=False, **settings)))
        eventually(apps[-1].is_started)
        return apps[-1]

    yield make
    for app in apps:
        app.service.stop()


@pytest.fixture(scope="module")
def app(make_app: Callable[..., ServingApp]) -> ServingApp:
    return make_app()


def ask(app: ServingApp, path: str, timeout: str | None = None) -> TestResponse:
    headers = {} if timeout is None else {"X-Request-Timeout": timeout}
    return app.test_client().post(path, json=DOORS[path], headers=headers)


def message_of(response: TestResponse) -> str:
    error = response.get_json()["error"]
    return error["message"] if isinstance(error, dict) else error


@pytest.mark.parametrize("path", DOORS)
@pytest.mark.parametrize("timeout", [None, "30", "2.5", "000000001.0"])
def test_in_time(app: ServingApp, path: str, timeout: str | None) -> None:
    assert ask(app, path, timeout).status_code == 200


@pytest.mark.parametrize("path", DOORS)
def test_too_late(app: ServingApp, path: str) -> None:
    response = ask(app, path, "0.000000001")
    assert response.status_code == 504
    assert "was over before it could run" in message_of(response)


@pytest.mark.parametrize("path", [*DOORS, "/health"])
@pytest.mark.parametrize("timeout", ["", "0", "0.0", "-1", "1s", "nan", "inf", "1e3", ".5", "5.", "٣", "1" * 99])
def test_a_bad_header_is_refused_by_every_door(app: ServingApp, path: str, timeout: str) -> None:
    client = app.test_client()
    headers = {"X-Request-Timeout": timeout}
    response = (
        client.post(path, json=DOORS[path], headers=headers) if path in DOORS else client.get(path, headers=headers)
    )
    assert response.status_code == 400
    assert f"X-Request-Timeout is '{timeout[:80]}'; expected seconds above 0, such as 0.5" in message_of(response)


@given(st.floats(1e-9, 1e9 - 1, allow_nan=False).map(lambda seconds: f"{seconds:.9f}"))
def test_seconds_are_read(text: str) -> None:
    assert read_timeout(text) == float(text)


@given(st.text(max_size=12))
def test_whatever_a_header_says_it_is_seconds_or_an_error(text: str) -> None:
    try:
        assert read_timeout(text) > 0
    except RequestError as error:
        assert error.expected == "seconds above 0, such as 0.5"


def test_bounds_end_with_what_they_bound() -> None:
    assert deadline.current() is None and deadline.cancellation() is None
    with deadline.within(60, lambda: True):
        outer = deadline.current()
        assert outer is not None and deadline.cancellation() is not None
        with deadline.within(None):
            assert deadline.current() is None
            deadline.check()
        assert deadline.current() == outer
        deadline.check()
    with deadline.within(0), pytest.raises(DeadlineError):
        deadline.check()
    assert deadline.current() is None


class Held:
    """An app whose model is in the middle of a run, until it is let go."""

    def __init__(self, app: ServingApp, pool: ThreadPoolExecutor) -> None:
        self.app, self.pool = app, pool
        self.let_go = threading.Event()

    def ask(self, path: str, timeout: str | None = None) -> Future[TestResponse]:
        return self.pool.submit(ask, self.app, path, timeout)


@pytest.fixture
def held(make_app: Callable[..., ServingApp], monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Held]]:
    with ThreadPoolExecutor(8) as pool:
        made: list[Held] = []

        def make(**settings: Any) -> Held:
            held = Held(make_app(**settings), pool)
            made.append(held)
            run, inside = LiteRTEngine.run, threading.Event()

            def hold(engine: LiteRTEngine, inputs: Any) -> Any:
                inside.set()
                assert held.let_go.wait(20)
                return run(engine, inputs)

            monkeypatch.setattr(LiteRTEngine, "run", hold)
            held.first = held.ask("/predict")
            assert inside.wait(10)
            return held

        yield make
        for each in made:
            each.let_go.set()


@pytest.mark.parametrize("path", DOORS)
def test_who_waits_too_long_gets_504_while_the_model_still_runs(held: Callable[..., Held], path: str) -> None:
    made = held()
    response = made.ask(path, "0.05").result(10)
    assert response.status_code == 504 and not made.first.done()
    made.let_go.set()
    assert made.first.result(10).get_json() == {"prediction": [[7.0]]}


@pytest.mark.parametrize("path", DOORS)
def test_a_full_queue_refuses_at_once_and_says_when_to_come_again(held: Callable[..., Held], path: str) -> None:
    made = held(queue=2)
    batcher = made.app.service.get().batcher
    waiting = [made.ask(path) for _ in range(2)]
    eventually(lambda: batcher.waiting == 2)
    response = made.ask(path).result(10)
    assert (response.status_code, response.headers["Retry-After"]) == (503, "1")
    assert message_of(response) == "Model 'n' has 2 examples waiting already; try again in a second."
    made.let_go.set()
    assert [future.result(10).status_code for future in waiting] == [200, 200]


def test_health_is_answered_while_everything_waits(held: Callable[..., Held]) -> None:
    made = held(queue=1)
    assert made.app.test_client().get("/health").status_code == 200
