from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bmp.config import DataConfig
from bmp.data.scan import scan_source
from bmp.data.source import Source, Target
from bmp.data.sources.memory import ArraySource
from bmp.data.split import SPLITS, deal, find_firsts, take_split_column
from bmp.errors import ConfigError, DataError
from bmp.transforms import Field

FIELDS = (Field("row", "tensor", "float32", (1,)),)


def make_source(contents, classes=None, given=None) -> Source:
    """An example of each content; the class is that of the content if none are given."""
    contents = np.asarray(contents, np.float32)
    classes = np.zeros(len(contents), np.int64) if classes is None else np.asarray(classes)
    labels = tuple(f"class {number}" for number in range(int(classes.max()) + 1))
    return ArraySource({"row": contents[:, None]}, FIELDS, classes, Target("class", labels), given=given)


def make_classes(*counts: int) -> Source:
    return make_source(np.arange(sum(counts)), np.repeat(np.arange(len(counts)), counts))


def configure(train=0.70, validation=0.15, test=0.15, stratify=True, column=None) -> DataConfig:
    split = {"train": train, "validation": validation, "test": test, "column": column}
    return DataConfig(source="any", split=split, stratify=stratify)


def split(source: Source, config: DataConfig, seed: int = 0):
    return deal(scan_source(source), source, source.given, config, seed)


def lists(parts) -> list[list[int]]:
    return [getattr(parts, name).tolist() for name in SPLITS]


@st.composite
def configs(draw):
    validation, test = draw(st.floats(0.05, 0.45)), draw(st.floats(0.05, 0.45))
    return configure(1 - validation - test, validation, test, draw(st.booleans()))


SEEDS = st.integers(0, 2**32 - 1)
COUNTS = st.lists(st.integers(20, 40), min_size=1, max_size=4)


def deal_as_ever(classes: np.ndarray, config: DataConfig, seed: int) -> list[list[int]]:
    """The rule that published versions were split by: it may never change."""
    random = np.random.default_rng(seed)
    groups = classes if config.stratify else np.zeros_like(classes)
    parts: tuple[list, ...] = ([], [], [])
    for group in np.unique(groups):
        members = random.permutation(np.flatnonzero(groups == group))
        validation, test = (round(len(members) * share) for share in (config.split.validation, config.split.test))
        cuts = (members[validation + test :], members[:validation], members[validation : validation + test])
        for part, cut in zip(parts, cuts, strict=True):
            part.append(cut)
    return [random.permutation(np.concatenate(part)).tolist() for part in parts]


@given(configs(), SEEDS, COUNTS)
def test_without_duplicates_the_split_is_that_of_ever(config, seed, counts):
    source = make_classes(*counts)
    classes = source.read_targets(np.arange(len(source)))
    assert lists(split(source, config, seed)) == deal_as_ever(classes, config, seed)


@given(configs(), SEEDS, COUNTS)
def test_splits_are_disjoint_and_complete(config, seed, counts):
    parts = lists(split(make_classes(*counts), config, seed))
    assert sorted(number for part in parts for number in part) == list(range(sum(counts)))


@given(configs(), SEEDS, COUNTS)
def test_splits_have_the_shares_asked_for(config, seed, counts):
    source = make_classes(*counts)
    parts = split(source, config, seed)
    for name in ("validation", "test"):
        share, index = getattr(config.split, name), getattr(parts, name)
        if config.stratify:
            found = np.bincount(source.read_targets(index), minlength=len(counts))
            assert (abs(found - share * np.array(counts)) <= 0.5 + 1e-9).all()
        else:
            assert abs(len(index) - share * sum(counts)) <= 0.5 + 1e-9


@given(configs(), SEEDS)
def test_the_same_seed_splits_alike_and_another_does_not(config, seed):
    source = make_classes(40, 40, 40)
    assert lists(split(source, config, seed)) == lists(split(source, config, seed))
    assert lists(split(source, config, seed)) != lists(split(source, config, seed ^ 1))


@given(configs(), SEEDS, st.lists(st.integers(0, 60), min_size=100, max_size=200))
def test_equal_contents_stand_in_one_split_and_are_counted(config, seed, contents):
    contents = [*range(61), *contents]
    parts = split(make_source(contents), config, seed)
    places = defaultdict(set)
    for name, part in zip(SPLITS, lists(parts), strict=True):
        for number in part:
            places[contents[number]].add(name)
    assert all(len(names) == 1 for names in places.values())
    assert sorted(number for part in lists(parts) for number in part) == list(range(len(contents)))
    assert parts.duplicates == len(contents) - 61 and parts.dropped == 0


def test_classes_are_mixed_within_a_split():
    source = make_classes(100, 100)
    assert 0 < source.read_targets(split(source, configure()).train)[:50].mean() < 1


@pytest.mark.parametrize("counts", [(2, 100), (100, 1), (100, 3), (0, 3)])
def test_a_class_with_too_few_examples_is_named(counts):
    few = min(range(2), key=lambda label: counts[label] or 1000)
    with pytest.raises(DataError, match=rf"Class 'class {few}' has {counts[few]} examples, too few"):
        split(make_classes(*counts), configure())


def test_copies_do_not_make_enough_examples():
    with pytest.raises(DataError, match="Class 'class 0' has 2 different examples, too few"):
        split(make_source([1, 2] * 20), configure())


@pytest.mark.parametrize("count", [1, 2, 3])
def test_too_few_examples_altogether(count):
    with pytest.raises(DataError, match=f"The source has {count} examples, too few"):
        split(make_classes(count), configure(stratify=False))


