"""What one request wants of a model, and what it got."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from bmp.errors import DeadlineError
from bmp.signature import Arrays
from serving.deadline import too_late


@dataclass(slots=True, eq=False)
class Work:
    """One request to a model; whoever runs it fills in `outputs` or `error`.

    Args:
        inputs: `(B, *shape)` by input name, as `LoadedModel.check` accepts them.
        deadline: By `time.monotonic()`: after it the answer is of no use, and is not begun; None for whenever.
        is_cancelled: Tells whether nobody waits for the answer any more; it is not begun then.
        outputs: `(B, *shape)` by output name.
        error: In place of outputs. A BmpError, as a request alone would have got it; anything else is a bug.
        waited_s: From when it was made until it ran.
    """

    inputs: Arrays
    deadline: float | None = None
    is_cancelled: Callable[[], bool] | None = None
    outputs: Arrays | None = None
    error: Exception | None = None
    waited_s: float = 0.0
    count: int = field(init=False)
    """How many examples it has."""
    _made: float = field(init=False)

    def __post_init__(self) -> None:
        self.count = len(next(iter(self.inputs.values())))
        self._made = time.monotonic()

    @property
    def is_done(self) -> bool:
        """Whether there are outputs, or an error."""
        return self.outputs is not None or self.error is not None

    def begin(self, now: float) -> bool:
        """Tells whether it is to be run still; where it came too late, the error says so.

        Args:
            now: By `time.monotonic()`.
        """
        self.waited_s = now - self._made
        if self.deadline is not None and now >= self.deadline:
            self.error = too_late()
        elif self.is_cancelled is not None and self.is_cancelled():
            self.error = DeadlineError("Whoever asked is gone; the request was dropped before it ran.")
        return self.error is None

    def result(self) -> Arrays:
        """Returns the outputs.

        Raises:
            Exception: The error, where there are none.
        """
        if self.error is not None:
            raise self.error
        if self.outputs is None:
            raise RuntimeError("the run was cut off before it gave an answer")
        return self.outputs
