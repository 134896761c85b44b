import io

import numpy as np
import pytest
from rich.console import Console

from bmp.data import scan as scan_module
from bmp.data.scan import check_policy, scan_source
from bmp.data.source import BadExampleError, Source, Target
from bmp.errors import DataError
from bmp.transforms import Field, build_steps


class Numbered(Source):
    """Examples of one number; some cannot be read, some have no target."""

    def __init__(self, values, unreadable=(), targetless=(), stored=None):
        self.fields = (Field("n", "number"),)
        self.target = Target("number")
        self.values = np.asarray(values, np.float32)
        self.unreadable, self.targetless, self.stored = set(unreadable), set(targetless), stored
        self.reads = []

    def __len__(self):
        return len(self.values)

    def _check(self, index, bad, reason):
        for number in map(int, index):
            if number in bad:
                raise BadExampleError(number, self.where(number), reason)

    def read(self, index):
        self.reads.append(index.tolist())
        self._check(index, self.unreadable, "it is torn")
        return {"n": self.values[index]}

    def read_targets(self, index):
        self._check(index, self.targetless, "the target is missing")
        return self.values[index][:, None]

    def where(self, number):
        return f"book, page {number}"

    def read_hashes(self, index):
        return None if self.stored is None else self.stored[index]


FILL = build_steps([{"kind": "fill", "fields": ["n"]}], (Field("n", "number"),))


def test_good_examples_are_all_that_are_not_bad():
    source = Numbered(np.arange(100), unreadable=(3, 4, 99), targetless=(0, 50))
    source.values[7] = np.inf
    found = scan_source(source)
    assert [(bad.number, str(bad)) for bad in sorted(found.bad, key=lambda bad: bad.number)] == [
        (0, "book, page 0: the target is missing"),
        (3, "book, page 3: it is torn"),
        (4, "book, page 4: it is torn"),
        (7, "book, page 7: 'n' holds inf; expected finite numbers"),
        (50, "book, page 50: the target is missing"),
        (99, "book, page 99: it is torn"),
    ]
    assert found.good.tolist() == sorted(set(range(100)) - {0, 3, 4, 7, 50, 99})
    assert len(found.hashes) == len(found.good) == len({row.tobytes() for row in found.hashes})


def test_a_source_that_names_the_wrong_example_does_not_make_an_endless_loop():
    class Liar(Numbered):
        def _check(self, index, bad, reason):
            if bad & set(index.tolist()):
                raise BadExampleError(0, "elsewhere", reason)

    assert [bad.number for bad in scan_source(Liar(np.arange(20), unreadable=(13,))).bad] == [13]


def test_every_example_bad_comes_to_an_end():
    found = scan_source(Numbered(np.arange(50), unreadable=range(50)))
    assert len(found.bad) == 50 and not len(found.good) and found.hashes.shape == (0, 16)


def test_missing_numbers_are_bad_unless_a_step_fills_them():
    source = Numbered([1, np.nan, 3])
    source.read_targets = lambda index: np.zeros((len(index), 1), np.float32)
    assert [bad.number for bad in scan_source(source).bad] == [1]
    assert scan_source(source, FILL).bad == ()


def test_stored_hashes_spare_the_reading_if_no_number_can_be_missing():
    stored = np.arange(48, dtype=np.uint8).reshape(3, 16)
    source = Numbered(range(3), stored=stored)
    assert (scan_source(source, FILL).hashes == stored).all() and source.reads == []
    assert (scan_source(source).hashes == stored).all() and source.reads == [[0, 1, 2]]


def test_the_size_of_the_chunks_means_nothing(monkeypatch):
    source = Numbered(np.arange(100), unreadable=(30,))
    whole = scan_source(source)
    monkeypatch.setattr(scan_module, "_LARGEST_CHUNK", 7)
    pieces = scan_source(source)
    assert max(map(len, source.reads[-10:])) <= 7
    assert pieces.digest == whole.digest and (pieces.hashes == whole.hashes).all() and pieces.bad == whole.bad


def test_the_digest_is_of_contents_targets_fields_and_labels():
    def make(values=(1, 2, 3), targets=(0, 1, 0), labels=("a", "b"), name="n"):
        source = Numbered(values)
        source.fields = (Field(name, "number"),)
        source.target = Target("class", labels)
        source.read = lambda index: {name: source.values[index]}
        source.read_targets = lambda index: np.array(targets)[index]
        return scan_source(source).digest

    others = [make(values=(1, 2, 4)), make(targets=(0, 1, 1)), make(labels=("a", "c")), make(name="m")]
    assert make() == make() and len({make(), *others}) == 5


def test_an_empty_source_is_refused():
    with pytest.raises(DataError, match="holds no example"):
        scan_source(Numbered([]))


def test_a_long_look_shows_its_progress(monkeypatch):
    monkeypatch.setattr(scan_module, "_SHOWN_FROM", 10)
    out = io.StringIO()
    scan_source(Numbered(range(20)), console=Console(file=out, force_terminal=True))
    assert "looking at the examples" in out.getvalue()


# --- the policy ---


def test_stop_names_the_first_and_counts_the_others():
    with pytest.raises(DataError) as caught:
        check_policy(scan_source(Numbered(range(9), unreadable=(4, 6))), "stop", 1.0)
    assert "9 examples hold 2 that cannot be used: book, page 4: it is torn, and 1 more." in str(caught.value)
    assert "data.on_bad_example: skip" in str(caught.value)


def test_skip_goes_on_up_to_the_fraction_and_ends_above_it():
    found = scan_source(Numbered(range(100), unreadable=(4, 6)))
    check_policy(found, "skip", 0.02)
    with pytest.raises(
        DataError, match=r"2 of 100 examples \(2\.0%\) cannot be used, more than data\.max_bad_fraction"
    ):
        check_policy(found, "skip", 0.019)


def test_nothing_left_is_an_error_whatever_the_fraction():
    with pytest.raises(DataError, match="None of the 3 examples can be used; the first: book, page 0"):
        check_policy(scan_source(Numbered(range(3), unreadable=range(3))), "skip", 1.0)


@pytest.mark.parametrize("policy", ["stop", "skip"])
def test_no_bad_example_is_no_error(policy):
    check_policy(scan_source(Numbered(range(3))), policy, 0.0)
