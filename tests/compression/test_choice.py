import pytest
from hypothesis import given
from hypothesis import strategies as st

from bmp.compression import choose
from bmp.compression.candidates import UNCOMPRESSED

SIZES = {"float32": 100, "pruned": 60, "int8": 40, "pruned_int8": 20}


@pytest.mark.parametrize(
    ("accuracy", "max_drop", "recommended", "passed"),
    [
        ({"float32": 0.9, "pruned": 0.9, "int8": 0.9, "pruned_int8": 0.9}, 0.0, "pruned_int8", set(SIZES)),
        ({"float32": 0.9, "pruned": 0.9, "int8": 0.9, "pruned_int8": 0.8}, 0.01, "int8", {"float32", "pruned", "int8"}),
        ({"float32": 0.9, "pruned": 0.95, "int8": 0.8, "pruned_int8": 0.8}, 0.0, "pruned", {"float32", "pruned"}),
        ({"float32": 0.9, "pruned": 0.8, "int8": 0.8, "pruned_int8": 0.8}, 0.01, "float32", {"float32"}),
        ({"float32": 0.9, "pruned": 0.8, "int8": 0.8, "pruned_int8": 0.0}, 0.5, "int8", {"float32", "pruned", "int8"}),
        ({"float32": 0.0, "pruned": 0.0, "int8": 0.0, "pruned_int8": 0.0}, 0.0, "pruned_int8", set(SIZES)),
    ],
    ids=["all pass", "one refused", "better passes", "none passes", "large promise", "zero accuracy"],
)
def test_recommends_the_smallest_that_keeps_the_promise(accuracy, max_drop, recommended, passed):
    choice = choose(accuracy, SIZES, max_drop)
    assert (choice.recommended, choice.passed) == (recommended, passed)
    for name, verdict in choice.verdicts.items():
        expected = "recommended: " if name == recommended else "passed" if name in passed else "refused: "
        assert verdict.startswith(expected)


@pytest.mark.parametrize("total", [270, 300, 1000, 999_983])
@pytest.mark.parametrize("max_drop", [0.01, 0.02, 0.1])
def test_exactly_the_allowed_drop_passes_and_one_example_more_does_not(total, max_drop):
    allowed = int(round(max_drop * total, 6))
    right = total - 3
    accuracy = {"float32": right / total, "int8": (right - allowed) / total, "pruned": (right - allowed - 1) / total}
    assert choose(accuracy, SIZES, max_drop).passed == {"float32", "int8"}


@pytest.mark.parametrize(("base", "value", "max_drop"), [(0.99, 0.98, 0.01), (0.3, 0.2, 0.1), (1.0, 0.9, 0.1)])
def test_rounding_of_fractions_does_not_break_the_promise(base, value, max_drop):
    assert choose({"float32": base, "int8": value}, SIZES, max_drop).recommended == "int8"


def test_says_why_nothing_compressed_is_recommended():
    choice = choose({"float32": 0.95, "int8": 0.9}, SIZES, 0.01)
    assert choice.verdicts == {
        "float32": "recommended: no compressed variant stays within 0.01 of its validation accuracy",
        "int8": "refused: validation accuracy 0.9000 is 0.0500 under float32's; at most 0.01 is allowed",
    }


def test_a_single_variant_is_recommended():
    choice = choose({"float32": 0.5}, {"float32": 100}, 0.0)
    assert choice.verdicts == {"float32": "recommended: the only variant"}
    assert (choice.recommended, choice.passed) == ("float32", {"float32"})


def test_the_uncompressed_variant_wins_when_it_is_the_smallest():
    assert choose({"float32": 0.9, "int8": 0.9}, {"float32": 10, "int8": 11}, 0.0).recommended == "float32"


@given(
    accuracy=st.dictionaries(st.sampled_from([*SIZES, "extra"]), st.floats(0, 1), min_size=1),
    base=st.floats(0, 1),
    sizes=st.fixed_dictionaries({name: st.integers(1, 10**9) for name in [*SIZES, "extra"]}),
    max_drop=st.floats(0, 1, exclude_max=True),
)
def test_the_recommended_one_always_passes_and_no_passing_one_is_smaller(accuracy, base, sizes, max_drop):
    accuracy = {**accuracy, UNCOMPRESSED: base}
    choice = choose(accuracy, sizes, max_drop)
    assert {UNCOMPRESSED, choice.recommended} <= choice.passed
    assert sizes[choice.recommended] == min(sizes[name] for name in choice.passed)
    assert all(base - accuracy[name] <= max_drop + 1e-6 for name in choice.passed)
    assert all(base - accuracy[name] > max_drop for name in set(accuracy) - choice.passed)
    assert set(choice.verdicts) == set(accuracy)
    assert [name for name, verdict in choice.verdicts.items() if "recommended" in verdict] == [choice.recommended]
