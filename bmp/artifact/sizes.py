"""How large a variant is: as it is stored, gzipped, and as its bits count; no TensorFlow."""

import gzip
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bmp.artifact.graph import read_graph

_FREQUENCY_BITS = 16


@dataclass(frozen=True)
class Sizes:
    """Three sizes of one variant.

    Args:
        raw_bytes: Of the files.
        gzip_bytes: Of the files together, gzipped.
        bits_bytes: What the kernels need in the best of four codes, and everything else as it is stored; None of what
            is no `.tflite` file. A bound that tells how much there is to save: no engine reads such a file.
    """

    raw_bytes: int
    gzip_bytes: int
    bits_bytes: int | None


def measure_sizes(files: Sequence[Path]) -> Sizes:
    """Returns the sizes of a variant.

    Raises:
        ArtifactError: A `.tflite` file is none.
    """
    packed = b"".join(path.read_bytes() for path in files)
    is_litert = len(files) == 1 and files[0].suffix == ".tflite"
    return Sizes(
        raw_bytes=len(packed),
        gzip_bytes=len(gzip.compress(packed, compresslevel=9, mtime=0)),
        bits_bytes=count_bits_bytes(packed) if is_litert else None,
    )


def count_bits_bytes(content: bytes) -> int:
    """Returns the bytes of a `.tflite` file of which each kernel is written in the shortest code; see `count_bits`."""
    kernels = {kernel.buffer: kernel.data for kernel in read_graph(content).kernels if kernel.data is not None}
    stored = sum(kernel.nbytes for kernel in kernels.values())
    return len(content) - stored + sum(math.ceil(count_bits(kernel) / 8) for kernel in kernels.values())


def count_bits(kernel: np.ndarray) -> float:
    """Returns the bits of the shortest of four codes for the weights of a kernel.

    With n weights of b bits each, z of them not zero, u different values, H the entropy of the values in bits:

        dense      n b
        bitmap     n + z b                    one bit a weight says whether it is zero
        codebook   n ceil(log2 u) + u b       an index for each weight, and the values
        entropy    n H + u (b + 16)           what arithmetic coding needs, and the values with how often each occurs

    The last is what gzip, and Huffman's code of Deep Compression, come close to.

    Args:
        kernel: As stored, of any shape.

    Reference:
        Han, Mao and Dally: Deep Compression, 2016, sections 3 and 4.
    """
    if not kernel.size:
        return 0.0
    bits = kernel.dtype.itemsize * 8
    _, counts = np.unique(kernel, return_counts=True)
    shares = counts / kernel.size
    return min(
        kernel.size * bits,
        kernel.size + int(np.count_nonzero(kernel)) * bits,
        kernel.size * math.ceil(math.log2(len(counts))) + len(counts) * bits,
        float(-(counts * np.log2(shares)).sum()) + len(counts) * (bits + _FREQUENCY_BITS),
    )
