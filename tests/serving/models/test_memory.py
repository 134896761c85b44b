"""The memory budget: what was used least recently goes, comes back when it is asked for, and its memory returns."""

import shutil
import weakref
from pathlib import Path

import psutil
import pytest
from conftest import Server, run_server
from hypothesis import given
from hypothesis import strategies as st
from numbered_models import QUESTION, Form, describe, eventually, make_model, publish, publish_forms

from bmp.artifact.manifest import FileEntry
from bmp.errors import NotReadyError, RequestError
from bmp.registry import Registry
from serving.app import create_app
from serving.models.loader import Loader
from serving.models.memory import Budget, Key, estimate_bytes
from serving.models.model import LoadedModel
from serving.models.terms import Terms
from serving.models.versions import UnloadedError
from serving.service import Service
from serving.settings import Settings

ONE = Terms(memory_bytes=1)
"""Room for nothing, so that there is never more than one."""
WIDTH = 1024  # 4 MB of weights
TURNS = 12


# === Who goes ===

A, B, C = (Key(name, 1, "float32") for name in "abc")


def make_budget(limit: int, **sizes: int) -> Budget:
    """A budget that the models were loaded into in this order."""
    budget = Budget(limit)
    for name, size in sizes.items():
        budget.enter(Key(name, 1, "float32"), size, asked=False)
    return budget


def test_who_was_used_least_recently_goes_first() -> None:
    budget = make_budget(100, a=40, b=40, c=20)
    held = {A, B, C}
    assert budget.fits(held) and not budget.fits(held, 1) and budget.total(held) == 100
    assert budget.choose(held, 0, ()) == []
    assert budget.choose(held, 1, ()) == [A]
    budget.touch(A)
    assert budget.choose(held, 1, ()) == [B]
    assert budget.choose(held, 50, ()) == [B, C]
    assert budget.choose(held, 50, [C]) == [B, A]
    assert budget.choose(held, 1000, ()) == [B, C, A]


def test_who_was_asked_for_stays_until_it_has_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("serving.models.memory.time.monotonic", lambda: now[0])
    budget = Budget(10)
    budget.enter(A, 10, asked=True)
    assert budget.is_fresh(A) and budget.choose({A}, 10, ()) == []
    now[0] += 2
    assert budget.is_fresh(A)
    now[0] += 2
    assert not budget.is_fresh(A) and budget.choose({A}, 10, ()) == [A]
    budget.enter(B, 10, asked=True)
    budget.touch(B)
    assert budget.choose({B}, 10, ()) == [B]


def test_what_will_not_come_back_is_forgotten() -> None:
    budget = make_budget(100, a=40, b=30)
    budget.forget("a", 2)
    assert budget.total([A, B]) == 70
    budget.forget("a", 1)
    assert budget.total([A, B]) == 30


@given(st.lists(st.integers(1, 50), min_size=1, max_size=8), st.integers(1, 200), st.integers(0, 100))
def test_no_more_goes_than_has_to(sizes: list[int], limit: int, more: int) -> None:
    budget = make_budget(limit, **{f"m{index}": size for index, size in enumerate(sizes)})
    held = [Key(f"m{index}", 1, "float32") for index in range(len(sizes))]
    gone = budget.choose(held, more, ())
    left = [key for key in held if key not in gone]
    assert not left or budget.total(left) + more <= limit
    assert gone == held[: len(gone)]
    assert not gone or budget.total([*left, gone[-1]]) + more > limit


def test_files_tell_what_a_variant_will_take() -> None:
    entries = {
        "model.tflite": 10,
        "variants/b.tflite": 20,
        "saved_model.pb": 1,
        "variables/x": 3,
        "bmp/samples.npz": 99,
    }
    files = {path: FileEntry(sha256="", size_bytes=size) for path, size in entries.items()}
    manifest = describe([Form("a", 0, verdict="recommended: x"), Form("b", 0)], files)
    assert (estimate_bytes(manifest, "a"), estimate_bytes(manifest, "b")) == (50, 100)
    graph = manifest.variants[0].model_copy(update={"name": "graph", "file": "saved_model.pb"})
    assert estimate_bytes(manifest.model_copy(update={"variants": (graph,)}), "graph") == 8
    assert Budget(1).size_of(B._replace(variant="b"), manifest) == 100


# === What is loaded ===


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    """A registry with models a, b and c, which answer 1, 2 and 3."""
    registry = Registry(tmp_path / "registry")
    for answer, name in enumerate("abc", 1):
        publish(registry, answer, name)
    return registry


def make_loader(registry: Registry, terms: Terms = ONE) -> Loader:
    loader = Loader(registry, (), None, terms)
    loader.load()
    return loader


