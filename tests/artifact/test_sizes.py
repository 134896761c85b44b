import gzip

import numpy as np
import pytest

from bmp.artifact.sizes import count_bits, measure_sizes

RANDOM = np.random.default_rng(0)


def test_random_weights_need_all_their_bits():
    assert count_bits(RANDOM.normal(size=(100, 50)).astype(np.float32)) == 100 * 50 * 32
    assert count_bits(RANDOM.normal(size=(100, 50)).astype(np.float16)) <= 100 * 50 * 16


def test_zeros_cost_a_bit_each():
    kernel = RANDOM.normal(size=(100, 100)).astype(np.float32)
    kernel[:, 10:] = 0
    bitmap = 100 * 100 + 1000 * 32
    assert count_bits(kernel) <= bitmap
    assert count_bits(kernel) > 1000 * 32


def test_shared_values_cost_an_index_each():
    kernel = RANDOM.integers(0, 16, (200, 50)).astype(np.float32)
    codebook = 200 * 50 * 4 + 16 * 32
    assert codebook * 0.95 < count_bits(kernel) <= codebook


def test_shared_values_of_which_one_is_frequent_cost_less_than_an_index():
    kernel = np.where(RANDOM.random((200, 50)) < 0.9, 0, RANDOM.integers(1, 16, (200, 50))).astype(np.int8)
    shares = np.unique(kernel, return_counts=True)[1] / kernel.size
    entropy = -(shares * np.log2(shares)).sum()
    assert count_bits(kernel) == pytest.approx(kernel.size * entropy + 16 * (8 + 16))
    assert count_bits(kernel) < kernel.size * 4 / 3


@pytest.mark.parametrize("kernel", [np.zeros((9, 9), np.int8), np.full((9, 9), 3, np.float32)])
def test_a_constant_costs_next_to_nothing(kernel):
    assert count_bits(kernel) <= kernel.dtype.itemsize * 8 + 16


def test_an_empty_kernel_costs_nothing():
    assert count_bits(np.zeros((0, 4), np.float32)) == 0


def test_several_files_are_counted_together_without_bits(tmp_path):
    files = [tmp_path / name for name in ("saved_model.pb", "variables.data")]
    for number, file in enumerate(files):
        file.write_bytes(bytes([number]) * 1000)
    sizes = measure_sizes(files)
    assert (sizes.raw_bytes, sizes.bits_bytes) == (2000, None)
    assert sizes.gzip_bytes == len(gzip.compress(files[0].read_bytes() + files[1].read_bytes(), 9, mtime=0))
