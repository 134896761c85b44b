"""Chains: read as a recipe writes them, refused where one step would undo another."""

import pytest

from bmp.compression.chain import Chain, Step, read_chain, read_chains
from bmp.errors import ConfigError, UnknownNameError


def test_a_chain_is_written_as_it_is_read() -> None:
    spec = [{"prune": {"sparsity": 0.9, "epochs": 3}}, {"cluster": {"clusters": 16}}, "int8"]
    chain = read_chain(spec)
    assert chain.to_spec() == spec
    assert chain.name == "prune-0.9_cluster-16_int8"
    assert [prefix.name for prefix in chain.prefixes()] == ["prune-0.9", "prune-0.9_cluster-16", chain.name]
    assert read_chain([]).name == "float32"


def test_the_digest_follows_from_all_that_counts_and_nothing_else() -> None:
    plain = read_chain([{"prune": {"sparsity": 0.8}}])
    assert plain.digest("base") == read_chain(["prune"]).digest("base")  # the default, spelled out
    assert plain.digest("base") != plain.digest("another")
    assert plain.digest("base") != read_chain([{"prune": {"epochs": 4}}]).digest("base")
    assert hash(plain) == hash(read_chain([{"prune": {"sparsity": 0.8}}]))


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        (["int8", "prune"], "'prune' cannot come after 'int8'"),
        (["cluster", "prune"], "'prune' cannot come after 'cluster'"),
        (["int8", "float16"], "'float16' cannot follow 'int8'"),
        (["prune", "two_of_four"], "'two_of_four' cannot follow 'prune'"),
        ([{"prune": {}, "int8": {}}], "the name of a technique, or {name: arguments}"),
        ([3], "the name of a technique"),
        ([{"prune": {"sparsty": 0.5}}], "Did you mean 'sparsity'?"),
        ([{"prune": {"sparsity": 1.5}}], "less than 1"),
        ([{"prune": {"sparsity": "much"}}], "'sparsity' is 'much'"),
    ],
)
def test_a_wrong_chain_is_refused_in_one_sentence(spec: list[object], said: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        read_chain(spec)
    assert said in str(refusal.value)


def test_an_unknown_technique_is_guessed_at() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'prune'"):
        read_chain(["prun"])


def test_two_chains_need_two_names() -> None:
    with pytest.raises(ConfigError, match=r"2 chains are called 'prune-0\.8'"):
        read_chains([["prune"], [{"prune": {"epochs": 3}}]])
    with pytest.raises(ConfigError, match="has no step"):
        read_chains([[]])
    assert [chain.name for chain in read_chains([["int8"], ["prune", "int8"]])] == ["int8", "prune-0.8_int8"]


def test_names_are_fit_for_files() -> None:
    step = Step("int8", {"float_layers": "auto"})
    assert " " not in Chain((step,)).name
    assert "/" not in Chain((step,)).name
