"""The LiteRT engine: runners that requests borrow, warmed before the first one."""

from collections import deque
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np

from bmp.artifact.litert import MAX_PLANS, LiteRTRunner
from bmp.signature import Arrays, Signature

_KEPT_BYTES = 128 * 2**20  # of weights, which LiteRT copies for each batch size that it is set up for


class LiteRTEngine:
    """Runs one `.tflite` file for any number of threads.

    A runner serves one thread at a time, so each call borrows one; a new one is made only when all are lent.

    Args:
        path: The file.
        signature: What it takes and returns.
        threads: Threads one call may use.

    Raises:
        ArtifactError: The file cannot be run, or is not of this signature.
    """

    def __init__(self, path: Path, signature: Signature, *, threads: int = 1) -> None:
        self._bytes = path.read_bytes()
        self._signature = signature
        self._threads = threads
        self._idle = deque([self._make_runner()])

    @property
    def max_sizes(self) -> int:
        """How many batch sizes each runner is kept set up for."""
        return min(max(_KEPT_BYTES // len(self._bytes), 2), MAX_PLANS)

    def warm_up(self, inputs: Arrays) -> None:
        """Runs examples one by one and all together, so that the first request pays for no set-up."""
        self.run({name: array[:1] for name, array in inputs.items()})
        self.run(inputs)

    def run(self, inputs: Mapping[str, np.ndarray]) -> Arrays:
        """Runs one batch: `(B, *shape)` by input name in, `(B, *shape)` by output name out."""
        try:
            runner = self._idle.pop()  # atomic: no lock needed
        except IndexError:
            runner = self._make_runner()
        try:
            return runner.run(inputs)
        finally:
            self._idle.append(runner)

    def keep(self, sizes: Collection[int]) -> None:
        """Lets go of what is set up for other batch sizes than these, in runners that are not lent."""
        for runner in tuple(self._idle):
            runner.keep(sizes)

    def _make_runner(self) -> LiteRTRunner:
        return LiteRTRunner(self._bytes, self._signature, threads=self._threads)
