import errno
import os
import subprocess
import sys
import time

import pytest
from conftest import disk_that_holds

from bmp.errors import CheckpointError
from bmp.storage import append_durably, is_disk_full, sync_tree, write_atomically


@pytest.mark.parametrize("before", [None, b"", b"old"])
def test_writes_or_replaces_a_file(tmp_path, before):
    path = tmp_path / "file"
    if before is not None:
        path.write_bytes(before)
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("before", [None, b"old"])
def test_a_write_that_fails_half_way_keeps_the_old_file_and_leaves_nothing(tmp_path, before):
    path = tmp_path / "file"
    if before is not None:
        path.write_bytes(before)
    with disk_that_holds(1000), pytest.raises(OSError):
        write_atomically(path, b"x" * 5000)
    assert {entry.name: entry.read_bytes() for entry in tmp_path.iterdir()} == ({"file": before} if before else {})


def test_a_write_into_a_missing_directory_fails(tmp_path):
    with pytest.raises(FileNotFoundError):
        write_atomically(tmp_path / "missing" / "file", b"new")
    assert not list(tmp_path.iterdir())


REWRITE = """
import itertools, pathlib, sys
from bmp.storage import write_atomically
for byte in itertools.cycle(b"ab"):
    write_atomically(pathlib.Path(sys.argv[1]), bytes([byte]) * 300_000)
"""


def test_a_reader_sees_a_whole_file_also_after_the_writer_was_killed(tmp_path):
    path = tmp_path / "file"
    write_atomically(path, b"a" * 300_000)
    writer = subprocess.Popen([sys.executable, "-c", REWRITE, str(path)])
    seen = set()
    try:
        deadline = time.monotonic() + 30
        while len(seen) < 2 and time.monotonic() < deadline:
            seen.add(path.read_bytes())
        seen.update(path.read_bytes() for _ in range(100))
    finally:
        writer.kill()
        writer.wait()
    seen.add(path.read_bytes())
    assert seen == {b"a" * 300_000, b"b" * 300_000}


def test_appends_to_what_is_there(tmp_path):
    path = tmp_path / "file"
    append_durably(path, b"one\n")
    append_durably(path, b"two\n")
    assert path.read_bytes() == b"one\ntwo\n"


def test_syncing_a_tree_reaches_every_file(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "file").write_bytes(b"x")
    sync_tree(tmp_path)
    (tmp_path / "a" / "dangling").symlink_to("nowhere")
    with pytest.raises(FileNotFoundError):
        sync_tree(tmp_path)


def led_to(error, cause):
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "is_full"),
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), True),
        (OSError(errno.EDQUOT, "spent"), True),
        (OSError("Can't write data (file write failed: errno = 28, error message = 'No space left on device')"), True),
        (RuntimeError("variables/variables.data-00000-of-00001; File too large"), True),
        (led_to(CheckpointError("It failed."), led_to(ValueError("?"), OSError(errno.ENOSPC, "full"))), True),
        (led_to(CheckpointError("It failed."), OSError(errno.EACCES, os.strerror(errno.EACCES))), False),
        (ValueError("28"), False),
    ],
)
def test_a_full_disk_is_told_from_other_trouble(error, is_full):
    assert is_disk_full(error) is is_full
