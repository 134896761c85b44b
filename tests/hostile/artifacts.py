"""Hostile artifacts: manifests that lie or lead elsewhere, and samples that are no numbers."""

import io
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from bmp.artifact.manifest import MANIFEST_FILE
from bmp.artifact.samples import SAMPLES_FILE
from tests.hostile.artifact import Document, lay_out, seal
from tests.hostile.case import Cases, Place

CASES, SAMPLES = Cases("artifact"), Cases("samples")


def _make(place: Place, edit: Callable[[Document], Any]) -> Path:
    return seal(lay_out(place.inside / "artifact"), edit)


def _make_files(place: Place, change: Callable[[Path], Any]) -> Path:
    """Makes one whose manifest is sound, and whose files are changed afterwards."""
    directory = seal(lay_out(place.inside / "artifact"))
    change(directory)
    return directory


def _list_as(document: Document, name: str, like: str = "model.tflite") -> None:
    document["files"][name] = document["files"][like]


# === Manifests ===


@CASES.spoil(_make)
def a_file_above_the_artifact(document: Document, place: Place) -> None:
    _list_as(document, "../../outside/secret.txt")


@CASES.spoil(_make)
def a_file_with_a_path_of_its_own(document: Document, place: Place) -> None:
    _list_as(document, str(place.secret))


@CASES.spoil(_make)
def the_model_is_a_file_above(document: Document, place: Place) -> None:
    document["variants"][0]["file"] = "../../outside/secret.tflite"
    _list_as(document, "../../outside/secret.tflite")


@CASES.spoil(_make)
def a_file_of_another_digest(document: Document, place: Place) -> None:
    document["files"]["model.tflite"]["sha256"] = "0" * 64


@CASES.spoil(_make)
def a_file_that_is_not_there(document: Document, place: Place) -> None:
    _list_as(document, "gone.bin")


@CASES.spoil(_make)
def a_file_without_a_name(document: Document, place: Place) -> None:
    _list_as(document, "")


@CASES.spoil(_make)
def a_name_with_a_zero_in_it(document: Document, place: Place) -> None:
    _list_as(document, "model\0.tflite")


@CASES.spoil(_make)
def a_name_of_four_thousand_letters(document: Document, place: Place) -> None:
    _list_as(document, "a" * 4096)


@CASES.spoil(_make)
def half_a_letter_in_a_name(document: Document, place: Place) -> None:
    _list_as(document, "\ud800")


@CASES.spoil(_make)
def brackets(document: Document, place: Place) -> bytes:
    return b'{"schema_version": 1, "name": ' + b"[" * 200_000


@CASES.spoil(_make)
def a_number_of_ten_thousand_digits(document: Document, place: Place) -> bytes:
    return b'{"schema_version": ' + b"9" * 10_000 + b"}"


@CASES.spoil(_make)
def a_manifest_that_is_no_text(document: Document, place: Place) -> bytes:
    return b"\x80\x04\x95" + bytes(range(256))


@CASES.spoil(_make)
def a_schema_to_come(document: Document, place: Place) -> None:
    document["schema_version"] = 99


@CASES.spoil(_make)
def a_variant_that_there_is_not(document: Document, place: Place) -> None:
    document["recommended"] = "../float32"


@CASES.spoil(_make)
def a_model_without_a_file(document: Document, place: Place) -> None:
    document["variants"][0]["file"] = None


@CASES.spoil(_make)
def a_model_that_is_a_pickle(document: Document, place: Place) -> None:
    document["variants"][0]["file"] = "bmp/recipe.yaml"


@CASES.spoil(_make)
def tensors_of_objects(document: Document, place: Place) -> None:
    document["signature"]["inputs"][0]["dtype"] = "object"


@CASES.spoil(_make)
def tensors_that_fill_the_memory(document: Document, place: Place) -> None:
    document["signature"]["inputs"][0]["shape"] = [2**40, 2**20]


@CASES.spoil(_make)
def a_tensor_of_a_hundred_thousand_dimensions(document: Document, place: Place) -> None:
    document["signature"]["inputs"][0]["shape"] = [1] * 100_000


@CASES.spoil(_make)
def a_transform_that_there_is_not(document: Document, place: Place) -> None:
    document["preprocessing"] = {"fields": [], "steps": [{"kind": "eval", "code": f"open({str(place.canary)!r}, 'w')"}]}


@CASES.spoil(_make)
def transforms_that_are_a_number(document: Document, place: Place) -> None:
    document["preprocessing"] = {"fields": 7, "steps": {"a": 1}}


# === Files ===


