import zipfile

import numpy as np
import pytest

from bmp.artifact.samples import SAMPLES_FILE, Samples, read_samples, write_samples
from bmp.errors import ArtifactError, UnsafeError

SAMPLES = Samples(
    {"image": np.random.default_rng(0).normal(size=(4, 8, 8)).astype(np.float32), "input.mask": np.ones(4, np.uint8)},
    {"probabilities": np.full((4, 10), 0.1, np.float32), "output.x": np.zeros((4, 1))},
    np.array([3, 1, 4, 1]),
    {"image": np.arange(4.0)},
)


def test_come_back_bit_by_bit_with_their_names(tmp_path):
    write_samples(SAMPLES, tmp_path)
    read = read_samples(tmp_path)
    for mine, theirs in ((read.inputs, SAMPLES.inputs), (read.outputs, SAMPLES.outputs), (read.raw, SAMPLES.raw)):
        assert set(mine) == set(theirs)
        for name, array in theirs.items():
            assert mine[name].dtype == array.dtype
            np.testing.assert_array_equal(mine[name], array)
    np.testing.assert_array_equal(read.targets, SAMPLES.targets)


def test_stand_where_the_artifact_keeps_them(tmp_path):
    write_samples(SAMPLES, tmp_path)
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.npz")] == [SAMPLES_FILE]


def damage(directory, content):
    (directory / SAMPLES_FILE).parent.mkdir(exist_ok=True)
    (directory / SAMPLES_FILE).write_bytes(content)


@pytest.mark.parametrize("content", [None, b"", b"not an archive", b"PK\x03\x04"])
def test_samples_that_are_none_are_refused(tmp_path, content):
    if content is not None:
        damage(tmp_path, content)
    with pytest.raises(ArtifactError, match=r"samples\.npz holds no samples that can be read"):
        read_samples(tmp_path)


@pytest.mark.parametrize("keep", [0.1, 0.5, 0.95])
def test_samples_cut_short_are_refused(tmp_path, keep):
    write_samples(SAMPLES, tmp_path)
    content = (tmp_path / SAMPLES_FILE).read_bytes()
    damage(tmp_path, content[: int(len(content) * keep)])
    with pytest.raises(ArtifactError):
        read_samples(tmp_path)


def test_samples_with_a_flipped_byte_are_refused(tmp_path):
    write_samples(SAMPLES, tmp_path)
    content = bytearray((tmp_path / SAMPLES_FILE).read_bytes())
    content[len(content) // 2] ^= 0xFF
    damage(tmp_path, bytes(content))
    with pytest.raises(ArtifactError):
        read_samples(tmp_path)


def test_what_is_true_need_not_be_known(tmp_path):
    write_samples(Samples(SAMPLES.inputs, SAMPLES.outputs, None), tmp_path)
    read = read_samples(tmp_path)
    assert read.targets is None and set(read.inputs) == set(SAMPLES.inputs)


def test_nothing_is_ever_unpickled(tmp_path):
    (tmp_path / "bmp").mkdir()
    np.savez(tmp_path / SAMPLES_FILE, targets=np.array([{"any": "object"}], dtype=object))
    with pytest.raises(ArtifactError):
        read_samples(tmp_path)


@pytest.mark.parametrize("header", ["(" * 100, "{'descr': '<f4', 'fortran_order': False, 'shape': (1 << 40,)}", "{}"])
def test_samples_whose_header_is_made_up_are_refused(tmp_path, header):
    text = header.encode().ljust(117) + b"\n"
    member = b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text
    (tmp_path / SAMPLES_FILE).parent.mkdir()
    with zipfile.ZipFile(tmp_path / SAMPLES_FILE, "w") as archive:
        archive.writestr("input.x.npy", member)
    with pytest.raises(ArtifactError, match="holds no samples that can be read"):
        read_samples(tmp_path)


def test_samples_that_would_fill_the_memory_are_refused(tmp_path):
    (tmp_path / SAMPLES_FILE).parent.mkdir()
    np.savez_compressed(tmp_path / SAMPLES_FILE, **{"input.x": np.zeros(2**25, np.float32)})
    with pytest.raises(UnsafeError, match="no small file can fill the memory"):
        read_samples(tmp_path)
