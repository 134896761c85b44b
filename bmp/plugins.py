"""Functions of the user's own, named in a recipe as `file.py:function`."""

import importlib.util
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import Any

from bmp.errors import BmpError, ConfigError, suggest

_FORM = "file.py:function"


def load_function(reference: str) -> Callable[..., Any]:
    """Runs a Python file and returns one of its functions.

    The file may import modules that stand beside it.

    Args:
        reference: `file.py:function`, the path as seen from the current directory.

    Raises:
        ConfigError: There is no such file or function, or the file does not run; the message names the line.
    """
    path_text, colon, name = reference.rpartition(":")
    if not colon or not path_text.endswith(".py") or not name.isidentifier():
        raise ConfigError(
            f"'{reference}' names no function of a file; expected {_FORM}.", expected=_FORM, received=reference
        )
    path = Path(path_text)
    if not path.is_file():
        raise ConfigError(f"There is no file {path_text}, which '{reference}' names.", received=path_text)
    functions = {
        key: value for key, value in vars(_run_file(path, reference)).items() if callable(value) and key[:1] != "_"
    }
    if name not in functions:
        raise ConfigError(
            f"{path_text} has no function '{name}'; it has {', '.join(functions) or 'none'}.{suggest(name, functions)}",
            expected=", ".join(functions) or "a function",
            received=name,
        )
    return functions[name]


@contextmanager
def name_the_line(reference: str, kind: type[BmpError]) -> Iterator[None]:
    """Turns an exception of the user's own code into one sentence that names its file and line.

    Args:
        reference: `file.py:function`, or the path of the file alone.
        kind: What is raised in its place.
    """
    try:
        yield
    except BmpError:
        raise
    except Exception as error:
        place = _find_line(error, Path(reference.rpartition(":")[0] or reference))
        raise kind(f"{place}: {type(error).__name__}: {' '.join(str(error).split()) or 'no message'}.") from error


def _run_file(path: Path, reference: str) -> ModuleType:
    module_name = f"bmp_plugin_{path.stem}_{sha256(str(path.resolve()).encode()).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(module_name, path)
    assert spec is not None and spec.loader is not None, f"{path} ends in .py"
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module  # dataclasses and pickling look their module up
    sys.path.insert(0, str(path.resolve().parent))
    try:
        with name_the_line(reference, ConfigError):
            spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[module_name]
        raise
    finally:
        sys.path.remove(str(path.resolve().parent))
    return module


def _find_line(error: Exception, path: Path) -> str:
    """Returns the innermost place of an exception that stands in the file."""
    if isinstance(error, SyntaxError) and error.filename is not None:
        return f"{error.filename}, line {error.lineno}"
    lines = [
        frame.lineno
        for frame in traceback.extract_tb(error.__traceback__)
        if Path(frame.filename).resolve() == path.resolve()
    ]
    return f"{path}, line {lines[-1]}" if lines else str(path)
