"""An engine to try batching with: it adds up each row, does what its flaws say, and knows what it was asked."""

import time
from collections.abc import Callable, Collection, Mapping

import numpy as np

from bmp.signature import Arrays, Signature, TensorSpec

SIGNATURE = Signature((TensorSpec("x", "float32", (2,)),), (TensorSpec("y", "float32", (1,)),), "regression")
FREE = Signature((TensorSpec("x", "float32", (None,)),), (TensorSpec("y", "float32", (1,)),), "regression")
SPOILER, BREAKER = -7.0, -8.0


def rows(*numbers: float, width: int = 2) -> Arrays:
    """An example for each number, whose answer it is."""
    return {"x": np.array([[number, *[0] * (width - 1)] for number in numbers], np.float32)}


def eventually(check: Callable[[], object], within_s: float = 20) -> None:
    """Waits until something is so."""
    deadline = time.monotonic() + within_s
    while not check():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.001)


class LinearEngine:
    """Answers each row with its sum.

    SPOILER in a row makes the answers of the whole batch NaN, BREAKER breaks the run: so a request with one of them
    has to fail, and none of its neighbours may.
    """

    def __init__(self, max_sizes: int | None = None, on_run: Callable[[int], None] = lambda size: None) -> None:
        self.max_sizes = max_sizes
        self.asked: list[int] = []
        self.kept: Collection[int] = ()
        self._on_run = on_run

    def warm_up(self, inputs: Arrays) -> None:
        self.run(inputs)

    def run(self, inputs: Mapping[str, np.ndarray]) -> Arrays:
        x = inputs["x"]
        self.asked.append(len(x))
        self._on_run(len(x))
        if (x == BREAKER).any():
            raise RuntimeError("broken")
        return {"y": x.sum(axis=1, keepdims=True) + (np.nan if (x == SPOILER).any() else 0)}

    def keep(self, sizes: Collection[int]) -> None:
        self.kept = sizes
