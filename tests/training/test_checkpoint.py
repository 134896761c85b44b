import math
import os
import random
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from conftest import PROJECT, disk_that_holds
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from bmp.errors import CheckpointError, TrainingError
from bmp.training.checkpoint import BackgroundWriter, Checkpoint, CheckpointStore, read_checkpoint

ARRAYS, STATE = "arrays.safetensors", "state.json"


def make(step, *, size=64):
    """A checkpoint whose values tell its step."""
    arrays = {"weight/0000": np.full((size, 4), step, np.float32), "optimizer/0000": np.array(step, np.int64)}
    return Checkpoint(step, {"finished": False, "observers": {"Recorder": {"running_s": 0.1 * step}}}, arrays)


def equals(one, other):
    return (
        one.step == other.step
        and one.state == other.state
        and one.arrays.keys() == other.arrays.keys()
        and all(_same(one.arrays[name], other.arrays[name]) for name in one.arrays)
    )


def _same(one, other):
    return (one.dtype, one.shape, one.tobytes()) == (other.dtype, other.shape, other.tobytes())


def names(store):
    return sorted(path.name for path in store.directory.iterdir())


def fill(directory, *steps, keep=3):
    store = CheckpointStore(directory, keep)
    for step in steps:
        store.write(make(step))
    return store


dtypes = st.one_of(
    hnp.boolean_dtypes(),
    hnp.integer_dtypes(endianness="="),
    hnp.unsigned_integer_dtypes(endianness="="),
    hnp.floating_dtypes(sizes=(16, 32, 64), endianness="="),
    hnp.complex_number_dtypes(sizes=(64,), endianness="="),
)
arrays = dtypes.flatmap(lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0)))
texts = st.text(st.characters(exclude_categories=("Cs",)), max_size=8)
states = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=60, deadline=None)
@given(step=st.integers(0, 10**12 - 1), state=states, arrays=st.dictionaries(texts, arrays, max_size=4))
def test_any_state_comes_back_as_it_was(tmp_path_factory, step, state, arrays):
    if "__metadata__" in arrays:  # the one name that the format keeps for itself
        del arrays["__metadata__"]
    directory = tmp_path_factory.mktemp("store")
    written = Checkpoint(step, state, arrays)
    path = CheckpointStore(directory).write(written)
    assert path.name == f"step-{step:012d}"
    assert equals(read_checkpoint(path), written)
    shutil.rmtree(directory)


@pytest.mark.parametrize("order", ["transposed", "reversed", "strided", "big endian"])
def test_the_layout_in_memory_is_of_no_matter(tmp_path, order):
    plain = np.arange(24, dtype=np.float32).reshape(4, 6)
    array = {
        "transposed": plain.T,
        "reversed": plain[::-1],
        "strided": plain[:, ::2],
        "big endian": plain.astype(">f4"),
    }[order]
    CheckpointStore(tmp_path).write(Checkpoint(1, {}, {"weight/0000": array}))
    found, _ = CheckpointStore(tmp_path).read_newest()
    np.testing.assert_array_equal(found.arrays["weight/0000"], array)


def test_values_that_are_no_numbers_come_back(tmp_path):
    written = Checkpoint(1, {"best": math.inf, "worst": math.nan}, {"a": np.array([math.nan, -0.0, math.inf])})
    CheckpointStore(tmp_path).write(written)
    found, _ = CheckpointStore(tmp_path).read_newest()
    assert found.state["best"] == math.inf and math.isnan(found.state["worst"])
    assert _same(found.arrays["a"], written.arrays["a"])


@pytest.mark.parametrize("dtype", ["complex128", "U3", "datetime64[s]"])
def test_a_dtype_that_cannot_be_kept_is_named_and_nothing_is_left(tmp_path, dtype):
    store = fill(tmp_path, 1)
    with pytest.raises(TrainingError, match=r"optimizer/0003 is of dtype .*, which a checkpoint does not have"):
        store.write(Checkpoint(2, {}, {"optimizer/0003": np.zeros(2, dtype)}))
    assert names(store) == ["step-000000000001"]


def test_nothing_there_is_no_mistake(tmp_path):
    assert CheckpointStore(tmp_path / "never made").read_newest() == (None, [])


@pytest.mark.parametrize(("keep", "left"), [(1, [9]), (2, [9, 7]), (3, [9, 7, 4]), (9, [9, 7, 4, 2, 0])])
def test_keeps_the_newest(tmp_path, keep, left):
    store = fill(tmp_path, 0, 2, 4, 7, 9, keep=keep)
    assert [read_checkpoint(path).step for path in store.paths()] == left
    assert len(names(store)) == len(left)