def states(loader: Loader) -> dict[str, tuple[str, str | None]]:
    return {name: (state.state, state.error) for name in loader.lineups for state in loader.lineups[name].states()}


def in_memory(loader: Loader) -> list[str]:
    return [name for name, (state, _) in states(loader).items() if state == "AVAILABLE"]


def ask(loader: Loader, name: str, quality: str | None = None) -> float:
    """Asks as a request does."""
    assert loader.budget is not None
    try:
        model = loader.lineups[name].get(quality=quality)
    except UnloadedError as error:
        loader.ask(error.key)
        raise
    loader.budget.touch(Key(name, model.version, model.variant.name))
    return answer_of(model)


def answer_of(model: LoadedModel) -> float:
    return float(model.predict(QUESTION)["y"][0, 0])


def call(loader: Loader, name: str) -> None:
    """Asks for what is not in memory, and has it loaded."""
    with pytest.raises(UnloadedError, match=f"of model '{name}' is not in memory, and is being loaded; try again"):
        ask(loader, name)
    loader.catch_up()


def test_what_there_is_no_memory_for_is_loaded_when_it_is_asked_for(registry: Registry) -> None:
    loader = make_loader(registry)
    assert states(loader) == {"a": ("AVAILABLE", None), "b": ("END", "unloaded"), "c": ("END", "unloaded")}
    assert loader.names == ("a", "b", "c") and list(loader.defaults) == ["a"]
    for name, answer in (("c", 3), ("b", 2), ("a", 1)):
        call(loader, name)
        assert in_memory(loader) == [name] and ask(loader, name) == answer
    assert {lineup.failure for lineup in loader.lineups.values()} == {None}


def test_what_is_answering_is_answered_and_then_its_memory_goes(registry: Registry) -> None:
    loader = make_loader(registry)
    model = loader.lineups["a"].get()
    gone = weakref.ref(model)
    call(loader, "b")
    assert in_memory(loader) == ["b"] and answer_of(model) == 1
    publish(registry, 7, "a")
    loader.catch_up()
    assert [version.number for version in registry.gc("a").in_use] == [1]
    del model
    assert gone() is None
    assert [version.number for version in registry.gc("a").removed] == [1]


def test_two_that_are_asked_for_in_turn_are_both_answered(registry: Registry) -> None:
    loader = make_loader(registry)
    call(loader, "b")
    call(loader, "c")
    assert in_memory(loader) == ["b"], "b has not answered yet"
    assert ask(loader, "b") == 2
    loader.catch_up()
    assert in_memory(loader) == ["c"] and ask(loader, "c") == 3


