"""The loader: what is loaded follows what is published, one look at a time."""

import gc
import logging
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numbered_models import QUESTION, make_model, publish

from bmp.errors import InferenceError, NotFoundError, NotReadyError
from bmp.registry import Registry, Version
from serving.models.loader import Loader
from serving.models.model import LoadedModel, load_model
from serving.models.terms import Terms
from serving.models.versions import VersionState


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    """A registry with versions 1 and 2 of n, the first one in production."""
    registry = Registry(tmp_path / "registry")
    publish(registry, 1)
    registry.set_alias("n", "production", 1)
    publish(registry, 2)
    return registry


def make_loader(registry: Registry, policy: str = "served", names: tuple[str, ...] = ()) -> Loader:
    loader = Loader(registry, names, None, Terms(versions=policy))
    loader.load()
    return loader


def ask(loader: Loader, version: int | None = None, alias: str | None = None, name: str = "n") -> float:
    return answer_of(loader.lineups[name].get(version, alias))


def answer_of(model: LoadedModel) -> float:
    return float(model.predict(QUESTION)["y"][0, 0])


def states(loader: Loader) -> list[tuple[int, str, str | None]]:
    return [(state.number, state.state, state.error) for state in loader.lineups["n"].states()]


def damage(version: Version) -> Path:
    file = version.path / "model.tflite"
    file.write_bytes(file.read_bytes()[::-1])
    return file


# === Where default and aliases lead ===


def test_the_default_goes_where_production_goes(registry: Registry) -> None:
    loader = make_loader(registry)
    assert ask(loader) == 1 and states(loader) == [(1, "AVAILABLE", None)]
    registry.set_alias("n", "production", 2)
    loader.catch_up()
    assert ask(loader) == ask(loader, alias="production") == ask(loader, 2) == 2
    registry.rollback("n")
    loader.catch_up()
    assert ask(loader) == 1 and states(loader) == [(1, "AVAILABLE", None)]
    registry.remove_alias("n", "production")
    loader.catch_up()
    assert ask(loader) == 2
    with pytest.raises(NotFoundError, match=r"has no alias 'production'\. Aliases: none"):
        ask(loader, alias="production")


def test_without_production_the_newest_is_the_default(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "registry")
    loader = make_loader(registry)
    assert loader.lineups == {} and loader.failed == {}
    for answer in (1, 2):
        publish(registry, answer)
        loader.catch_up()
        assert ask(loader) == answer
    assert [model.version for model in loader.defaults.values()] == [2]


def test_every_version_that_an_alias_names_is_served(registry: Registry) -> None:
    loader = make_loader(registry)
    registry.set_alias("n", "canary", 2)
    registry.set_alias("n", "pinned", 2)
    loader.catch_up()
    assert (ask(loader), ask(loader, alias="canary"), ask(loader, 2)) == (1, 2, 2)
    assert loader.lineups["n"].states() == [
        VersionState(1, "AVAILABLE", None, ("production",)),
        VersionState(2, "AVAILABLE", None, ("canary", "pinned")),
    ]
    with pytest.raises(NotFoundError, match=r"no alias 'canry'.*Did you mean 'canary'"):
        ask(loader, alias="canry")
    registry.remove_alias("n", "canary")
    registry.set_alias("n", "pinned", 1)
    loader.catch_up()
    assert states(loader) == [(1, "AVAILABLE", None)]


@pytest.mark.parametrize(
    ("policy", "served"), [("served", [2]), ("latest:1", [2, 4]), ("latest:2", [2, 3, 4]), ("all", [1, 2, 3, 4])]
)
def test_the_policy_says_what_is_served_besides(registry: Registry, policy: str, served: list[int]) -> None:
    registry.set_alias("n", "production", 2)
    publish(registry, 3)
    loader = make_loader(registry, policy)
    publish(registry, 4)
    loader.catch_up()
    assert [state.number for state in loader.lineups["n"].states()] == served
    assert ask(loader) == 2
    for number in {1, 2, 3, 4} - set(served):
        with pytest.raises(NotFoundError, match=f"Version {number} of model 'n' is published, but not served; served"):
            ask(loader, number)
    with pytest.raises(NotFoundError, match="not 7"):
        ask(loader, 7)


def test_only_models_that_were_named(registry: Registry) -> None:
    loader = make_loader(registry, names=("n", "later"))
    assert loader.failed == {"later": "not_found"}
    publish(registry, 7, "later")
    publish(registry, 8, "other")
    loader.catch_up()
    assert set(loader.lineups) == {"n", "later"} and loader.failed == {}
    assert ask(loader, name="later") == 7


# === While a version loads ===


