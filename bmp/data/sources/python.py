"""Examples from a function of the user's own."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from bmp.data.source import Source
from bmp.data.sources.arrays import to_source
from bmp.data.sources.target import TargetKind
from bmp.errors import DataError
from bmp.plugins import load_function, name_the_line


def load_python(
    *,
    function: str,
    args: dict[str, Any] = {},  # noqa: B006  (never changed)
    labels: list[str] = [],  # noqa: B006
    vocabulary: dict[str, int] = {},  # noqa: B006
    texts: list[str] = [],  # noqa: B006
    target_kind: TargetKind = "auto",
) -> Source:
    """Calls a function that returns a `Source`, or `(inputs, targets)`.

    Args:
        function: `file.py:function`, the path as seen from the current directory.
        args: What it is called with, by name.
        labels: Names of the classes 0, 1, …, where it returns their indices.
        vocabulary: For inputs of whole numbers that stand for something: how many there are.
        texts: Names of the inputs that are running texts; other texts are categories.
        target_kind: What the targets are, where their values do not say.

    Inputs are an array `(N, …)`, then called `features`, or several by name; targets an array `(N,)` or `(N, width)`.

    Raises:
        ConfigError: There is no such file or function.
        DataError: It fails, which is told with its line, or returns something else.
    """
    build = load_function(function)
    with name_the_line(function, DataError):
        result = build(**args)
    if isinstance(result, Source):
        return result
    if not (isinstance(result, tuple) and len(result) == 2):
        raise DataError(
            f"{function} returned {type(result).__name__}; expected a Source, or (inputs, targets).",
            expected="a Source, or (inputs, targets)",
            received=type(result).__name__,
        )
    inputs, targets = result
    named = inputs if isinstance(inputs, Mapping) else {"features": inputs}
    arrays = {str(name): np.asanyarray(array) for name, array in named.items()}
    return to_source(
        arrays,
        np.asanyarray(targets),
        labels=labels,
        vocabulary=vocabulary,
        texts=texts,
        target_kind=target_kind,
        given={},
        where=f"{function}, example {{}}".format,
    )