@CASES.spoil(_make_files)
def a_file_that_is_a_link(directory: Path, place: Place) -> None:
    (directory / "model.h5").unlink()
    (directory / "model.h5").symlink_to(place.secret)


@CASES.spoil(_make_files)
def a_directory_that_is_a_link(directory: Path, place: Place) -> None:
    (directory / "more").symlink_to(place.outside)


@CASES.spoil(_make_files)
def a_manifest_that_is_a_link(directory: Path, place: Place) -> None:
    (directory / MANIFEST_FILE).rename(place.outside / "manifest.json")
    (directory / MANIFEST_FILE).symlink_to(place.outside / "manifest.json")


@CASES.spoil(_make_files)
def a_file_that_is_a_pipe(directory: Path, place: Place) -> None:
    (directory / "model.h5").unlink()
    os.mkfifo(directory / "model.h5")


@CASES.spoil(_make_files)
def a_manifest_that_is_a_pipe(directory: Path, place: Place) -> None:
    (directory / MANIFEST_FILE).unlink()
    os.mkfifo(directory / MANIFEST_FILE)


@CASES.spoil(_make_files)
def a_manifest_that_is_a_directory(directory: Path, place: Place) -> None:
    (directory / MANIFEST_FILE).unlink()
    (directory / MANIFEST_FILE).mkdir()


@CASES.spoil(_make_files)
def a_file_that_is_not_listed(directory: Path, place: Place) -> None:
    (directory / "bmp" / "sitecustomize.py").write_text(f"open({str(place.canary)!r}, 'w')")


# === Samples ===


def _make_samples(place: Place, write: Callable[[Path], Any]) -> Path:
    """Makes an artifact whose manifest is sound, and describes hostile samples to the byte."""
    directory = lay_out(place.inside / "artifact")
    (directory / SAMPLES_FILE).unlink()
    write(directory / SAMPLES_FILE)
    return seal(directory)


def _write_member(path: Path, header: str, numbers: bytes = bytes(128), name: str = "input.x.npy") -> None:
    text = header.encode().ljust(118) + b"\n"
    content = b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + numbers
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)


@SAMPLES.spoil(_make_samples)
def pickled_samples(path: Path, place: Place) -> None:
    np.savez(path, **{"input.x": np.array([place.payload] * 8, object)})


@SAMPLES.spoil(_make_samples)
def samples_that_are_one_pickle(path: Path, place: Place) -> None:
    np.save(path.with_suffix(".npy"), np.array([place.payload], object))
    path.with_suffix(".npy").rename(path)


@SAMPLES.spoil(_make_samples)
def a_header_that_is_code(path: Path, place: Place) -> None:
    _write_member(path, f"__import__('pathlib').Path({str(place.canary)!r}).touch()")


@SAMPLES.spoil(_make_samples)
def a_header_that_asks_for_the_memory(path: Path, place: Place) -> None:
    _write_member(path, "{'descr': '<f4', 'fortran_order': False, 'shape': (1099511627776, 4), }")


@SAMPLES.spoil(_make_samples)
def a_header_with_a_size_below_zero(path: Path, place: Place) -> None:
    _write_member(path, "{'descr': '<f4', 'fortran_order': False, 'shape': (-8, -4), }")


@SAMPLES.spoil(_make_samples)
def a_header_of_brackets(path: Path, place: Place) -> None:
    _write_member(path, "(" * 5_000)


@SAMPLES.spoil(_make_samples)
def letters_of_a_gigabyte(path: Path, place: Place) -> None:
    _write_member(path, "{'descr': '<U268435456', 'fortran_order': False, 'shape': (8, 4), }")


@SAMPLES.spoil(_make_samples)
def zeros_that_fill_the_memory(path: Path, place: Place) -> None:
    numbers = io.BytesIO()
    np.save(numbers, np.zeros((2**24, 4), np.float32))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("input.x.npy", numbers.getvalue())


@SAMPLES.spoil(_make_samples)
def samples_that_are_no_archive(path: Path, place: Place) -> None:
    path.write_bytes(b"PK\x03\x04" + bytes(300))


@SAMPLES.spoil(_make_samples)
def samples_of_other_inputs(path: Path, place: Place) -> None:
    np.savez(path, **{"input.../../evil": np.zeros((8, 4), np.float32)})  # type: ignore[arg-type]


@SAMPLES.spoil(_make_samples)
def samples_of_another_shape(path: Path, place: Place) -> None:
    np.savez(path, **{"input.x": np.zeros((8, 4_000), np.float32)})  # type: ignore[arg-type]


@SAMPLES.spoil(_make_samples)
def no_samples_at_all(path: Path, place: Place) -> None:
    np.savez(path)