def test_the_same_step_again_takes_the_place_of_the_first(tmp_path):
    store = fill(tmp_path, 3, 5)
    other = Checkpoint(5, {"again": True}, {"weight/0000": np.ones(3)})
    store.write(other)
    found, problems = store.read_newest()
    assert equals(found, other) and problems == [] and len(names(store)) == 2


@pytest.mark.parametrize("name", [ARRAYS, STATE])
def test_a_changed_bit_anywhere_is_noticed_and_named_and_the_one_before_is_used(tmp_path, name):
    store = fill(tmp_path, 3, 5)
    before = make(3)
    file = store.paths()[0] / name
    sound = file.read_bytes()
    rng = random.Random(0)
    places = range(len(sound)) if len(sound) < 600 else [*range(200), *rng.sample(range(len(sound)), 400)]
    for place in places:
        torn = bytearray(sound)
        torn[place] ^= 1 << rng.randrange(8)
        file.write_bytes(torn)
        found, problems = store.read_newest()
        assert equals(found, before), f"byte {place}"
        assert len(problems) == 1 and name in problems[0] and str(file.parent) in problems[0]
    file.write_bytes(sound)
    assert store.read_newest()[0].step == 5


@pytest.mark.parametrize("name", [ARRAYS, STATE])
def test_a_file_cut_off_anywhere_or_grown_is_noticed(tmp_path, name):
    store = fill(tmp_path, 3, 5)
    file = store.paths()[0] / name
    sound = file.read_bytes()
    cuts = [0, 1, 7, 8, 9, *random.Random(1).sample(range(10, len(sound)), 100), len(sound) - 1]
    for torn in [*(sound[:cut] for cut in cuts), sound + b"\0", sound + sound]:
        file.write_bytes(torn)
        found, problems = store.read_newest()
        assert found.step == 3 and name in problems[0]


def test_blanks_in_the_state_change_nothing(tmp_path):
    """What is read is what was written, or an error: not that every byte is what it was."""
    store = fill(tmp_path, 5)
    file = store.paths()[0] / STATE
    file.write_bytes(file.read_bytes() + b"\n \n")
    assert equals(store.read_newest()[0], make(5))


@pytest.mark.parametrize("name", [ARRAYS, STATE])
@pytest.mark.parametrize("how", ["missing", "a directory", "swapped"])
def test_a_file_that_is_not_itself_is_noticed(tmp_path, name, how):
    store = fill(tmp_path, 3, 5)
    file = store.paths()[0] / name
    other = (store.paths()[1] / name).read_bytes()
    file.unlink()
    if how == "a directory":
        file.mkdir()
    elif how == "swapped":
        file.write_bytes(other)
    found, problems = store.read_newest()
    if how == "swapped" and name == STATE:  # it is whole, and of the arrays of another step
        name = ARRAYS
    assert found.step == 3 and name in problems[0]


def test_every_newer_one_that_is_not_sound_is_named(tmp_path):
    store = fill(tmp_path, 1, 2, 3)
    for path in store.paths()[:2]:
        (path / STATE).unlink()
    found, problems = store.read_newest()
    assert found.step == 1
    assert ["step-000000000003" in problems[0], "step-000000000002" in problems[1]] == [True, True]


def test_none_sound_is_an_error_that_says_what_to_do(tmp_path):
    store = fill(tmp_path, 1, 2)
    for path in store.paths():
        (path / ARRAYS).write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"No checkpoint in .* can be read\. .*step-0{11}2.*step-0{11}1"):
        store.read_newest()
    assert len(store.paths()) == 2  # nothing is thrown away


def test_a_format_of_the_future_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("bmp.training.checkpoint._FORMAT", 2)
    store = fill(tmp_path, 1)
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match=r"state\.json"):
        store.read_newest()


def test_strangers_in_the_directory_are_no_checkpoints(tmp_path):
    store = fill(tmp_path, 1)
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "step-5").mkdir()
    (tmp_path / "step-000000000007.old").mkdir()
    store.write(make(2))
    assert [path.name for path in store.paths()] == ["step-000000000002", "step-000000000001"]
    assert (tmp_path / "notes.txt").exists() and (tmp_path / "step-5").exists()


def test_what_a_killed_write_left_goes_with_the_next(tmp_path):
    store = fill(tmp_path, 1)
    for leftover in (".step-000000000002-0123", ".gone-4567"):
        shutil.copytree(store.paths()[0], tmp_path / leftover)
    assert store.read_newest()[0].step == 1
    store.write(make(2))
    assert names(store) == ["step-000000000001", "step-000000000002"]


