"""A part of the hostile strings over every argument; `make soak` tries thousands."""

import random

import pytest

from tests.hostile.arguments import API, ARGUMENTS, COMMANDS, Ground, describe, try_name
from tests.hostile.names import SEEDS, make_names


@pytest.fixture(scope="module")
def ground(tmp_path_factory):
    return Ground(tmp_path_factory.mktemp("names") / "ground")


@pytest.fixture(autouse=True)
def _stand_there(ground, monkeypatch):
    monkeypatch.chdir(ground.here)


@pytest.mark.parametrize("part", range(12))
def test_no_string_escapes_or_ends_but_in_a_sentence(ground, part):
    """Each argument meets a twelfth of the seeds, each seed a twelfth of the arguments."""
    arguments = list(ARGUMENTS)
    for number, text in enumerate(SEEDS[part::12]):
        some = arguments[(number + part) % 12 :: 12]
        wrong = try_name(ground, text, {name: ARGUMENTS[name] for name in some})
        assert not wrong, f"{text!r}: {describe(wrong)}"


def test_there_are_thousands_of_them_all_different_and_always_the_same():
    names = make_names(random.Random(1), 2_000)
    assert len(set(names)) == 2_000 and names == make_names(random.Random(1), 2_000)
    assert len(ARGUMENTS) == len(API) + len(COMMANDS)


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        (lambda ground, text: (ground.registry.root / text).write_text("x"), "something outside was touched"),
        (lambda ground, text: (ground.here / "stray").touch(), "there is PosixPath"),
        (lambda ground, text: (ground.registry.root / "model" / "stray").touch(), "there is PosixPath"),
    ],
)
def test_what_escapes_is_seen(tmp_path, argument, said):
    own = Ground(tmp_path / "own")
    assert said in describe(try_name(own, "../../outside/canary", {"careless": argument}))


def test_a_mistake_is_seen(ground):
    wrong = try_name(ground, "x", {"careless": lambda ground, text: int(text)})
    assert wrong["careless"].startswith("it ended with ValueError")
