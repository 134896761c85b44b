"""SavedModel directories, looked through before TensorFlow loads them: files, operations, constants and variables.

TensorFlow's own position is that a graph is a program. So every node of every graph, the function library included,
must be an operation of a table; and what reads and writes files may do so only for the variables, at the path that the
saver is given.
"""

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bmp.artifact.guard.graphs import ASSETS, GraphCheck
from bmp.artifact.guard.limits import Limits, check_file
from bmp.artifact.guard.names import find_fault
from bmp.errors import ArtifactError, UnsafeError

GRAPH_FILE, VARIABLES, EXTRA = "saved_model.pb", "variables", "assets.extra"
_VARIABLES_FILE = re.compile(r"variables\.(index|data-\d{5}-of-\d{5})")
_WARMUP_FILE = "tf_serving_warmup_requests"
DEBUG, _DEBUG_FILE = "debug", "saved_model_debug_info.pb"


def check_saved_model(directory: Path, limits: Limits = Limits()) -> None:  # noqa: B008 - immutable
    """Checks a SavedModel directory: its files, its graphs and its variables. Imports TensorFlow.

    Args:
        directory: With `saved_model.pb` in it. What else lies in it, but for `variables`, `assets` and `assets.extra`,
            is not looked at: TensorFlow does not load it.
        limits: On sizes and counts.

    Raises:
        ArtifactError: It is no whole SavedModel.
        UnsafeError: Loading it could do harm.
    """
    if not directory.is_dir():
        raise ArtifactError(f"{directory} is no SavedModel: it is no folder.", expected=f"a folder with {GRAPH_FILE}")
    _check_files(directory, limits)
    model = _read_graphs(directory / GRAPH_FILE, limits)
    if not model.meta_graphs:
        raise ArtifactError(f"{directory} holds no graph.", expected="a graph", received="none")
    for graph in model.meta_graphs:
        GraphCheck(directory, graph, limits).check()
    _check_variables(directory / VARIABLES, limits)


# --- files ---


def _check_files(directory: Path, limits: Limits) -> None:
    allowed = {
        VARIABLES: _VARIABLES_FILE.fullmatch,
        ASSETS: _is_plain,
        EXTRA: _WARMUP_FILE.__eq__,
        DEBUG: _DEBUG_FILE.__eq__,
    }
    total = 0
    for path in sorted(_list_files(directory, limits)):
        inner = path.relative_to(directory)
        folder = inner.parts[0]
        if path.suffix in (".so", ".dll", ".dylib") or (folder in allowed and not _is_known(inner, allowed[folder])):
            raise UnsafeError(
                f"{directory} is refused: a SavedModel has no file {inner}. It holds {GRAPH_FILE}, {VARIABLES}/, "
                f"{ASSETS}/ and {EXTRA}/{_WARMUP_FILE}.",
                expected="the files that TensorFlow writes",
                received=str(inner),
            )
        total += path.stat().st_size
    if total > limits.size_bytes:
        raise UnsafeError(f"{directory} has {total:,} bytes; up to {limits.size_bytes:,} are read.")


def _is_known(inner: Path, is_name: Any) -> bool:
    return len(inner.parts) == 2 and bool(is_name(inner.name))


def _is_plain(name: str) -> bool:
    """Whether a name is a plain file name."""
    return find_fault(name) is None


def _list_files(directory: Path, limits: Limits) -> Iterator[Path]:
    """Yields the files that TensorFlow may load, and refuses links among them."""
    count = 0
    other = [path.name for path in directory.glob("saved_model.*") if path.name != GRAPH_FILE]
    if other:
        raise UnsafeError(
            f"{directory} is refused: beside {GRAPH_FILE} there is {other[0]}, and one reader takes this one."
        )
    parts = (GRAPH_FILE, "fingerprint.pb", "keras_metadata.pb", VARIABLES, ASSETS, EXTRA, DEBUG)
    for part in (directory / part for part in parts):
        for path in (part, *_walk(part)):
            count += 1
            if count > limits.objects:
                raise UnsafeError(f"{directory} holds more than {limits.objects:,} files.")
            if path.is_symlink():
                raise UnsafeError(f"{directory} is refused: {path.relative_to(directory)} is a link to another place.")
            if path.exists() and not path.is_dir():
                if not stat.S_ISREG(path.stat().st_mode):
                    raise UnsafeError(f"{directory} is refused: {path.relative_to(directory)} is no plain file.")
                yield path


def _walk(folder: Path) -> Iterator[Path]:
    if folder.is_dir() and not folder.is_symlink():
        for place, folders, files in os.walk(folder, followlinks=False):
            yield from (Path(place) / name for name in (*folders, *files))


# --- graphs ---


def _read_graphs(path: Path, limits: Limits) -> Any:
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    size = check_file(path, limits, "the graphs of a SavedModel")
    if size > limits.graph_bytes:
        raise UnsafeError(f"{path} has {size:,} bytes; up to {limits.graph_bytes:,} are read.")
    try:
        return SavedModel.FromString(path.read_bytes())
    except (DecodeError, RecursionError) as error:
        raise ArtifactError(f"{path} is no whole SavedModel: {' '.join(str(error).split())[:200]}.") from error


# --- variables ---


def _check_variables(folder: Path, limits: Limits) -> None:
    import tensorflow as tf

    index = folder / "variables.index"
    if not index.exists():
        return
    if check_file(index, limits, "the index of the variables") > limits.graph_bytes:
        raise UnsafeError(f"{index} is larger than {limits.graph_bytes:,} bytes.")
    try:
        reader = tf.train.load_checkpoint(str(folder / "variables"))
        shapes, dtypes = reader.get_variable_to_shape_map(), reader.get_variable_to_dtype_map()
    except (tf.errors.OpError, ValueError, TypeError, RuntimeError) as error:
        raise ArtifactError(f"{folder} holds no whole variables: {' '.join(str(error).split())[:200]}.") from error
    declared = sum(_count(shape) * max(1, dtypes[name].size) for name, shape in shapes.items())
    stored = sum(path.stat().st_size for path in folder.glob("variables.data-*"))
    if declared > stored:
        raise UnsafeError(
            f"{folder} names variables of {declared:,} bytes, and holds {stored:,}; it is damaged, or made to fill the "
            "memory.",
            expected=f"{declared:,} bytes",
            received=f"{stored:,} bytes",
        )


def _count(shape: list[int]) -> int:
    count = 1
    for size in shape:
        count *= size
    return count
