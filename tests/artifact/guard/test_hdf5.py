import json

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bmp.artifact.guard import Limits, check_h5
from bmp.errors import ArtifactError, UnsafeError

CONFIG = {
    "class_name": "Sequential",
    "config": {
        "name": "net",
        "layers": [
            {"class_name": "InputLayer", "config": {"batch_input_shape": [None, 4], "dtype": "float32", "name": "x"}},
            {"class_name": "Dense", "config": {"name": "dense", "units": 3}},
        ],
    },
}


def write(path, config=CONFIG):
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = json.dumps(config).encode()
        weights = file.create_group("model_weights")
        weights.attrs["layer_names"] = [b"x", b"dense"]
        dense = weights.create_group("dense/dense")
        dense.create_dataset("kernel:0", data=np.ones((4, 3), "f4"), compression="gzip", shuffle=True, fletcher32=True)
        dense["bias:0"] = np.zeros(3, "f4")
    return path


@pytest.fixture
def path(tmp_path):
    return write(tmp_path / "model.h5")


def test_a_plain_model_passes(path):
    check_h5(path)


# --- what is refused ---


def link_to_a_file(file):
    file["model_weights/more"] = h5py.ExternalLink("/etc/passwd", "/")


def link_softly(file):
    file["model_weights/more"] = h5py.SoftLink("/model_weights/dense")


def link_back(file):
    file["model_weights/dense/up"] = file["model_weights"]


def link_twice(file):
    file["model_weights/again"] = file["model_weights/dense/dense/kernel:0"]


def store_elsewhere(file):
    file.create_dataset("more", (4,), "u1", external=[("/etc/passwd", 0, 4)])


def be_virtual(file):
    layout = h5py.VirtualLayout((4,), "u1")
    layout[:] = h5py.VirtualSource("/etc/passwd", "x", (4,))
    file.create_virtual_dataset("more", layout)


def pack_with_a_plugin(file):
    creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    creation.set_chunk((4,))
    creation.set_filter(305, h5py.h5z.FLAG_OPTIONAL, ())  # 305 is LZO, which is loaded from a file
    h5py.h5d.create(file.id, b"more", h5py.h5t.IEEE_F32LE, h5py.h5s.create_simple((4,)), creation)


def declare_too_much(file):
    file.create_dataset("more", (2**40,), "f4", chunks=(1024,))


def declare_too_much_in_one_chunk(file):
    file.create_dataset("more", (0,), "f4", maxshape=(None,), chunks=(2**29,), compression="gzip")


def pack_zeros(file):
    file.create_dataset("more", data=np.zeros(2**25, "f4"), chunks=(2**20,), compression="gzip")


def be_objects(file):
    file.create_dataset("more", data=["a", "b"], dtype=h5py.string_dtype())


def be_references(file):
    file.create_dataset("more", data=[file.ref], dtype=h5py.ref_dtype)


def be_compound(file):
    file["more"] = np.zeros(2, [("a", "f4"), ("b", "i4")])


def be_a_type(file):
    file["more"] = np.dtype("f4")


def refer_in_an_attribute(file):
    file.attrs["more"] = file.ref


def hold_lists_in_an_attribute(file):
    lists = np.empty(1, object)
    lists[0] = np.arange(3, dtype="i4")
    file.attrs.create("more", lists, dtype=h5py.vlen_dtype("i4"))


def nest_too_deep(file):
    file.create_group("/".join("x" * 70))


UNSAFE = {
    link_to_a_file: "/model_weights/more is a link to another file",
    link_softly: "/model_weights/more is a soft link",
    link_back: "/model_weights/dense/up is another name",
    link_twice: "is another name",
    store_elsewhere: "/more keeps its numbers in another file",
    be_virtual: "/more is put together from other files",
    pack_with_a_plugin: "/more is packed by the filter 305",
    declare_too_much: "with /more, takes .* would become 4,398,046,511,1",
    declare_too_much_in_one_chunk: "with /more, takes .* would become 2,147,483,",
    pack_zeros: "with /more, takes .* would become 134,217,7",
    be_objects: r"/more is no array of numbers \(string\)",
    be_references: r"/more is no array of numbers \(reference\)",
    be_compound: r"/more is no array of numbers \(compound\)",
    be_a_type: "/more is a type by itself",
    refer_in_an_attribute: "attribute 'more', is of a type that Keras does not write",
    hold_lists_in_an_attribute: "attribute 'more', is of a type that Keras does not write",
    nest_too_deep: "nests too deep",
}


@pytest.mark.parametrize("spoil", UNSAFE, ids=lambda spoil: spoil.__name__)
def test_what_could_do_harm_is_refused(path, spoil):
    with h5py.File(path, "r+") as file:
        spoil(file)
    with pytest.raises(UnsafeError, match=UNSAFE[spoil]) as caught:
        check_h5(path)
    assert str(caught.value).isprintable()


def test_a_list_that_repeats_a_long_text_is_refused(path):
    with h5py.File(path, "r+") as file:
        file.attrs["long"] = "a" * 10_000
        file["model_weights"].attrs["layer_names"] = ["a"] * 200
    check_h5(path)
    with pytest.raises(UnsafeError, match="a list of texts could become"):
        check_h5(path, Limits(size_bytes=path.stat().st_size * 100))


def test_a_file_of_many_objects_is_refused(path):
    with pytest.raises(UnsafeError, match="more than 3 objects"):
        check_h5(path, Limits(objects=3))


def test_a_network_that_runs_code_is_refused(tmp_path):
    config = {**CONFIG, "config": {"layers": [{"class_name": "Lambda", "config": {"name": "evil"}}]}}
    with pytest.raises(UnsafeError, match="The layer evil is a Lambda"):
        check_h5(write(tmp_path / "model.h5", config))


# --- what is no model ---


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x89HDF\r\n\x1a\n", b"\x89HDF\r\n\x1a\n" + bytes(500)])
def test_other_files_are_refused(tmp_path, content):
    path = tmp_path / "model.h5"
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match=r"model.h5 is no (whole )?HDF5 file"):
        check_h5(path)


def test_a_file_of_weights_alone_is_refused(path):
    with h5py.File(path, "r+") as file:
        del file.attrs["model_config"]
    with pytest.raises(ArtifactError, match="holds no network, only arrays"):
        check_h5(path)


def test_what_is_no_file_is_refused(tmp_path):
    import os

    os.mkfifo(tmp_path / "pipe")  # opening it would wait for ever
    for path, kind in ((tmp_path, "a folder"), (tmp_path / "pipe", "no plain file"), (tmp_path / "no", "not there")):
        with pytest.raises(ArtifactError, match=f"should be an HDF5 file, but is {kind}"):
            check_h5(path)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_file_passes_or_is_refused(path, data):
    content = bytearray(path.read_bytes())
    damaged = path.with_name("damaged.h5")
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(8, len(content) - 1))] = data.draw(st.integers(0, 255))
    damaged.write_bytes(content[: data.draw(st.integers(8, len(content)))] if data.draw(st.booleans()) else content)
    try:
        check_h5(damaged)
    except ArtifactError as error:
        assert "\n" not in str(error)