def test_who_asked_while_it_was_loading_does_not_have_it_loaded_again(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    loader = make_loader(registry)
    load = loader._stock.load
    monkeypatch.setattr(loader._stock, "load", lambda *each: loader.ask(C) or load(*each))
    call(loader, "c")
    monkeypatch.undo()
    assert ask(loader, "c") == 3
    call(loader, "a")
    assert ask(loader, "a") == 1
    loader.catch_up()
    assert in_memory(loader) == ["a"]


def test_what_is_published_is_loaded_before_the_old_one_goes(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    loader, seen = make_loader(registry), []
    load = loader._stock.load
    monkeypatch.setattr(loader._stock, "load", lambda *each: seen.append(ask(loader, "a")) or load(*each))
    publish(registry, 4, "a")
    loader.catch_up()
    assert seen == [1] and ask(loader, "a") == 4 and in_memory(loader) == ["a"]


def test_what_is_published_of_an_unloaded_model_is_proven_first(registry: Registry) -> None:
    loader = make_loader(registry)
    publish(registry, float("nan"), "b")
    loader.catch_up()
    assert loader.lineups["b"].default == 1 and loader.lineups["b"].failure == "inference_failed"
    call(loader, "b")
    assert ask(loader, "b") == 2


def test_what_cannot_be_loaded_again_says_so_and_comes_back(
    registry: Registry, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("serving.models.retries._FIRST_S", 0.0)
    loader, file = make_loader(registry), registry.resolve("b").path / "model.tflite"
    file.write_bytes(b"no model")
    call(loader, "b")
    with pytest.raises(NotReadyError, match="of model 'b' could not be loaded; the log of the server says why"):
        ask(loader, "b")
    loader.catch_up()
    assert caplog.text.count("b/1, variant float32 cannot be served") == 1
    assert states(loader)["b"] == ("END", "invalid_artifact") and loader.lineups["b"].failure == "invalid_artifact"
    file.write_bytes(make_model(2))
    with pytest.raises(NotReadyError):
        ask(loader, "b")
    loader.catch_up()
    assert ask(loader, "b") == 2 and states(loader)["b"] == ("AVAILABLE", None)


def test_what_cannot_be_loaded_is_not_tried_at_every_request(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    loader, tries = make_loader(registry), []
    monkeypatch.setattr(loader._stock, "load", lambda *each: tries.append(each) or 1 / 0)
    for _ in range(5):
        with pytest.raises(NotReadyError):
            ask(loader, "b")
        loader.catch_up()
    assert len(tries) == 1


def test_what_is_asked_for_may_be_gone_by_then(registry: Registry) -> None:
    loader = make_loader(registry)
    with pytest.raises(UnloadedError):
        ask(loader, "b")
    publish(registry, 5, "b")
    loader.catch_up()
    assert ask(loader, "b") == 5
    shutil.rmtree(registry.root / "c")
    loader.ask(Key("nobody", 1, "float32"))
    loader.ask(Key("b", 1, "float32"))
    loader.ask(C)
    loader.catch_up()
    assert states(loader)["c"] == ("END", "not_found") and ask(loader, "b") == 5


def test_variants_count(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "registry")
    publish_forms(registry, [Form("int8", 8, 0.9, verdict="recommended: x"), Form("float32", 32, 0.95)])
    loader = make_loader(registry)
    with pytest.raises(UnloadedError, match="Variant 'float32'"):
        ask(loader, "n", "best")
    loader.catch_up()
    assert states(loader) == {"n": ("END", "unloaded")}
    assert ask(loader, "n", "best") == 32
    call(loader, "n")
    assert ask(loader, "n") == 8


# === What clients see ===


def test_every_door_tells_what_is_unloaded(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "registry")
    for answer, name in enumerate("abc", 1):
        publish(registry, answer, name, width=512)  # just over 1 MiB
    app = create_app(Settings(registry=registry.root, memory_mb=1))
    eventually(app.is_started)
    app.service.stop()
    client, loader = app.test_client(), app.service._loader
    assert client.get("/ready").json == {"ready": True, "models": ["a/1"]}
    listed = client.get("/models").json
    assert [model["name"] for model in listed["models"]] == ["a"] and listed["failed"] == {}
    assert listed["unloaded"]["b"] == [{"number": 1, "state": "END", "error": "unloaded", "aliases": []}]
    index = client.post("/v2/repository/index").json
    assert index[0] == {"name": "a", "version": "1", "state": "READY", "reason": ""}
    assert index[1] == {"name": "b", "version": "1", "state": "UNAVAILABLE", "reason": "unloaded"}
    (state,) = client.get("/v1/models/b").json["model_version_status"]
    assert state == {"version": "1", "state": "END", "status": {"error_code": "OK", "error_message": "unloaded"}}
    assert client.get("/v1/models").json == {"models": ["a", "b", "c"]}
    assert client.get("/v2/models/b/ready").status_code == 503
    loader.catch_up()
    assert in_memory(loader) == ["a"], "whoever asks whether it is ready does not want it"
    question = {"x_test": [[0, 0]], "model": "b"}
    reply = client.post("/predict", json=question)
    assert (reply.status_code, reply.headers["Retry-After"]) == (503, "1")
    loader.catch_up()
    assert client.post("/predict", json=question).json == {"prediction": [[2.0]]}
    assert client.get("/models").json["unloaded"].keys() == {"a", "c"}


def test_a_request_without_a_name_never_means_what_is_left(registry: Registry) -> None:
    service = Service(registry, terms=ONE)
    service.load()
    assert service.sole_model() is None
    with pytest.raises(RequestError, match=r"Several models are served \(a, b, c\)"):
        service.get()


# === Memory ===


def test_memory_returns(tmp_path: Path) -> None:
    """Models that do not fit together take turns; each is answered, and the process does not grow."""
    registry = Registry(tmp_path / "registry")
    for answer, name in enumerate("abcd", 1):
        publish(registry, answer, name, width=WIDTH)
    options, environ = ("--workers", "1", "--memory-mb", "12"), {"BMP_BATCHING": "off"}  # each takes 8 MB
    with run_server(registry.root, tmp_path / "log", *options, environ=environ) as server:
        (worker,) = psutil.Process(server.process.pid).children()
        sizes = [_take_turn(server, worker, turn) for turn in range(TURNS)]
    assert max(sizes) - min(sizes) < 8 * 2**20, sizes
    log = (tmp_path / "log").read_text()
    assert "is unloaded: the models would take more than BMP_MEMORY_MB" in log and "Traceback" not in log


def _take_turn(server: Server, worker: psutil.Process, turn: int) -> int:
    name, answer = "abcd"[turn % 4], turn % 4 + 1
    question = {"x_test": [[0, 0]], "model": name}
    eventually(lambda: server.post(question).status_code == 200)
    assert server.post(question).json() == {"prediction": [[float(answer)]]}
    return worker.memory_info().rss
