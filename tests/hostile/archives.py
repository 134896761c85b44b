"""Hostile archives of versions: members that lead elsewhere, and tar files that are not what `export` writes."""

import gzip
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bmp.artifact.manifest import MANIFEST_FILE, digest_file
from bmp.registry.ustar import write_end, write_member
from tests.hostile.artifact import lay_out, seal
from tests.hostile.case import Cases, Place

CASES = Cases("tar")
Members = list[tuple[str, bytes | None]]


def list_members(artifact: Path) -> Members:
    """Returns what `export` would write of an artifact: names, and content, None of a directory."""
    digest = digest_file(artifact / MANIFEST_FILE).sha256 if (artifact / MANIFEST_FILE).is_file() else "0" * 64
    source = {"schema_version": 1, "model": "model", "version": 1, "manifest_sha256": digest}
    notes = {"schema_version": 1, "description": "", "tags": {}}
    members: Members = [
        ("bmp-archive.json", json.dumps(source).encode()),
        ("metadata.json", json.dumps(notes).encode()),
    ]
    for path in (artifact, *sorted(artifact.rglob("*"))):
        name = (Path("version") / path.relative_to(artifact)).as_posix()
        if path.is_file() or path.is_dir():
            members.append((name, path.read_bytes() if path.is_file() else None))
    return members


def write(path: Path, members: Members) -> Path:
    """Writes an archive just as `export` does."""
    with path.open("wb") as file:
        for name, content in members:
            write_member(file, name, None if content is None else io.BytesIO(content))
        write_end(file)
    return path


def carry(artifact: Path, path: Path) -> Path:
    """Writes an artifact, hostile or not, to an archive that is sound by itself."""
    return write(path, list_members(artifact))


def _make(place: Place, change: Callable[[Members], Any]) -> Path:
    """Makes one whose members are changed."""
    members = list_members(seal(lay_out(place.inside / "artifact")))
    change(members)
    return write(place.inside / "version.tar", members)


def _make_foreign(place: Place, add: Callable[[tarfile.TarFile], Any]) -> Path:
    """Makes one that Python's own tarfile has written, with a member more."""
    members = list_members(seal(lay_out(place.inside / "artifact")))
    with tarfile.open(place.inside / "version.tar", "w", format=tarfile.USTAR_FORMAT) as archive:
        add(archive)
        for name, content in members:
            _add(archive, name, content)
    return place.inside / "version.tar"


def _add(archive: tarfile.TarFile, name: str, content: bytes | None, **more: Any) -> None:
    member = tarfile.TarInfo(name)
    member.type, member.size = (tarfile.DIRTYPE, 0) if content is None else (tarfile.REGTYPE, len(content))
    for key, value in more.items():
        setattr(member, key, value)
    archive.addfile(member, io.BytesIO(content or b""))


@CASES.spoil(_make)
def a_member_that_climbs(members: Members, place: Place) -> None:
    members.append(("version/../../outside/canary", b"x"))


@CASES.spoil(_make)
def a_member_with_a_path_of_its_own(members: Members, place: Place) -> None:
    members.append(("/tmp/hostile-canary", b"x"))


@CASES.spoil(_make)
def a_member_beside_the_version(members: Members, place: Place) -> None:
    members.append(("journal.jsonl", b"{}\n"))


@CASES.spoil(_make)
def two_members_of_one_name(members: Members, place: Place) -> None:
    members.append(members[-1])


@CASES.spoil(_make)
def members_that_only_differ_in_case(members: Members, place: Place) -> None:
    members.append(("version/MODEL.tflite", b"x"))


@CASES.spoil(_make)
def a_file_that_is_a_directory_too(members: Members, place: Place) -> None:
    members.append(("version/model.tflite/canary", b"x"))


@CASES.spoil(_make)
def a_program_among_the_files(members: Members, place: Place) -> None:
    members.append(("version/network.py", f"open({str(place.canary)!r}, 'w')".encode()))


