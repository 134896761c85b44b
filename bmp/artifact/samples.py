"""Held-out examples with the answers expected for them; numpy only."""

import zlib
from dataclasses import dataclass, field
from pathlib import Path
from tokenize import TokenError
from typing import Any
from zipfile import BadZipFile, ZipFile

import numpy as np

from bmp.artifact.guard.limits import Limits
from bmp.errors import ArtifactError, UnsafeError
from bmp.signature import Arrays

SAMPLES_FILE = "bmp/samples.npz"


@dataclass(frozen=True)
class Samples:
    """A few examples of the test split.

    Args:
        inputs: `(N, *shape)` by input name.
        outputs: Of the recommended variant, `(N, *shape)` by output name.
        targets: What is true, `(N, …)` as `bmp.objectives.Target` says; None where nobody knows.
        raw: `(N, *shape)` by feature, what a client sends, where transforms lead from tensors to the inputs.
    """

    inputs: Arrays
    outputs: Arrays
    targets: np.ndarray | None
    raw: Arrays = field(default_factory=dict)


def write_samples(samples: Samples, directory: Path) -> None:
    """Writes the samples of an artifact; `read_samples` reads them."""
    path = directory / SAMPLES_FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, Any] = {} if samples.targets is None else {"targets": samples.targets}
    arrays |= {f"input.{name}": array for name, array in samples.inputs.items()}
    arrays |= {f"output.{name}": array for name, array in samples.outputs.items()}
    arrays |= {f"raw.{name}": array for name, array in samples.raw.items()}
    np.savez_compressed(path, **arrays)


def read_samples(directory: Path) -> Samples:
    """Reads the samples of an artifact.

    Raises:
        ArtifactError: There are none, or they cannot be read.
        UnsafeError: They would fill the memory.
    """
    path = directory / SAMPLES_FILE
    try:
        _check_growth(path)
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            inputs, outputs, raw = (
                {name.removeprefix(kind): arrays[name] for name in arrays if name.startswith(kind)}
                for kind in ("input.", "output.", "raw.")
            )
            return Samples(inputs, outputs, arrays.get("targets"), raw)
    except UnsafeError:
        raise
    except (
        *(OSError, EOFError, KeyError, ValueError, TypeError, NotImplementedError),
        *(BadZipFile, zlib.error, TokenError, SyntaxError, MemoryError, RecursionError),  # headers that are made up
    ) as error:
        text = " ".join(str(error).split())[:300] or type(error).__name__
        raise ArtifactError(f"{path} holds no samples that can be read: {text}.") from error


def _check_growth(path: Path) -> None:
    """Raises where a small file would become large: whoever serves a version reads its samples."""
    with ZipFile(path) as archive:
        members = archive.infolist()
    unpacked = sum(member.file_size for member in members)
    Limits().check_growth(str(path), path.stat().st_size, unpacked)
