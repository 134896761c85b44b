import io
import shutil
import tarfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bmp.artifact.guard import Limits
from bmp.errors import ArtifactError, UnsafeError
from bmp.registry.ustar import unpack, write_end, write_member

NAMES = st.lists(st.from_regex(r"[a-z0-9_.äß-]{0,60}[a-z0-9]", fullmatch=True), min_size=1, max_size=5).map("/".join)


def write(path, members):
    """Writes an archive of `(name, bytes)`, a directory where there are none."""
    with path.open("wb") as file:
        for name, content in members:
            write_member(file, name, None if content is None else io.BytesIO(content))
        write_end(file)
    return path


def read(path, directory, limits=None):
    directory.mkdir()
    with path.open("rb") as file:
        unpack(file, path, directory, limits or Limits())
    return {
        each.relative_to(directory).as_posix(): each.read_bytes() if each.is_file() else None
        for each in directory.rglob("*")
    }


def test_what_is_written_is_read_and_by_other_programs_too(tmp_path):
    members = {"a": None, "a/b": b"x" * 513, "a/empty": b"", "c": b"y" * 512, "d" * 90 + "/" + "e" * 99: b"long"}
    path = write(tmp_path / "t.tar", members.items())
    found = read(path, tmp_path / "out")
    assert found == members | {"d" * 90: None}
    with tarfile.open(path) as tar:
        assert {m.name: tar.extractfile(m).read() if m.isfile() else None for m in tar} == members
        assert {(m.mtime, m.uid, m.gid, m.uname, m.mode) for m in tar if m.isfile()} == {(0, 0, 0, "", 0o644)}


@settings(max_examples=40, deadline=None)
@given(names=st.lists(NAMES, unique=True, max_size=6), content=st.binary(max_size=1500))
def test_any_plain_names_come_back_or_are_refused(tmp_path_factory, names, content):
    place = tmp_path_factory.mktemp("tar")
    try:
        found = read(write(place / "t.tar", [(name, content) for name in names]), place / "out")
    except (UnsafeError, ArtifactError):
        assert not (place / "out").exists() or not list((place / "out").iterdir())
    else:
        assert {name: found[name] for name in names} == dict.fromkeys(names, content)
        assert not {name for name, data in found.items() if data is not None} - set(names)
    shutil.rmtree(place)


def test_a_name_or_a_file_that_is_too_long_cannot_be_written(tmp_path):
    for name in ("n" * 101, "d" * 156 + "/" + "n" * 90):
        with pytest.raises(ArtifactError, match="too long"):
            write(tmp_path / "t.tar", [(name, b"")])

    class Endless(io.BytesIO):
        def seek(self, *_):
            return 8**11

    with pytest.raises(ArtifactError, match="8,589,934,592 bytes"):
        write_member(io.BytesIO(), "n", Endless())


