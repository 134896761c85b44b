"""Checkpoints on the disk: written aside, synced, read back, renamed; whatever happens, the one before stays.

A checkpoint is a directory `step-…` of two files: `arrays.safetensors`, and `state.json`, which holds the digest of
the first and of itself. No TensorFlow.
"""

import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from queue import Queue
from threading import Thread
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from bmp.errors import CheckpointError, TrainingError
from bmp.storage import sync_directory

_ARRAYS, _STATE = "arrays.safetensors", "state.json"
_NAME = re.compile(r"step-(\d{12})")
_FORMAT = 1
_DTYPES = tuple(np.dtype(letter) for letter in "?bBhHiIqQefdF")


@dataclass(frozen=True)
class Checkpoint:
    """The state of a training between two steps.

    Args:
        step: Steps done, over all epochs of the training.
        state: What fits into JSON: position, history, states of observers.
        arrays: Weights, optimizer, running metrics, by name.
    """

    step: int
    state: Mapping[str, Any]
    arrays: Mapping[str, np.ndarray]


class CheckpointStore:
    """The checkpoints of one stage of a run. One process writes; any may read.

    Args:
        directory: Where they are; made when the first is written.
        keep: How many are kept, the newest.
    """

    def __init__(self, directory: Path, keep: int = 3) -> None:
        self.directory = directory
        self.keep = keep

    def paths(self) -> list[Path]:
        """Returns the checkpoints, newest first, sound or not."""
        if not self.directory.is_dir():
            return []
        return sorted((path for path in self.directory.iterdir() if _NAME.fullmatch(path.name)), reverse=True)

    def write(self, checkpoint: Checkpoint) -> Path:
        """Writes a checkpoint, then removes those that are too many.

        Raises:
            CheckpointError: The disk is full, or cannot be written to; earlier checkpoints are untouched.
            TrainingError: An array is of a dtype that the format does not have.
        """
        target = self.directory / f"step-{checkpoint.step:012d}"
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            self._remove_leftovers()
            aside = self.directory / f".{target.name}-{secrets.token_hex(8)}"
            try:
                _write_files(aside, checkpoint)
                read_checkpoint(aside)  # a disk may take bytes and not keep them
                if target.exists():  # an unsound one, or one of a run that began anew
                    self._put_away(target)
                aside.rename(target)
            except BaseException:
                shutil.rmtree(aside, ignore_errors=True)
                raise
            sync_directory(self.directory)
            for old in self.paths()[self.keep :]:
                self._put_away(old)
        except OSError as error:  # also of one that could not be read back
            raise CheckpointError(
                f"The checkpoint of step {checkpoint.step:,} could not be written to {self.directory}: "
                f"{error.strerror or error}. Earlier checkpoints are intact; make room on the disk and resume the run.",
                expected="room on the disk",
                received=str(error),
            ) from error
        return target

    def read_newest(self) -> tuple[Checkpoint | None, list[str]]:
        """Returns the newest sound checkpoint, and a sentence for each newer one that is not.

        Raises:
            CheckpointError: There are checkpoints, but none is sound.
        """
        problems: list[str] = []
        for path in self.paths():
            try:
                return read_checkpoint(path), problems
            except CheckpointError as error:
                problems.append(error.message)
        if problems:
            raise CheckpointError(
                f"No checkpoint in {self.directory} can be read. {' '.join(problems)} To train from the beginning, "
                "name a new run directory.",
                expected="one sound checkpoint",
            )
        return None, []

    def _put_away(self, path: Path) -> None:
        """Removes a directory so that no half of it is ever seen under its name."""
        away = self.directory / f".gone-{secrets.token_hex(8)}"
        path.rename(away)
        shutil.rmtree(away, ignore_errors=True)

    def _remove_leftovers(self) -> None:
        for path in self.directory.glob(".*"):
            shutil.rmtree(path, ignore_errors=True)


