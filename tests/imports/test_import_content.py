"""What a file is, told by its first bytes; names only have to agree."""

import json
import pickle
import struct
import zipfile

import pytest

from bmp.errors import ArtifactError, UnsafeError
from bmp.imports.content import tell_format

HEADER = json.dumps({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
SAFETENSORS = struct.pack("<Q", len(HEADER)) + HEADER + b"\0" * 4


def write(path, content):
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        with zipfile.ZipFile(path, "w") as archive:
            for name in content:
                archive.writestr(name, b"x")
    return path


@pytest.mark.parametrize(
    ("name", "content", "form"),
    [
        ("a.h5", b"\x89HDF\r\n\x1a\n....", "h5"),
        ("a.HDF5", b"\x89HDF\r\n\x1a\n....", "h5"),
        ("a.tflite", b"\x1c\0\0\0TFL3....", "litert"),
        ("a.safetensors", SAFETENSORS, "torch"),
        ("a.keras", ["config.json", "metadata.json", "model.weights.h5"], "keras"),
        ("a.skops", ["schema.json", "1.npy"], "sklearn"),
    ],
)
def test_each_format_is_known(tmp_path, name, content, form):
    assert tell_format(write(tmp_path / name, content)) == form


def test_a_saved_model_is_a_directory_of_any_name(tmp_path):
    (tmp_path / "saved_model.pb").write_bytes(b"")
    assert tell_format(tmp_path) == "saved_model"


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.keras", b"\x89HDF\r\n\x1a\n....", "is named .keras, but holds HDF5; such a file is named .h5 or .hdf5"),
        ("a", b"\x1c\0\0\0TFL3....", "is named without a suffix, but holds LiteRT"),
        ("a.keras", b"nothing of the kind", "is named like a .keras archive, but its content is not"),
        ("a.keras", b"PK\x03\x04 and no more", "begins like a zip archive but is none"),
        ("a.h5", b"", "is named like HDF5, but its content is not"),
        ("a.safetensors", struct.pack("<Q", 1 << 40) + b"{", "is named like safetensors"),
        ("a.kera", b"?", r"expected .h5, .*Did you mean '.keras'\?"),
        ("a.npz", ["x.npy"], "is no model that can be imported"),
    ],
)
def test_what_is_something_else_is_refused(tmp_path, name, content, said):
    with pytest.raises(ArtifactError, match=said):
        tell_format(write(tmp_path / name, content))


@pytest.mark.parametrize("name", ["a.pkl", "a.pt", "a.pth", "a.joblib", "a.bin", "a.h5", "a.keras", "a.tflite"])
def test_a_pickle_is_refused_with_what_to_do(tmp_path, name):
    path = write(tmp_path / name, pickle.dumps({"weights": [1.0] * 100}))
    with pytest.raises(UnsafeError, match=r"is a pickle.*skops.io.dump.*safetensors.torch.save_file"):
        tell_format(path)


def test_so_is_an_archive_of_pytorch_whatever_its_name(tmp_path):
    with pytest.raises(UnsafeError, match="is a pickle of PyTorch"):
        tell_format(write(tmp_path / "a.keras", ["archive/data.pkl", "config.json"]))


def test_a_directory_without_a_model_says_what_it_holds(tmp_path):
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(ArtifactError, match=r"holds no saved_model.pb, but notes.txt"):
        tell_format(tmp_path)
