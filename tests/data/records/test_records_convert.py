"""Conversions: ended at any point, begun again, refused; and the command line."""

import fcntl
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from click.testing import CliRunner
from conftest import disk_that_holds
from record_sets import KEY, make_mixed, make_tensors, same

from bmp.cli.convert import convert_command, keygen_command
from bmp.data.records import Options, RecordSource, convert
from bmp.data.records.manifest import read_manifest
from bmp.data.source import BadExampleError, Source, Target
from bmp.data.sources.memory import ArraySource
from bmp.data.sources.text import load_text
from bmp.errors import BmpError, ConfigError, DataError
from bmp.transforms import Field

DESCRIPTION = {"source": "test", "args": {"sizes": (1, 2)}}


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


# --- ended at any point ---

CHILD = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, {here!r})
from record_sets import KEY, make_mixed
from bmp.data.records import Options, convert

directory, compression, encrypted, left = Path(sys.argv[1]), sys.argv[2], sys.argv[3] == "1", int(sys.argv[4])
def count(event, args):
    # What leaves a trace in the directory: files opened to be written, renamed, removed.
    global left
    if event in ("open", "os.rename", "os.remove") and str(directory) in str(args[0]):
        if event != "open" or args[2] & (os.O_WRONLY | os.O_RDWR):
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(count)
options = Options(4, compression, KEY if encrypted else None)
convert(make_mixed(40), directory, options, description={description!r})
"""


@pytest.mark.parametrize(("compression", "key"), [("none", None), ("zstd", KEY)], ids=["plain", "encrypted"])
def test_a_conversion_that_is_killed_again_and_again_ends_as_if_nothing_had_been(compression, key, tmp_path):
    child = CHILD.format(here=str(Path(__file__).parent), description=DESCRIPTION)
    seed = random.randrange(1000)
    chance, kills, kept = random.Random(seed), 0, 0
    killed = tmp_path / "killed"
    while True:
        before = contents(killed) if killed.exists() else {}
        arguments = (str(killed), compression, str(int(key is not None)), str(chance.randrange(1, 16)))
        done = subprocess.run([sys.executable, "-c", child, *arguments], capture_output=True, text=True, timeout=60)
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGKILL, done.stderr
        kills += 1
        if (killed / "dataset.json").exists():
            assert len(RecordSource(killed, key, verify=True)) == 40
        after = contents(killed) if killed.exists() else {}
        whole = [name for name in before if name.endswith(".index") and not name.startswith(".")]
        for name in whole:  # what was complete before is still there, and was not written again
            records = name.replace(".index", ".tfrecord")
            assert (before[name], before[records]) == (after[name], after[records])
            kept += 1
        assert kills < 100
    assert not [name for name in contents(killed) if name.startswith(".") or name == "plan.json"]
    source = make_mixed(40)
    convert(source, tmp_path / "at once", Options(4, compression, key), description=DESCRIPTION)
    if key is None:
        assert contents(killed) == contents(tmp_path / "at once"), f"seed {seed}"
    index = np.arange(40)
    assert same(RecordSource(killed, key, verify=True).read(index), source.read(index)), f"seed {seed}"
    assert kills
    print(f"seed {seed}: killed {kills} times, kept {kept} shards")


def test_a_disk_that_fills_up_leaves_nothing_wrong_and_the_rest_follows(tmp_path):
    source, options = make_tensors(2000), Options(2)
    with disk_that_holds(20_000), pytest.raises(OSError):
        convert(source, tmp_path / "set", options, description=DESCRIPTION)
    assert [path.name for path in (tmp_path / "set").iterdir()] == ["plan.json"]
    with pytest.raises(DataError, match="is not finished"):
        RecordSource(tmp_path / "set")
    convert(source, tmp_path / "set", options, description=DESCRIPTION)
    convert(source, tmp_path / "other", options, description=DESCRIPTION)
    assert contents(tmp_path / "set") == contents(tmp_path / "other")


@pytest.mark.parametrize("key", [None, KEY])
@pytest.mark.parametrize("suffix", ["tfrecord", "index"])
def test_a_finished_conversion_given_again_mends_what_is_damaged_and_touches_nothing_else(key, suffix, tmp_path):
    source, options = make_mixed(20), Options(2, "none", key)
    convert(source, tmp_path, options, description=DESCRIPTION)
    before = contents(tmp_path)
    convert(source, tmp_path, options, description=DESCRIPTION)
    assert contents(tmp_path) == before
    path = tmp_path / f"all-00001-of-00002.{suffix}"
    damaged = bytearray(before[path.name])
    damaged[-40] ^= 1
    path.write_bytes(damaged)
    convert(source, tmp_path, options, description=DESCRIPTION)
    after = contents(tmp_path)
    assert key is not None or after == before
    assert after["all-00000-of-00002.tfrecord"] == before["all-00000-of-00002.tfrecord"]
    assert same(RecordSource(tmp_path, key, verify=True).read(np.arange(20)), source.read(np.arange(20)))


# --- refused ---


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shards": 3}, r"differ from these in 'shards': 2 there, 3 now"),
        ({"compression": "zstd"}, r"differ from these in 'compression': 'none' there, 'zstd' now"),
        ({"key": KEY}, "are not encrypted"),
    ],
)
@pytest.mark.parametrize("finished", [True, False])
def test_a_directory_of_other_settings_is_refused(change, message, finished, tmp_path):
    convert(make_tensors(9), tmp_path, Options(2), description=DESCRIPTION)
    if not finished:
        plan = read_manifest(tmp_path).model_dump_json(exclude={"files", "seal"})
        (tmp_path / "plan.json").write_text(plan)
        (tmp_path / "dataset.json").unlink()
    before = contents(tmp_path)
    with pytest.raises(ConfigError, match=message):
        convert(make_tensors(9), tmp_path, Options(**{"shards": 2, **change}), description=DESCRIPTION)
    assert contents(tmp_path) == before


def test_a_directory_of_other_examples_or_of_another_key_is_refused(tmp_path):
    convert(make_tensors(9), tmp_path / "plain", Options(), description=DESCRIPTION)
    other = make_tensors(9)
    other._columns["image"][4, 0, 0] ^= 1
    with pytest.raises(ConfigError, match="differ from these in 'content'"):
        convert(other, tmp_path / "plain", Options(), description=DESCRIPTION)
    convert(make_tensors(9), tmp_path / "secret", Options(key=KEY), description=DESCRIPTION)
    with pytest.raises(DataError, match="not the one the records in"):
        convert(make_tensors(9), tmp_path / "secret", Options(key=bytes(32)), description=DESCRIPTION)
    with pytest.raises(ConfigError, match="are encrypted"):
        convert(make_tensors(9), tmp_path / "secret", Options(), description=DESCRIPTION)


def test_a_directory_of_something_else_is_refused_and_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ConfigError, match=r"is not empty and holds no records"):
        convert(make_tensors(9), tmp_path, Options(), description=DESCRIPTION)
    assert contents(tmp_path) == {"thesis.tex": b"years of work"}
    with pytest.raises(ConfigError, match="cannot be made a directory"):
        convert(make_tensors(9), tmp_path / "thesis.tex", Options(), description=DESCRIPTION)


def test_two_conversions_do_not_write_to_one_directory(tmp_path):
    descriptor = os.open(tmp_path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        with pytest.raises(ConfigError, match="Another conversion is writing"):
            convert(make_tensors(9), tmp_path, Options(), description=DESCRIPTION)
    finally:
        os.close(descriptor)
    convert(make_tensors(9), tmp_path, Options(), description=DESCRIPTION)


# --- bad examples ---


class _Flawed(Source):
    """Examples of which some cannot be read."""

    def __init__(self, source: Source, bad: set[int]) -> None:
        self._source, self._bad = source, bad
        self.fields, self.target = source.fields, source.target

    def __len__(self):
        return len(self._source)

    def read(self, index):
        for number in index.tolist():
            if number in self._bad:
                raise BadExampleError(number, self.where(number), "secret content")
        return self._source.read(index)

    def read_targets(self, index):
        return self._source.read_targets(index)

    def where(self, number):
        return f"file {number}"


def test_bad_examples_stop_or_are_left_out_and_listed(tmp_path):
    source = _Flawed(make_tensors(20), {3, 11})
    with pytest.raises(DataError, match="file 3: secret content, and 1 more"):
        convert(source, tmp_path / "a", Options(), description=DESCRIPTION)
    with pytest.raises(DataError, match=r"2 of 20 examples \(10.0%\)"):
        convert(source, tmp_path / "a", Options(on_bad_example="skip"), description=DESCRIPTION)
    assert not (tmp_path / "a").exists()
    skip = {"on_bad_example": "skip", "max_bad_fraction": 0.1}
    manifest = convert(source, tmp_path / "a", Options(**skip), description=DESCRIPTION)
    assert [(bad.where, bad.reason) for bad in manifest.bad] == [
        ("file 3", "secret content"),
        ("file 11", "secret content"),
    ]
    good = np.setdiff1d(np.arange(20), [3, 11])
    assert same(RecordSource(tmp_path / "a").read(np.arange(18)), source.read(good))
    manifest = convert(source, tmp_path / "b", Options(key=KEY, **skip), description=DESCRIPTION)
    assert (manifest.num_bad, manifest.bad) == (2, ())
    assert b"secret" not in (tmp_path / "b" / "dataset.json").read_bytes()


def test_a_tensor_that_is_not_finite_is_bad_but_a_missing_number_is_kept(tmp_path):
    columns = {"age": np.array([1, np.nan, 3], np.float32), "x": np.array([[1.0], [2.0], [np.inf]], np.float32)}
    fields = (Field("age", "number"), Field("x", "tensor", "float32", (1,)))
    source = ArraySource(columns, fields, np.zeros(3, np.int64), Target("class", ("a", "b")))
    with pytest.raises(DataError, match="example 2: 'x' holds inf"):
        convert(source, tmp_path, Options(), description=DESCRIPTION)
    convert(source, tmp_path, Options(on_bad_example="skip", max_bad_fraction=0.5), description=DESCRIPTION)
    np.testing.assert_array_equal(RecordSource(tmp_path).read(np.arange(2))["age"], [1, np.nan])


def test_progress_counts_every_example(tmp_path):
    seen = []
    convert(make_mixed(300), tmp_path, Options(3), description=DESCRIPTION, progress=lambda *now: seen.append(now))
    assert seen == sorted(seen) and seen[-1] == (300, 300) and len(seen) > 3


def test_windows_over_a_text_are_stored_as_such_with_what_serves_them(tmp_path):
    (tmp_path / "text.txt").write_text("To be, or not to be, that is the question:\n" * 20)
    source = load_text(path=str(tmp_path / "text.txt"), context=8, validation=0.2, test=0.2)
    for _ in range(2):
        convert(source, tmp_path / "set", Options(2, "zstd"), description=DESCRIPTION)
    records = RecordSource(tmp_path / "set")
    assert records.overlaps and records.target == source.target and records.fields == source.fields
    assert (records.serving_fields, records.serving_steps) == (source.serving_fields, source.serving_steps)
    assert {name: len(numbers) for name, numbers in records.given.items()} == {
        name: len(numbers) for name, numbers in source.given.items()
    }
    index = np.arange(len(source))
    assert same(records.read(index), source.read(index))
    np.testing.assert_array_equal(records.read_targets(index), source.read_targets(index))


# --- the command line ---


@pytest.fixture
def run():
    def invoke(command, *arguments, **environ):
        return CliRunner().invoke(command, [str(argument) for argument in arguments], env=environ)

    return invoke


def test_a_source_is_converted_and_converted_again(run, tmp_path):
    directory = tmp_path / "digits"
    arguments = ("sklearn", directory, "--set", "name=digits", "--shards", 3, "--compression", "zstd")
    for _ in range(2):
        done = run(convert_command, *arguments)
        assert done.exit_code == 0, done.output
        assert "1,797 examples (all 1,797)" in done.output and "zstd" in done.output
        assert f"data: {{source: records, args: {{path: {directory}}}}}" in done.output
    records = RecordSource(directory)
    assert records.target.labels == tuple("0123456789") and records.read(np.array([5]))["image"].shape == (1, 8, 8)


def test_a_recipe_is_converted_and_encrypted_with_a_new_key(run, tmp_path):
    assert run(keygen_command, tmp_path / "key").exit_code == 0
    recipe = {
        "data": {"source": "sklearn", "args": {"name": "iris"}, "on_bad_example": "skip"},
        "model": {"build": "mlp"},
        "publish": {"name": "iris"},
    }
    (tmp_path / "iris.yaml").write_text(yaml.safe_dump(recipe))
    done = run(convert_command, tmp_path / "iris.yaml", tmp_path / "set", "--encrypt-key-file", tmp_path / "key")
    assert done.exit_code == 0, done.output
    assert "encrypted" in done.output and "read by others" not in done.output
    assert len(RecordSource(tmp_path / "set", bytes.fromhex((tmp_path / "key").read_text()))) == 150
    (tmp_path / "key").chmod(0o644)
    again = run(convert_command, tmp_path / "iris.yaml", tmp_path / "set", "--encrypt-key-file", tmp_path / "key")
    assert again.exit_code == 0 and "can be read by others (mode 644)" in again.output
    done = run(convert_command, tmp_path / "iris.yaml", tmp_path / "env", BMP_DATA_KEY=KEY.hex())
    assert done.exit_code == 0 and "encrypted" in done.output
    assert len(RecordSource(tmp_path / "env", KEY)) == 150


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sklern", "DIR"], "neither a recipe .* nor a source .* Did you mean 'sklearn'"),
        (["missing.yaml", "DIR"], "no recipe file missing.yaml"),
        (["sklearn", "DIR"], "needs the argument 'name'"),
        (["sklearn", "DIR", "--set", "nam=digits"], "no argument 'nam'.* Did you mean 'name'"),
        (["sklearn", "DIR", "--set", "name"], "'name' is not of the form key=value"),
        (["sklearn", "DIR", "--set", "name={"], "is not valid YAML"),
        (["sklearn", "DIR", "--set", "name=iris", "--encrypt-key-file", "nokey"], "key file nokey cannot be read"),
    ],
)
def test_a_mistake_on_the_command_line_is_one_sentence(run, arguments, message, tmp_path):
    arguments = [str(tmp_path / "DIR") if argument == "DIR" else argument for argument in arguments]
    done = run(convert_command, *arguments)
    assert isinstance(done.exception, BmpError)  # which the command `bmp` says, without a traceback
    with pytest.raises(ConfigError, match=message):
        raise done.exception
    assert not (tmp_path / "DIR").exists()


@pytest.mark.parametrize("option", [["--shards", "0"], ["--compression", "rar"], ["--max-bad-fraction", "2"]])
def test_a_wrong_option_is_named(run, option, tmp_path):
    done = run(convert_command, "sklearn", tmp_path / "set", *option)
    assert done.exit_code == 2 and option[0] in done.output