def read_checkpoint(path: Path) -> Checkpoint:
    """Reads what `CheckpointStore.write` wrote.

    Raises:
        CheckpointError: A file is missing, torn or altered; the message names it.
    """
    state = _read_state(path / _STATE)
    data = _read_bytes(path / _ARRAYS)
    if hashlib.sha256(data).hexdigest() != state["arrays"]:
        raise CheckpointError(f"The checkpoint {path} is damaged: {_ARRAYS} is not what was written.")
    try:
        return Checkpoint(state["step"], state["state"], load(data))
    except SafetensorError as error:
        raise CheckpointError(f"The checkpoint {path} is damaged: {_ARRAYS}: {error}.") from error


def _read_state(path: Path) -> dict[str, Any]:
    try:
        head = json.loads(_read_bytes(path))
        sound = head["sha256"] == _digest(head["body"]) and head["body"]["format"] == _FORMAT
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"The checkpoint {path.parent} is damaged: {path.name} is torn or altered.") from error
    if not sound:
        raise CheckpointError(f"The checkpoint {path.parent} is damaged: {path.name} is not what was written.")
    body: dict[str, Any] = head["body"]
    return body


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CheckpointError(
            f"The checkpoint {path.parent} is damaged: {path.name}: {error.strerror or error}."
        ) from error


def _write_files(directory: Path, checkpoint: Checkpoint) -> None:
    directory.mkdir()
    arrays = _pack(checkpoint.arrays)
    body = {
        "format": _FORMAT,
        "step": checkpoint.step,
        "state": checkpoint.state,
        "arrays": hashlib.sha256(arrays).hexdigest(),
    }
    state = json.dumps({"sha256": _digest(body), "body": body}, indent=1).encode()
    for name, data in ((_ARRAYS, arrays), (_STATE, state)):
        with (directory / name).open("xb", buffering=0) as file:
            view = memoryview(data)
            while view:  # one call writes what the system likes to take
                view = view[file.write(view) or 0 :]
            os.fsync(file.fileno())
    sync_directory(directory)


def _pack(arrays: Mapping[str, np.ndarray]) -> bytes:
    for name, array in arrays.items():
        if array.dtype.newbyteorder("=") not in _DTYPES:
            raise TrainingError(
                f"The state of the training cannot be kept: {name} is of dtype {array.dtype}, which a checkpoint does "
                "not have. Give the layer or optimizer that holds it another dtype.",
                expected=", ".join(map(str, _DTYPES)),
                received=str(array.dtype),
            )
    return save({name: np.asarray(array, order="C") for name, array in arrays.items()})


def _digest(body: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


class BackgroundWriter:
    """Writes checkpoints beside the training, one at a time.

    Args:
        store: Where they go.
    """

    def __init__(self, store: CheckpointStore) -> None:
        self._store = store
        self._queue: Queue[Checkpoint | None] = Queue(maxsize=1)
        self._failure: Exception | None = None
        self._thread = Thread(target=self._work, name="checkpoints", daemon=True)
        self._thread.start()

    def submit(self, checkpoint: Checkpoint) -> None:
        """Hands over a checkpoint; waits where two are on their way already.

        Raises:
            CheckpointError: An earlier one could not be written.
            Exception: Whatever else went wrong with it.
        """
        self._raise_failure()
        self._queue.put(checkpoint)

    def close(self) -> None:
        """Waits until everything is written.

        Raises:
            CheckpointError: One could not be written.
            Exception: Whatever else went wrong with it.
        """
        if self._thread.is_alive():
            self._queue.put(None)
            self._thread.join()
        self._raise_failure()

    def _raise_failure(self) -> None:
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure

    def _work(self) -> None:
        while (checkpoint := self._queue.get()) is not None:
            if self._failure is None:
                try:
                    self._store.write(checkpoint)
                except Exception as error:  # a thread that died of it would leave the training waiting for ever
                    self._failure = error
