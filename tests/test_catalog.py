import re

import pytest

from bmp.catalog import Catalog
from bmp.errors import ConfigError, UnknownNameError


def build_net(signature: str, /, *, hidden: list[int], activation: str = "relu", scale: float = 1.0):
    return signature, hidden, activation, scale


def build_plain(signature: str, /):
    return signature


@pytest.fixture
def catalog():
    return Catalog("model", {"net": build_net, "plain": build_plain})


def test_is_a_mapping_of_its_entries(catalog):
    assert catalog["net"] is build_net
    assert dict(catalog) == {"net": build_net, "plain": build_plain}
    assert "net" in catalog and "nett" not in catalog and len(catalog) == 2


@pytest.mark.parametrize(("name", "guess"), [("nett", " Did you mean 'net'?"), ("transformer", "")])
@pytest.mark.parametrize("ask", [Catalog.__getitem__, lambda catalog, name: catalog.bind(name, {})])
def test_unknown_name_lists_the_known_ones_with_a_guess(catalog, ask, name, guess):
    with pytest.raises(UnknownNameError) as caught:
        ask(catalog, name)
    assert str(caught.value) == f"No model is named '{name}'. Known: net, plain.{guess}"
    assert caught.value.received == name


def test_get_falls_back_like_any_mapping(catalog):
    assert catalog.get("nett") is None


def test_registers_an_entry_of_ones_own(catalog):
    catalog.register("mine", build_plain)
    assert catalog["mine"] is build_plain


def test_refuses_a_name_that_is_taken_and_keeps_the_entry(catalog):
    with pytest.raises(ConfigError, match="'net' exists already"):
        catalog.register("net", build_plain)
    assert catalog["net"] is build_net


def test_registering_leaves_the_table_it_was_made_from_alone():
    entries = {"net": build_net}
    Catalog("model", entries).register("mine", build_plain)
    assert list(entries) == ["net"]


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ({"hidden": [3]}, ("sig", [3], "relu", 1.0)),
        ({"hidden": [], "activation": "tanh", "scale": 0.5}, ("sig", [], "tanh", 0.5)),
        ({"hidden": [3], "scale": 2}, ("sig", [3], "relu", 2.0)),
    ],
)
def test_bind_fills_in_arguments_and_keeps_defaults(catalog, args, expected):
    assert catalog.bind("net", args)("sig") == expected


def test_bind_builds_nothing_yet():
    def build_bomb(*, size: int):
        raise AssertionError("built")

    bound = Catalog("model", {"bomb": build_bomb}).bind("bomb", {"size": 1})
    with pytest.raises(AssertionError, match="built"):
        bound()


@pytest.mark.parametrize(
    ("name", "args", "message"),
    [
        ("net", {}, "needs the argument 'hidden'"),
        ("net", {"hiden": [1]}, "takes no argument 'hiden'; it takes hidden, activation, scale."),
        ("net", {"hiden": [1]}, "Did you mean 'hidden'?"),
        ("net", {"hidden": [1], "signature": "x"}, "takes no argument 'signature'"),
        ("net", {"hidden": "128"}, "argument 'hidden' is '128', but input should be a valid list"),
        ("net", {"hidden": [1.5]}, "argument 'hidden' is [1.5], but input should be a valid integer"),
        ("net", {"hidden": ["1"]}, "but input should be a valid integer"),
        ("net", {"hidden": None}, "argument 'hidden' is None"),
        ("net", {"hidden": [1], "scale": "2"}, "argument 'scale' is '2', but input should be a valid number"),
        ("net", {"hidden": [1], "activation": 3}, "argument 'activation' is 3, but input should be a valid string"),
        ("plain", {"hidden": [1]}, "takes no argument 'hidden'; it takes none."),
    ],
)
def test_bind_says_what_is_wrong_with_an_argument(catalog, name, args, message):
    with pytest.raises(ConfigError, match=re.escape(message)) as caught:
        catalog.bind(name, args)
    assert str(caught.value).startswith(f"The model '{name}'")


def test_bind_understands_annotations_written_as_strings():
    def build_late(*, hidden: "list[int]"):
        return hidden

    catalog = Catalog("model", {"late": build_late})
    assert catalog.bind("late", {"hidden": [3]})() == [3]
    with pytest.raises(ConfigError, match="'hidden'"):
        catalog.bind("late", {"hidden": "x"})