@pytest.mark.parametrize(
    "name",
    ["../x", "a/../../x", "/etc/x", "a//b", "./a", "a/.", "a\\b", "C:x", "a\nb", "a\x1bb", "", "..", "/", "\u202ea"],
)
def test_names_that_lead_elsewhere_are_refused_before_anything_is_written(tmp_path, name):
    path = write(tmp_path / "t.tar", [("good", b"1"), (name, b"2")])
    with pytest.raises((UnsafeError, ArtifactError)) as refused:
        read(path, tmp_path / "out")
    assert refused.type is UnsafeError or name in ("", "/")
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize(
    "names", [("a", "a"), ("a", "A"), ("a/x", "A/x"), ("ﬁ", "fi"), ("a", "a/b"), ("a/b", "a"), ("é", "e\u0301")]
)
def test_names_that_are_one_file_are_refused(tmp_path, names):
    path = write(tmp_path / "t.tar", [(name, b"") for name in names])
    with pytest.raises(UnsafeError):
        read(path, tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


def add(path, kind=tarfile.REGTYPE, form=tarfile.USTAR_FORMAT, name="a", content=b"", **changes):
    """Writes an archive with one member by `tarfile`, which writes much that we do not."""
    with tarfile.open(path, "w", format=form) as tar:
        member = tarfile.TarInfo(name)
        member.type, member.size = kind, len(content)
        for field, value in changes.items():
            setattr(member, field, value)
        tar.addfile(member, io.BytesIO(content))
    return path


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"kind": tarfile.SYMTYPE, "linkname": "/etc/passwd"}, "a symbolic link"),
        ({"kind": tarfile.LNKTYPE, "linkname": "a"}, "a hard link"),
        ({"kind": tarfile.CHRTYPE}, "a device"),
        ({"kind": tarfile.BLKTYPE}, "a device"),
        ({"kind": tarfile.FIFOTYPE}, "a named pipe"),
        ({"kind": tarfile.GNUTYPE_SPARSE}, "a sparse file"),
        ({"kind": tarfile.CONTTYPE}, "no tar file as"),
        ({"kind": tarfile.AREGTYPE}, "no tar file as"),
        ({"kind": b"Z"}, "no tar file as"),
        ({"name": "n" * 300, "form": tarfile.PAX_FORMAT}, "an extended header"),
        ({"name": "n" * 300, "form": tarfile.GNU_FORMAT}, "an extended header"),
        ({"mtime": 1}, "no tar file as"),
        ({"mode": 0o4755}, "no tar file as"),
        ({"uid": 5}, "no tar file as"),
        ({"linkname": "x"}, "no tar file as"),
    ],
)
def test_whatever_we_would_not_write_is_refused(tmp_path, changes, says):
    with pytest.raises(ArtifactError, match=says):
        read(add(tmp_path / "t.tar", **changes), tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "no tar file as"),
        (b"hello", "no tar file as"),
        (b"\x1f\x8b" + bytes(600), r"is compressed \(gzip\); unpack it"),
        (b"PK\x03\x04" + bytes(600), "zip"),
        (b"\xff" * 1024, "no tar file as"),
        (bytes(512), "is cut short"),
        (bytes(1024) + b"x", "goes on after its end"),
        (bytes(2048), "goes on after its end"),
    ],
)
def test_other_files_are_no_archives(tmp_path, content, says):
    (tmp_path / "t.tar").write_bytes(content)
    with pytest.raises(ArtifactError, match=says):
        read(tmp_path / "t.tar", tmp_path / "out")


def test_cut_anywhere_it_is_found(tmp_path):
    data = write(tmp_path / "whole.tar", [("a", b"x" * 700), ("b", b"y")]).read_bytes()
    path = tmp_path / "t.tar"
    for place, end in enumerate(range(0, len(data) - 1, 101)):
        path.write_bytes(data[:end])
        with pytest.raises(ArtifactError):
            read(path, tmp_path / f"out{place}")


def test_a_declared_size_that_is_not_there_allocates_nothing(tmp_path):
    path = write(tmp_path / "t.tar", [("a", b"x")])
    data = path.read_bytes()
    size = b"%011o\0" % (8**11 - 1)
    header = data[:124] + size + data[136:148] + b" " * 8 + data[156:512]
    path.write_bytes(header[:148] + b"%06o\0 " % sum(header) + header[156:] + data[512:])
    with pytest.raises(ArtifactError, match="cut short: 'a' should have 8,589,934,591 bytes"):
        read(path, tmp_path / "out")


def test_too_many_and_too_large_are_refused(tmp_path):
    path = write(tmp_path / "t.tar", [(str(number), b"") for number in range(12)])
    with pytest.raises(UnsafeError, match="10 members"):
        read(path, tmp_path / "out", Limits(members=10))
    with pytest.raises(UnsafeError, match="at most 1,000 are read"):
        read(path, tmp_path / "more", Limits(size_bytes=1000))


@settings(max_examples=150, deadline=None)
@given(place=st.integers(0, 3583), bit=st.integers(0, 7))
def test_a_flipped_bit_ends_in_one_error_or_changes_content_alone(tmp_path_factory, place, bit):
    directory = tmp_path_factory.mktemp("tar")
    data = bytearray(write(directory / "t.tar", [("a", None), ("a/b", b"x" * 700), ("c", b"y")]).read_bytes())
    data[place % len(data)] ^= 1 << bit
    (directory / "t.tar").write_bytes(data)
    try:
        found = read(directory / "t.tar", directory / "out")
    except ArtifactError as error:
        assert "\n" not in error.message
    else:
        assert set(found) == {"a", "a/b", "c"}
    shutil.rmtree(directory)
