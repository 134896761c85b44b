"""What is imported is copied first, plain files only."""

import hashlib
import os

import pytest

from bmp.errors import NotFoundError, UnsafeError
from bmp.imports.staging import stage


@pytest.fixture
def place(tmp_path):
    (tmp_path / "place").mkdir()
    return tmp_path / "place"


def test_a_file_comes_whole_with_its_digest(tmp_path, place):
    (tmp_path / "net.h5").write_bytes(b"weights")
    staged = stage(tmp_path / "net.h5", place)
    assert (staged.path, staged.path.read_bytes()) == (place / "net.h5", b"weights")
    assert (staged.sha256, staged.size_bytes) == (hashlib.sha256(b"weights").hexdigest(), 7)


def test_a_link_that_the_user_names_is_followed(tmp_path, place):
    (tmp_path / "net.h5").write_bytes(b"weights")
    (tmp_path / "link.h5").symlink_to("net.h5")
    assert stage(tmp_path / "link.h5", place).path.read_bytes() == b"weights"


def test_the_digest_of_a_directory_is_that_of_its_files_and_their_paths(tmp_path, place):
    source = tmp_path / "model"
    (source / "variables").mkdir(parents=True)
    (source / "variables" / "a").write_bytes(b"1")
    (source / "b").write_bytes(b"22")
    staged = stage(source, place)
    lines = f"{hashlib.sha256(b'22').hexdigest()} b\n{hashlib.sha256(b'1').hexdigest()} variables/a\n"
    assert (staged.sha256, staged.size_bytes) == (hashlib.sha256(lines.encode()).hexdigest(), 3)
    assert (staged.path / "variables" / "a").read_bytes() == b"1"


@pytest.mark.parametrize("target", ["/etc/passwd", "..", "nothing"])
def test_a_link_inside_a_directory_is_refused(tmp_path, place, target):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "inside").symlink_to(target)
    with pytest.raises(UnsafeError, match="inside is a link"):
        stage(tmp_path / "model", place)


def test_a_pipe_is_refused_and_not_waited_for(tmp_path, place):
    os.mkfifo(tmp_path / "net.h5")
    with pytest.raises(UnsafeError, match="neither a plain file nor a directory"):
        stage(tmp_path / "net.h5", place)


def test_what_is_not_there_is_guessed_at(tmp_path, place):
    (tmp_path / "digits.keras").write_bytes(b"")
    with pytest.raises(NotFoundError, match=r"no file or directory .*digit.keras. Did you mean 'digits.keras'\?"):
        stage(tmp_path / "digit.keras", place)