def test_the_default_moves_once_its_version_can_answer(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    loader = make_loader(registry)
    loading, gate = threading.Event(), threading.Event()

    def load(version: Version, *choice: str, **options: Any) -> LoadedModel:
        loading.set()
        assert gate.wait(10)
        return load_model(version, *choice, **options)

    monkeypatch.setattr("serving.models.stock.load_model", load)
    publish(registry, 3)
    registry.set_alias("n", "production", 3)
    registry.set_alias("n", "canary", 2)
    thread = threading.Thread(target=loader.catch_up)
    thread.start()
    assert loading.wait(10)
    assert ask(loader) == ask(loader, alias="production") == 1
    assert states(loader) == [(1, "AVAILABLE", None), (2, "START", None), (3, "LOADING", None)]
    for request in ({"version": 3}, {"alias": "canary"}):
        with pytest.raises(NotReadyError, match="still loading"):
            loader.lineups["n"].get(**request)
    gate.set()
    thread.join(10)
    assert (ask(loader), ask(loader, alias="canary")) == (3, 2)
    assert states(loader) == [(2, "AVAILABLE", None), (3, "AVAILABLE", None)]


def test_an_alias_that_moved_on_while_a_version_loaded_never_stops_there(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    loader, seen = make_loader(registry), []
    publish(registry, 3)

    def load(version: Version, *choice: str, **options: Any) -> LoadedModel:
        seen.append((version.number, ask(loader)))
        registry.set_alias("n", "production", 3)
        return load_model(version, *choice, **options)

    monkeypatch.setattr("serving.models.stock.load_model", load)
    registry.set_alias("n", "production", 2)
    loader.catch_up()
    assert seen == [(2, 1), (3, 1)]
    assert ask(loader) == 3 and states(loader) == [(3, "AVAILABLE", None)]


def test_a_request_ends_with_the_version_that_it_began_with(registry: Registry) -> None:
    loader = make_loader(registry)
    model = loader.lineups["n"].get()
    registry.set_alias("n", "production", 2)
    loader.catch_up()
    assert states(loader) == [(1, "UNLOADING", None), (2, "AVAILABLE", None)]
    assert (answer_of(model), ask(loader)) == (1, 2)
    assert [version.number for version in registry.gc("n").in_use] == [1]
    del model
    assert states(loader) == [(2, "AVAILABLE", None)]
    assert [version.number for version in registry.gc("n").removed] == [1]


def test_what_is_dropped_leaves_nothing_to_the_garbage_collector(registry: Registry) -> None:
    """So its memory and its lease go at once, and not when Python happens to look for cycles."""
    gc.disable()
    try:
        loader = make_loader(registry)
        registry.set_alias("n", "production", 2)
        loader.catch_up()
        assert [version.number for version in registry.gc("n").removed] == [1]
    finally:
        gc.enable()


# === What goes wrong ===


def test_a_version_that_cannot_be_loaded_leaves_the_old_one(
    registry: Registry, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serving.models.retries._FIRST_S", 0.0)
    loader = make_loader(registry)
    file = damage(registry.get("n", 2))
    registry.set_alias("n", "production", 2)
    with caplog.at_level(logging.ERROR):
        for _ in range(3):  # it is tried again, and told once
            loader.catch_up()
    assert caplog.text.count("n/2 cannot be served") == 1
    assert ask(loader) == ask(loader, alias="production") == 1
    assert loader.lineups["n"].failure == "invalid_artifact"
    assert states(loader) == [(1, "AVAILABLE", None), (2, "END", "invalid_artifact")]
    with pytest.raises(NotReadyError, match="Version 2 of model 'n' could not be loaded"):
        ask(loader, 2)
    file.write_bytes(make_model(2))
    loader.catch_up()
    assert ask(loader) == 2 and loader.lineups["n"].failure is None


def test_what_failed_is_tried_less_and_less_often(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("serving.models.loader.time.monotonic", lambda: now[0])
    loader, tries = make_loader(registry), []
    damage(registry.get("n", 2))
    monkeypatch.setattr(
        "serving.models.stock.load_model", lambda version, *_, **__: tries.append(now[0]) or load_model(version)
    )
    registry.set_alias("n", "production", 2)
    for _ in range(200):
        loader.catch_up()
        now[0] += 1
    assert tries == [100, 101, 103, 107, 115, 131, 163, 223, 283]
    registry.tag("n", 2, "key", "value")  # whatever happens to the model is a reason to try at once
    loader.catch_up()
    assert tries[-1] == now[0]


def test_a_version_that_answers_with_no_number_never_gets_a_request(registry: Registry) -> None:
    loader = make_loader(registry)
    publish(registry, float("nan"))
    with pytest.raises(InferenceError, match="not finite"):
        load_model(registry.get("n", 3))
    registry.set_alias("n", "production", 3)
    loader.catch_up()
    assert ask(loader) == 1 and states(loader)[-1] == (3, "END", "inference_failed")


def test_an_error_that_nobody_thought_of_harms_nothing_else(
    registry: Registry, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    loader = make_loader(registry)
    monkeypatch.setattr(
        "serving.models.stock.load_model",
        lambda version, *_, **__: 1 / 0 if version.name == "n" else load_model(version),
    )
    registry.set_alias("n", "production", 2)
    publish(registry, 5, "z")
    with caplog.at_level(logging.ERROR):
        loader.catch_up()
    assert (ask(loader), ask(loader, name="z")) == (1, 5)
    assert states(loader)[-1] == (2, "END", "internal_error") and "ZeroDivisionError" in caplog.text


def test_a_model_whose_directory_is_gone_stays(registry: Registry) -> None:
    loader = make_loader(registry)
    shutil.rmtree(registry.root / "n")
    loader.catch_up()
    assert ask(loader) == 1 and states(loader) == [(1, "AVAILABLE", None)]
    assert loader.failed == {"n": "not_found"}


def test_a_model_that_never_answered_is_forgotten_with_its_directory(registry: Registry) -> None:
    damage(publish(registry, 3, "z"))
    loader, named = make_loader(registry), make_loader(registry, names=("z",))
    assert loader.lineups["z"].failure == named.lineups["z"].failure == "invalid_artifact"
    shutil.rmtree(registry.root / "z")
    loader.catch_up()
    named.catch_up()
    assert set(loader.lineups) == {"n"} and loader.failed == {}
    assert named.failed == {"z": "not_found"}


def test_a_version_that_took_the_number_of_another_is_loaded(registry: Registry) -> None:
    loader = make_loader(registry)
    shutil.rmtree(registry.root / "n")
    publish(registry, 7)
    loader.catch_up()
    assert ask(loader) == ask(loader, 1) == 7


def test_a_damaged_journal_changes_nothing_until_it_is_mended(registry: Registry) -> None:
    loader, journal = make_loader(registry), registry.root / "n" / "journal.jsonl"
    lines = journal.read_bytes()
    journal.write_bytes(lines.replace(b"alias", b"ailas"))
    loader.catch_up()
    assert ask(loader) == 1 and loader.failed == {"n": "registry_error"}
    journal.write_bytes(lines)
    loader.catch_up()
    assert ask(loader) == 1 and loader.failed == {}


def test_a_registry_that_cannot_be_read_at_first(tmp_path: Path, registry: Registry) -> None:
    root = tmp_path / "mounted-later"
    root.write_bytes(b"")
    loader = make_loader(Registry(root))
    assert loader.failed == {"(registry)": "registry_error"}
    root.unlink()
    registry.root.rename(root)
    loader.catch_up()
    assert ask(loader) == 1 and loader.failed == {}


# === Whatever happens ===

MOVES = st.lists(
    st.one_of(
        st.tuples(st.just("publish"), st.booleans()),
        st.tuples(st.sampled_from(["production", "canary"]), st.integers(0, 5)),
        st.just(("look", 0)),
    ),
    max_size=10,
)


@given(moves=MOVES, policy=st.sampled_from(["served", "latest:2", "all"]))
@settings(max_examples=15, deadline=None)
def test_what_is_served_is_what_the_registry_says(
    tmp_path_factory: pytest.TempPathFactory, moves: list[tuple[str, int]], policy: str
) -> None:
    """Each version answers with its own number; where it leads to a damaged one, default and aliases stay."""
    registry = Registry(tmp_path_factory.mktemp("moves") / "registry")
    publish(registry, 1)
    loader, bad, expected = make_loader(registry, policy), set[int](), {"default": 1}
    for kind, value in [*moves, ("look", 0)]:
        numbers = registry.versions("n")
        if kind == "publish":
            version = publish(registry, numbers[-1] + 1)
            if not value:
                damage(version)
                bad.add(version.number)
        elif kind != "look":
            registry.set_alias("n", kind, numbers[value % len(numbers)])
        else:
            loader.catch_up()
            targets = {"default": registry.resolve("n").number, **registry.aliases("n")}
            good = {name: number for name, number in targets.items() if number not in bad}
            expected = {**expected, **good}
            found = {"default": ask(loader), **{name: ask(loader, alias=name) for name in good if name != "default"}}
            assert found == {name: expected[name] for name in found}
            assert all(
                ask(loader, state.number) == state.number for state in loader.lineups["n"].states() if not state.error
            )
            assert set(loader.lineups["n"].failed) == bad & loader.lineups["n"].wanted