@pytest.mark.parametrize("size_bytes", [0, 1, 100, 600, 1100])
def test_a_full_disk_is_a_sentence_and_earlier_ones_stay(tmp_path, size_bytes):
    store = fill(tmp_path, 3, 5)
    with disk_that_holds(size_bytes), pytest.raises(CheckpointError) as caught:
        store.write(make(7))
    assert "step 7 could not be written" in str(caught.value) and "make room on the disk" in str(caught.value)
    assert caught.value.expected == "room on the disk"
    assert names(store) == ["step-000000000003", "step-000000000005"]
    assert equals(store.read_newest()[0], make(5))
    store.write(make(7))
    assert equals(store.read_newest()[0], make(7))


def test_a_place_that_is_no_directory_is_a_sentence(tmp_path):
    (tmp_path / "checkpoints").write_text("")
    with pytest.raises(CheckpointError, match="could not be written"):
        CheckpointStore(tmp_path / "checkpoints").write(make(1))


def test_a_disk_that_does_not_keep_what_it_took_is_noticed(tmp_path, monkeypatch):
    """The bytes are read back before the checkpoint gets its name."""
    store = fill(tmp_path, 1)
    sync = os.fsync

    def lose(descriptor):
        sync(descriptor)
        if Path(f"/proc/self/fd/{descriptor}").readlink().name == ARRAYS:
            os.pwrite(descriptor, b"lost", os.fstat(descriptor).st_size - 4)

    monkeypatch.setattr(os, "fsync", lose)
    with pytest.raises(CheckpointError, match=r"step 2 could not be written .*arrays\.safetensors is not what was"):
        store.write(make(2))
    monkeypatch.undo()
    assert names(store) == ["step-000000000001"] and store.read_newest()[0].step == 1


def test_readers_see_whole_checkpoints_while_they_come_and_go(tmp_path):
    store = fill(tmp_path, 0, keep=2)
    done = threading.Event()

    def write():
        for step in range(1, 150):
            store.write(make(step, size=2000))
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    seen, sentences = [], []
    while not done.is_set():
        try:
            found, problems = CheckpointStore(tmp_path).read_newest()
        except CheckpointError:  # both went while they were looked at; the writer is that much ahead
            continue
        sentences += problems
        seen.append(found.step)
        assert float(found.arrays["weight/0000"][0, 0]) == found.step
    writer.join()
    assert seen == sorted(seen) and len(set(seen)) > 3
    assert all("No such file" in sentence for sentence in sentences)


def test_the_writer_writes_in_order_and_close_waits(tmp_path):
    writer = BackgroundWriter(CheckpointStore(tmp_path, keep=99))
    for step in range(1, 21):
        writer.submit(make(step))
    writer.close()
    writer.close()  # again is no mistake
    assert [read_checkpoint(path).step for path in CheckpointStore(tmp_path).paths()] == list(range(20, 0, -1))


class _Failing(CheckpointStore):
    def __init__(self, directory, error):
        super().__init__(directory)
        self.error, self.calls = error, 0

    def write(self, checkpoint):
        self.calls += 1
        raise self.error


@pytest.mark.parametrize("error", [CheckpointError("full"), MemoryError("none"), ValueError("a mistake of ours")])
def test_a_failure_of_any_kind_comes_up_at_the_next_submit(tmp_path, error):
    store = _Failing(tmp_path, error)
    writer = BackgroundWriter(store)
    writer.submit(make(1))
    with pytest.raises(type(error)) as caught:
        for step in range(2, 10_000):
            writer.submit(make(step))
    assert caught.value is error and store.calls >= 1
    try:
        writer.close()
    except type(error) as again:  # of one that was on its way
        assert again is error


def test_a_failure_of_the_last_one_comes_up_at_close(tmp_path):
    writer = BackgroundWriter(_Failing(tmp_path, CheckpointError("full")))
    writer.submit(make(1))
    with pytest.raises(CheckpointError, match="full"):
        writer.close()


def test_a_process_that_ends_badly_does_not_wait_for_the_writer(tmp_path):
    script = f"""
import sys, numpy as np
from bmp.training.checkpoint import *
from pathlib import Path
writer = BackgroundWriter(CheckpointStore(Path({str(tmp_path)!r})))
writer.submit(Checkpoint(1, {{}}, {{"a": np.zeros(4)}}))
assert "tensorflow" not in sys.modules
raise SystemExit(7)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 7, done.stderr


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed: make tools")
def test_a_write_killed_or_failing_at_any_of_its_system_calls_spoils_nothing():
    """The part `calls` of the campaign `make soak`; the others take longer."""
    command = [sys.executable, "-m", "tests.soak", "calls", "--rounds", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=PROJECT)
    if "strace cannot attach to a process here" in done.stderr:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stdout + done.stderr
    assert "ok   calls" in done.stdout
