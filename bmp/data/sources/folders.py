"""Folders of files, one example a file: images and sounds."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from bmp.data.source import BadExampleError, Source, Target
from bmp.data.sources.target import sort_labels
from bmp.data.split import SPLITS
from bmp.errors import ConfigError, DataError
from bmp.transforms import Columns, Field, Kind


@dataclass(frozen=True)
class LabelledFile:
    """A file: the split its folder names ("" for none), and its label, or why it has none."""

    path: str
    split: str
    label: str | None
    problem: str | None = None


class FileSource(Source):
    """Examples that are a file each; read when they are asked for.

    Args:
        files: In the order of their numbers.
        name: Of the one feature.
        kind: Of the one feature.

    Raises:
        DataError: No file has a label.
    """

    def __init__(self, files: Sequence[LabelledFile], name: str, kind: Kind) -> None:
        labels = sort_labels(file.label for file in files if file.label is not None)
        if not labels:
            first = next((f" The first, {file.path}: {file.problem}." for file in files), "")
            raise DataError(f"None of the {len(files)} files has a label.{first}")
        self.fields = (Field(name, kind),)
        self.target = Target("class", labels)
        splits = np.array([file.split for file in files])
        self.given = {split: np.flatnonzero(splits == split) for split in SPLITS if (splits == split).any()}
        index = {label: number for number, label in enumerate(labels)}
        self._classes = np.array([-1 if file.label is None else index[file.label] for file in files], np.int64)
        self._problems = {number: file.problem for number, file in enumerate(files) if file.problem is not None}
        self._paths = [file.path for file in files]

    def __len__(self) -> int:
        return len(self._paths)

    def read(self, index: np.ndarray) -> Columns:
        """Returns the bytes of some files, objects `(n,)`."""
        self._check(index)
        column = np.empty(len(index), object)
        for position, number in enumerate(map(int, index)):
            try:
                column[position] = Path(self._paths[number]).read_bytes()
            except OSError as error:
                raise BadExampleError(number, self.where(number), f"it cannot be read ({error.strerror})") from error
        return {self.fields[0].name: column}

    def read_targets(self, index: np.ndarray) -> np.ndarray:
        """Returns the classes of some files."""
        self._check(index)
        return self._classes[index]

    def where(self, number: int) -> str:
        """Returns the path of a file."""
        return self._paths[number]

    def _check(self, index: np.ndarray) -> None:
        if self._problems:
            for number in map(int, index):
                if number in self._problems:
                    raise BadExampleError(number, self.where(number), self._problems[number])


def load_image_folder(*, path: str) -> Source:
    """Reads PNG and JPEG images from a folder a class.

    Args:
        path: `path/class/image.png`, or `path/train/class/image.png` with folders for validation and test as well.
            Classes may have folders within.

    Hidden files and what stands beside the class folders are passed over; any other file that is no PNG or JPEG image
    is a bad example.

    Raises:
        DataError: There is no such folder, or a class without a file.
    """
    return FileSource(find_files(path, (".png", ".jpg", ".jpeg"), "PNG or JPEG image"), "image", "image")


def load_audio_folder(
    *, path: str, label: Literal["folder", "file_name"] = "folder", pattern: str | None = None
) -> Source:
    r"""Reads WAV files whose class is their folder, or stands in their name.

    Args:
        path: `path/class/sound.wav`, or `path/train/class/sound.wav` with folders for validation and test as well;
            without class folders where the name holds the label.
        label: Where the class stands.
        pattern: With `file_name`: a regular expression whose one group is the class, such as `^(\d+)_`.

    Hidden files and what stands beside the class folders are passed over; any other file that is no WAV file, or
    whose name does not fit the pattern, is a bad example.

    Raises:
        ConfigError: The pattern is missing, or no regular expression with one group.
        DataError: There is no such folder, or a class without a file.
    """
    expression = _compile(label, pattern)
    return FileSource(find_files(path, (".wav",), "WAV file", expression), "audio", "audio")


def _compile(label: str, pattern: str | None) -> re.Pattern[str] | None:
    if label == "folder":
        if pattern is not None:
            raise ConfigError("args.pattern is given, but the label is the folder; say label: file_name.")
        return None
    example = "such as '^([0-9]+)_'"
    if pattern is None:
        raise ConfigError(f"With label: file_name, args.pattern says where the label stands, {example}.")
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise ConfigError(
            f"args.pattern is no regular expression ({error}): {pattern!r}; write one {example}."
        ) from error
    if expression.groups != 1:
        raise ConfigError(
            f"args.pattern {pattern!r} has {expression.groups} groups; expected one pair of brackets around the label, "
            f"{example}."
        )
    return expression


def find_files(
    path: str, suffixes: tuple[str, ...], what: str, pattern: re.Pattern[str] | None = None
) -> list[LabelledFile]:
    """Returns the files of a folder in a fixed order.

    Args:
        path: Class folders, or one for each split with class folders in it.
        suffixes: Ends of name, in lower case, that the files may have.
        what: What such a file is, for messages.
        pattern: Where the label stands in the name; None where it is the folder.

    Raises:
        DataError: There is no such folder, or a class folder without a file.
    """
    root = Path(path)
    if not root.is_dir():
        raise DataError(
            f"There is no folder {path}. Name yours with data.args.path.", expected="a folder", received=path
        )
    files: list[LabelledFile] = []
    for split, place in _find_splits(root).items():
        folders: Mapping[str | None, Path] = (
            {folder.name: folder for folder in _list_folders(place)} if pattern is None else {None: place}
        )
        if not folders:
            raise DataError(f"The folder {place} holds no folder; expected one for each class.")
        for label, folder in folders.items():
            found = sorted(_walk(folder, set()))
            if not found:
                raise DataError(f"The folder {folder} holds no {what}; remove it, or put the files of its class in it.")
            files += [_label(file, split, label, suffixes, what, pattern) for file in found]
        if pattern is None:
            loose = sorted(file for file in _list_files(place) if file.lower().endswith(suffixes))
            files += [LabelledFile(file, split, None, "it stands in no class folder") for file in loose]
    return files


def _label(
    file: str, split: str, label: str | None, suffixes: tuple[str, ...], what: str, pattern: re.Pattern[str] | None
) -> LabelledFile:
    if not file.lower().endswith(suffixes):
        return LabelledFile(file, split, None, f"it is no {what} by its name ({', '.join(suffixes)})")
    if pattern is not None:
        match = pattern.search(Path(file).name)
        label = match[1] if match else None
        if not label:
            return LabelledFile(file, split, None, f"its name does not fit the pattern {pattern.pattern!r}")
    return LabelledFile(file, split, label)


def _find_splits(root: Path) -> dict[str, Path]:
    names = {folder.name for folder in _list_folders(root)}
    if "train" not in names:
        return {"": root}
    if strange := names - set(SPLITS):
        raise DataError(
            f"The folder {root} holds 'train' and '{min(strange)}'; expected either class folders, or only train, "
            "validation and test. Rename it."
        )
    return {split: root / split for split in SPLITS if split in names}


def _list_folders(place: Path) -> list[Path]:
    return sorted(entry for entry in place.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def _list_files(place: Path) -> list[str]:
    return [str(entry) for entry in place.iterdir() if entry.is_file() and not entry.name.startswith(".")]


def _walk(folder: Path, above: set[tuple[int, int]]) -> list[str]:
    """Returns the files below a folder; a link back to a folder above is passed over."""
    state = folder.stat()
    if (state.st_dev, state.st_ino) in above:
        return []
    above = above | {(state.st_dev, state.st_ino)}
    found = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                found += _walk(Path(entry.path), above)
            else:
                found.append(entry.path)
    return found