def test_a_share_too_small_for_one_example_is_refused():
    with pytest.raises(DataError, match=r"change data\.split"):
        split(make_classes(20, 20), configure(0.98, 0.01, 0.01))


# --- given splits ---


def give(**ranges: range) -> dict[str, np.ndarray]:
    return {name: np.array(numbers) for name, numbers in ranges.items()}


def test_given_splits_are_kept():
    source = make_source(range(60), given=give(train=range(40), validation=range(40, 50), test=range(50, 60)))
    parts = split(source, configure())
    assert [sorted(part) for part in lists(parts)] == [list(range(40)), list(range(40, 50)), list(range(50, 60))]
    assert parts.how == "train, validation, test as given"
    assert lists(parts) != lists(split(source, configure(), seed=1))  # in an order of the seed


@pytest.mark.parametrize("missing", ["validation", "test"])
def test_a_missing_split_is_taken_from_the_training_split(missing):
    kept = "test" if missing == "validation" else "validation"
    source = make_source(range(120), np.arange(120) % 2, give(train=range(100), **{kept: range(100, 120)}))
    parts = split(source, configure())
    assert sorted(getattr(parts, kept)) == list(range(100, 120))
    taken = getattr(parts, missing)
    assert sorted([*taken, *parts.train]) == list(range(100))
    assert np.bincount(source.read_targets(taken)).tolist() == [8, 8]  # 15 percent of 50 each
    assert f"{missing} 0.15 of the training split, stratified" in parts.how


def test_a_content_in_two_given_splits_leaves_the_training_side():
    contents = [*range(10), *range(100, 110), *range(200, 210)]
    contents[3], contents[4], contents[5] = 200, 100, 201  # train has two of test and one of validation
    contents[12] = 205  # validation has one of test
    given = give(train=range(10), validation=range(10, 20), test=range(20, 30))
    parts = split(make_source(contents, given=given), configure())
    assert [sorted(part) for part in lists(parts)] == [
        [0, 1, 2, 6, 7, 8, 9],
        [10, 11, *range(13, 20)],
        list(range(20, 30)),
    ]
    assert parts.dropped == 4


@given(SEEDS, st.lists(st.integers(0, 25), min_size=60, max_size=60))
def test_given_splits_never_share_a_content(seed, contents):
    contents = np.array([*range(30), *contents])
    order = np.random.default_rng(seed).permutation(90)
    given = {"train": order[:50], "validation": order[50:70], "test": order[70:]}
    try:
        parts = split(make_source(contents, given=given), configure(), seed)
    except DataError as error:
        assert "split is empty" in str(error)
        return
    sets = [set(contents[part].tolist()) for part in lists(parts)]
    assert not (sets[0] & sets[1] or sets[0] & sets[2] or sets[1] & sets[2])
    assert sum(map(len, lists(parts))) + parts.dropped == 90
    assert sets[2] == set(contents[given["test"]].tolist())


def test_a_given_split_that_is_empty_is_named():
    source = make_source([1, 2, 1], given=give(train=range(2, 3), validation=range(1, 2), test=range(1)))
    with pytest.raises(DataError, match="The train split is empty"):
        split(source, configure())


def test_given_splits_need_a_training_split():
    source = make_source(range(9), given=give(test=range(9)))
    with pytest.raises(DataError, match="gives only the splits test; expected at least train"):
        split(source, configure())


def test_a_split_of_another_name_is_refused():
    source = make_source(range(9), given=give(train=range(5), dev=range(5, 9)))
    with pytest.raises(DataError, match="gives a split 'dev'"):
        split(source, configure())


# --- a column of splits ---


def make_table(names) -> Source:
    columns = {"row": np.arange(len(names), dtype=np.float32)[:, None], "part": np.array(names, object)}
    fields = (*FIELDS, Field("part", "category"))
    return ArraySource(columns, fields, np.zeros(len(names), np.int64), Target("class", ("a",)))


def test_a_column_names_the_split_and_is_no_feature():
    names = ["test", "train", "validation", "train", "train"]
    source, given = take_split_column(make_table(names), "part")
    assert [field.name for field in source.fields] == ["row"] == list(source.read(np.arange(2)))
    parts = deal(scan_source(source), source, given, configure(column="part"), 0)
    assert [sorted(part) for part in lists(parts)] == [[1, 3, 4], [2], [0]]
    assert parts.how == "by the column 'part'"


@pytest.mark.parametrize("name", ["dev", "Train", ""])
def test_another_word_in_the_column_is_told_with_its_place(name):
    with pytest.raises(DataError, match=f"example 1: the column 'part' holds '{name}'; expected train, validation"):
        take_split_column(make_table(["train", name, "test"]), "part")


def test_an_unknown_column_gets_a_guess():
    with pytest.raises(ConfigError, match=r"no column of texts 'parts'; it has part\. Did you mean 'part'"):
        take_split_column(make_table(["train"]), "parts")


def test_a_column_beside_given_splits_is_refused():
    with pytest.raises(ConfigError, match="the data comes in splits already"):
        take_split_column(make_source(range(9), given=give(train=range(9))), "part")


# --- finding duplicates ---


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=50))
def test_the_first_of_each_content_is_found(pairs):
    hashes = np.zeros((len(pairs), 16), np.uint8)
    hashes[:, [3, 12]] = np.array(pairs, np.uint8).reshape(-1, 2)
    assert find_firsts(hashes).tolist() == [pairs.index(pair) for pair in pairs]
