import json

import pytest

from bmp.compression.sensitivity import Joint, Row, Sensitivity, allocate
from bmp.errors import ConfigError, UnknownNameError


def make(costs, technique="prune", weights=None, levels=(0.5, 0.9), savings=(0.5, 0.9)):
    """A sensitivity of the score drops given by target, each a drop for every level."""
    rows = tuple(
        Row(technique, name, (name,), level, 0.9 - drop, 1.0 + drop, (weights or {}).get(name, 100), saving)
        for name, drops in costs.items()
        for level, saving, drop in zip(levels, savings, drops, strict=True)
    )
    return Sensitivity("accuracy", 0.9, 1.0, 512, 0, rows, (Joint(technique, {"a": 0.5}, 0.1, 0.2, 0.3, 0.4),))


def test_what_costs_nothing_goes_first():
    found = make({"a": (0.1, 0.3), "b": (0.0, 0.0), "c": (0.0, 0.2)})
    assert allocate(found, "prune", 0.3) == {"b": 0.9}
    assert allocate(found, "prune", 1.4 / 3) == {"b": 0.9, "c": 0.5}
    assert allocate(found, "prune", 0.9) == {"a": 0.9, "b": 0.9, "c": 0.9}


def test_the_share_is_met_exactly_where_levels_are_shares():
    found = make({"a": (0.1, 0.3), "b": (0.01, 0.02)}, weights={"a": 100, "b": 300})
    for share in (0.1, 0.45, 0.7, 0.85):
        levels = allocate(found, "prune", share)
        assert (100 * levels.get("a", 0) + 300 * levels.get("b", 0)) / 400 == pytest.approx(share, abs=1e-4)


def test_of_clusters_at_least_the_share_is_saved_and_levels_are_those_measured():
    found = make({"a": (0.0, 0.1), "b": (0.0, 0.3)}, "cluster", levels=(32, 4), savings=(0.84, 0.94))
    assert allocate(found, "cluster", 0.84) == {"a": 32, "b": 32}
    assert allocate(found, "cluster", 0.85) == {"a": 4, "b": 32}


def test_the_loss_decides_between_equals():
    rows = [Row("prune", name, (name,), 0.5, 0.9, loss, 100, 0.5) for name, loss in (("a", 1.4), ("b", 1.1))]
    assert allocate(Sensitivity("accuracy", 0.9, 1.0, 512, 0, tuple(rows)), "prune", 0.25) == {"b": 0.5}


def test_a_stroke_of_luck_at_a_high_level_is_not_taken_for_a_gain():
    found = make({"a": (0.2, -0.1), "b": (0.1, 0.1)})
    assert allocate(found, "prune", 0.45) == {"b": 0.9}


def test_what_was_not_measured_is_said():
    found = make({"a": (0.1, 0.3)})
    with pytest.raises(ConfigError, match=r"A share of 0.95 of bytes cannot be saved by prune: .* at most 0.9"):
        allocate(found, "prune", 0.95)
    with pytest.raises(ConfigError, match="A share of 0 of bytes cannot be saved by prune: it must be over 0"):
        allocate(found, "prune", 0)
    with pytest.raises(UnknownNameError, match="Did you mean 'prune'"):
        allocate(found, "prun", 0.5)


def test_what_is_to_be_saved_can_be_time():
    rows = [
        Row("channels", name, (name,), 0.5, 0.9 - drop, 1.0, weights, 0.5, macs, 0.5)
        for name, drop, weights, macs in (("early", 0.1, 100, 900), ("late", 0.1, 900, 100))
    ]
    found = Sensitivity("accuracy", 0.9, 1.0, 512, 0, tuple(rows))
    assert allocate(found, "channels", 0.4) == {"late": pytest.approx(0.4444, abs=1e-4)}
    assert allocate(found, "channels", 0.4, by="macs") == {"early": pytest.approx(0.4444, abs=1e-4)}
    with pytest.raises(ConfigError, match=r"A share of 0\.1 of macs cannot be saved by prune: .* at most 0,"):
        allocate(make({"a": (0.1, 0.3)}), "prune", 0.1, by="macs")


def test_json_and_back():
    found = make({"a": (0.1, 0.3), "b": (0.0, 0.1)})
    assert Sensitivity.from_json(json.loads(json.dumps(found.to_json()))) == found
