import io
import json
import stat
import struct
import zipfile

import h5py
import numpy as np
import pytest

from bmp.artifact.guard import Limits, check_keras
from bmp.errors import ArtifactError, UnsafeError

INPUT = {"class_name": "InputLayer", "config": {"batch_input_shape": [None, 4], "name": "x"}, "module": "keras.layers"}
CONFIG = {"class_name": "Sequential", "config": {"name": "net", "layers": [INPUT]}, "module": "keras"}


def make_weights(spoil=lambda file: None):
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        file["layers/dense/vars/0"] = np.ones((4, 3), "f4")
        spoil(file)
    return content.getvalue()


def make_members(**changed):
    members = {
        "metadata.json": json.dumps({"keras_version": "2.21.0"}),
        "config.json": json.dumps(CONFIG),
        "model.weights.h5": make_weights(),
    }
    return {**members, **changed}


def write(path, members, kind=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", kind) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.keras"


@pytest.mark.parametrize("kind", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_plain_model_passes(path, kind):
    check_keras(write(path, make_members(), kind))


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        (make_members(**{"assets/vocabulary.txt": "a"}), "has the member 'assets/vocabulary.txt'"),
        (make_members(**{"evil.py": "a"}), "has the member 'evil.py'"),
        (make_members(**{"../evil": "a"}), "leads out of its folder"),
        (make_members(**{"/etc/passwd": "a"}), "absolute"),
        (make_members(**{"a\\b": "a"}), "absolute"),
        (make_members(**{"Config.json": "a"}), "would be the same file"),
        (
            make_members(**{"config.json": json.dumps({"class_name": "Lambda", "config": {}})}),
            "Lambda, which runs code",
        ),
        (make_members(**{"config.json": " " * 9_000_000}), r"config.json in model.keras has 9,000,000 bytes"),
        (make_members(**{"metadata.json": '{"a": 1, "a": 2}'}), "says the same thing twice"),
        (make_members(**{"model.weights.h5": bytes(2**27)}), "would become 134,217,728"),
    ],
)
def test_what_could_do_harm_is_refused(path, members, reason):
    with pytest.raises(UnsafeError, match=reason):
        check_keras(write(path, members))


def test_weights_that_lead_elsewhere_are_refused(path):
    def spoil(file):
        file["layers/more"] = h5py.ExternalLink("/etc/passwd", "/")

    with pytest.raises(
        UnsafeError, match=r"model.weights.h5 in model.keras is refused: /layers/more is a link to another"
    ):
        check_keras(write(path, make_members(**{"model.weights.h5": make_weights(spoil)})))


def test_two_members_of_one_name_are_refused(path):
    write(path, make_members())
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("config.json", "{}")
    with pytest.raises(UnsafeError, match="would be the same file"):
        check_keras(path)


def test_a_link_is_refused(path):
    members = make_members()
    link = zipfile.ZipInfo("config.json")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(link, "/etc/passwd")
        for name in ("metadata.json", "model.weights.h5"):
            archive.writestr(name, members[name])
    with pytest.raises(UnsafeError, match="is a link or a device"):
        check_keras(path)


def find_entries(content):
    """Returns where the entries of the directory at the end begin."""
    return [place for place in range(len(content)) if content[place : place + 4] == b"PK\x01\x02"]


def test_members_that_overlap_are_refused(path):
    content = bytearray(write(path, make_members(), zipfile.ZIP_STORED).read_bytes())
    first, second, _ = find_entries(content)
    content[second + 42 : second + 46] = content[first + 42 : first + 46]  # where the member begins
    path.write_bytes(content)
    with pytest.raises(UnsafeError, match="overlaps the one before"):
        check_keras(path)


def test_packing_that_keras_does_not_use_is_refused(path):
    with pytest.raises(UnsafeError, match="is packed in a way Keras does not use"):
        check_keras(write(path, make_members(), zipfile.ZIP_BZIP2))


def test_an_archive_of_many_members_is_refused_before_they_are_listed(path):
    content = bytearray(write(path, make_members()).read_bytes())
    end = content.rfind(b"PK\x05\x06")
    struct.pack_into("<HH", content, end + 8, 60_000, 60_000)
    path.write_bytes(content)
    with pytest.raises(UnsafeError, match="has 60,000 members"):
        check_keras(path)


@pytest.mark.parametrize("content", [b"", b"\x89HDF\r\n\x1a\n", b"PK\x03\x04" + bytes(50), b"PK\x05\x06" + bytes(18)])
def test_what_is_no_zip_is_refused_and_never_read_as_something_else(path, content):
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match=r"model.keras is no (whole )?\.keras file"):
        check_keras(path)


@pytest.mark.parametrize("missing", ["metadata.json", "config.json", "model.weights.h5"])
def test_a_member_that_is_missing_is_named(path, missing):
    members = make_members()
    del members[missing]
    with pytest.raises(ArtifactError, match=f"it lacks {missing}"):
        check_keras(write(path, members))


def test_a_member_with_a_wrong_checksum_is_refused(path):
    content = write(path, make_members(), zipfile.ZIP_STORED).read_bytes()
    path.write_bytes(content.replace(b'"net"', b'"nat"'))
    with pytest.raises(ArtifactError, match=r"is no whole \.keras file: Bad CRC"):
        check_keras(path)


def test_damage_anywhere_is_found_or_does_no_harm(path):
    content = write(path, make_members()).read_bytes()
    random = np.random.default_rng(0)
    for _ in range(300):
        damaged = bytearray(content)
        damaged[random.integers(len(content))] = random.integers(256)
        path.write_bytes(damaged[: random.integers(len(content))] if random.integers(2) else damaged)
        try:
            check_keras(path, Limits())
        except ArtifactError as error:
            assert "\n" not in str(error)