@CASES.spoil(_make)
def a_manifest_that_was_changed(members: Members, place: Place) -> None:
    at = next(at for at, (name, _) in enumerate(members) if name == f"version/{MANIFEST_FILE}")
    members[at] = (members[at][0], (members[at][1] or b"").replace(b'"model"', b'"other"'))


@CASES.spoil(_make)
def a_name_that_climbs(members: Members, place: Place) -> None:
    members[0] = (members[0][0], (members[0][1] or b"").replace(b'"model": "model"', b'"model": "../../outside"'))


@CASES.spoil(_make)
def metadata_that_steer_a_terminal(members: Members, place: Place) -> None:
    notes = {"schema_version": 1, "description": "\x1b]0;owned\x07", "tags": {"../x": "y"}}
    members[1] = (members[1][0], json.dumps(notes).encode())


@CASES.spoil(_make)
def metadata_of_brackets(members: Members, place: Place) -> None:
    members[1] = (members[1][0], b"[" * 100_000)


@CASES.spoil(_make)
def signatures_that_are_none(members: Members, place: Place) -> None:
    members.append(("signatures.json", b'{"signatures": [{"key_id": "../../x"}]}'))


@CASES.spoil(_make)
def no_version_in_it(members: Members, place: Place) -> None:
    del members[2:]


@CASES.spoil(_make)
def thousands_of_members(members: Members, place: Place) -> None:
    members.extend((f"version/{number}", b"") for number in range(5_000))


@CASES.spoil(_make_foreign)
def a_link_to_a_file_outside(archive: tarfile.TarFile, place: Place) -> None:
    _add(archive, "version/link", b"", type=tarfile.SYMTYPE, linkname=str(place.secret)[-99:])


@CASES.spoil(_make_foreign)
def a_hard_link(archive: tarfile.TarFile, place: Place) -> None:
    _add(archive, "version/link", b"", type=tarfile.LNKTYPE, linkname=str(place.secret)[-99:])


@CASES.spoil(_make_foreign)
def a_device(archive: tarfile.TarFile, place: Place) -> None:
    _add(archive, "version/memory", b"", type=tarfile.CHRTYPE, devmajor=1, devminor=1)


@CASES.spoil(_make_foreign)
def a_pipe(archive: tarfile.TarFile, place: Place) -> None:
    _add(archive, "version/pipe", b"", type=tarfile.FIFOTYPE)


@CASES.spoil(_make_foreign)
def a_name_in_an_extended_header(archive: tarfile.TarFile, place: Place) -> None:
    content = b"30 path=../../outside/canary\n"
    _add(archive, "pax", content, type=tarfile.XHDTYPE)


@CASES.spoil(_make_foreign)
def a_file_with_holes(archive: tarfile.TarFile, place: Place) -> None:
    _add(archive, "version/sparse", b"", type=tarfile.GNUTYPE_SPARSE)


@CASES
def an_archive_that_is_packed(place: Place) -> Path:
    plain = carry(seal(lay_out(place.inside / "artifact")), place.inside / "plain.tar")
    (place.inside / "version.tar").write_bytes(gzip.compress(plain.read_bytes()))
    return place.inside / "version.tar"


@CASES
def an_archive_that_was_cut(place: Place) -> Path:
    path = carry(seal(lay_out(place.inside / "artifact")), place.inside / "version.tar")
    path.write_bytes(path.read_bytes()[:-3_000])
    return path


@CASES
def an_archive_that_goes_on_after_its_end(place: Place) -> Path:
    path = carry(seal(lay_out(place.inside / "artifact")), place.inside / "version.tar")
    path.write_bytes(path.read_bytes() + path.read_bytes())
    return path


@CASES
def a_size_below_zero(place: Place) -> Path:
    path = carry(seal(lay_out(place.inside / "artifact")), place.inside / "version.tar")
    content = bytearray(path.read_bytes())
    content[124:136] = b"-0000000100\0"
    path.write_bytes(content)
    return path
