"""Hostile registries: journals that lie or are none, and links where directories should be.

Each is a registry with the model `model`, which was sound before.
"""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bmp.registry import Registry
from bmp.registry.journal import append_event
from tests.hostile.artifact import lay_out, seal
from tests.hostile.case import Cases, Place

CASES = Cases("journal")


def make_registry(place: Place) -> Path:
    """Publishes one version, and sets an alias."""
    registry = Registry(place.inside / "registry")
    registry.publish(seal(lay_out(place.inside / "artifact")), "model")
    registry.set_alias("model", "production", 1)
    return registry.root


def _make(place: Place, change: Callable[[Path], Any]) -> Path:
    root = make_registry(place)
    change(root / "model")
    return root


def _move_out(path: Path, place: Place) -> None:
    """Puts a link in the place of a file or directory that goes outside."""
    target = place.outside / path.name
    shutil.move(path, target)
    path.symlink_to(target)


@CASES.spoil(_make)
def a_line_that_was_altered(model: Path, place: Place) -> None:
    journal = model / "journal.jsonl"
    journal.write_bytes(journal.read_bytes().replace(b'"version":1', b'"version":2'))


@CASES.spoil(_make)
def a_line_that_was_removed(model: Path, place: Place) -> None:
    journal = model / "journal.jsonl"
    journal.write_bytes(b"".join(journal.read_bytes().splitlines(keepends=True)[1:]))


@CASES.spoil(_make)
def lines_in_another_order(model: Path, place: Place) -> None:
    journal = model / "journal.jsonl"
    journal.write_bytes(b"".join(reversed(journal.read_bytes().splitlines(keepends=True))))


@CASES.spoil(_make)
def a_line_of_brackets(model: Path, place: Place) -> None:
    (model / "journal.jsonl").write_bytes(b"[" * 200_000 + b"\n")


@CASES.spoil(_make)
def a_line_of_digits(model: Path, place: Place) -> None:
    (model / "journal.jsonl").write_bytes(b'{"sequence":' + b"9" * 20_000 + b"}\n")


@CASES.spoil(_make)
def a_line_that_is_no_text(model: Path, place: Place) -> None:
    (model / "journal.jsonl").write_bytes(bytes(range(256)) * 50 + b"\n")


@CASES.spoil(_make)
def an_event_of_no_kind(model: Path, place: Place) -> None:
    append_event(model / "journal.jsonl", "exec", code=f"open({str(place.canary)!r}, 'w')")


@CASES.spoil(_make)
def a_version_that_is_a_path(model: Path, place: Place) -> None:
    append_event(model / "journal.jsonl", "publish", version="../../outside")


@CASES.spoil(_make)
def a_version_below_one(model: Path, place: Place) -> None:
    append_event(model / "journal.jsonl", "publish", version=-1)


@CASES.spoil(_make)
def a_version_of_another_manifest(model: Path, place: Place) -> None:
    shutil.copytree(model / "1", model / "2")
    append_event(model / "journal.jsonl", "publish", version=2, manifest_sha256="0" * 64)
    append_event(model / "journal.jsonl", "alias", alias="production", version=2, previous=1)


@CASES.spoil(_make)
def a_journal_that_is_a_link(model: Path, place: Place) -> None:
    _move_out(model / "journal.jsonl", place)


@CASES.spoil(_make)
def a_journal_that_is_a_pipe(model: Path, place: Place) -> None:
    (model / "journal.jsonl").unlink()
    os.mkfifo(model / "journal.jsonl")


@CASES.spoil(_make)
def a_journal_that_is_a_directory(model: Path, place: Place) -> None:
    (model / "journal.jsonl").unlink()
    (model / "journal.jsonl").mkdir()


@CASES.spoil(_make)
def a_model_that_is_a_link(model: Path, place: Place) -> None:
    _move_out(model, place)


@CASES.spoil(_make)
def a_version_that_is_a_link(model: Path, place: Place) -> None:
    _move_out(model / "1", place)


@CASES.spoil(_make)
def a_file_that_is_a_link(model: Path, place: Place) -> None:
    _move_out(model / "1" / "model.tflite", place)


@CASES.spoil(_make)
def a_manifest_that_is_a_link(model: Path, place: Place) -> None:
    _move_out(model / "1" / "bmp" / "manifest.json", place)


@CASES.spoil(_make)
def a_directory_of_a_version_that_is_a_link(model: Path, place: Place) -> None:
    _move_out(model / "1" / "bmp", place)


@CASES.spoil(_make)
def another_manifest_than_was_published(model: Path, place: Place) -> None:
    path = model / "1" / "bmp" / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_bytes()) | {"name": "other"}))


@CASES.spoil(_make)
def another_model_than_was_published(model: Path, place: Place) -> None:
    path = model / "1" / "model.tflite"
    path.write_bytes(path.read_bytes().replace(b"by hand", b"by mind"))
