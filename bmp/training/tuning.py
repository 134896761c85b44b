"""How fast steps go: XLA or not, and how many steps in one call, chosen by timing the training itself."""

import time
from collections.abc import Callable, Generator, Sequence
from typing import Any, Literal

import numpy as np
import tensorflow as tf
import tf_keras as keras
from tf_keras.src.layers.convolutional.base_conv import Conv

from bmp.training.observer import Observer
from bmp.training.step import Step

_CALL_S = 0.1
"""Longest that one call should last: checkpoints, progress and requests to stop wait for its end."""
_MOST_STEPS = 128
_GAIN = 1.03
"""XLA is kept only where it is that much faster: what is left is noise."""
_XLA_GAIN = 0.3
"""Share of the time that XLA may save: 0.1 to 0.6 of dense layers, Transformers and LSTMs, measured on two cores."""
_XLA_GAIN_OF_CONVOLUTIONS = 0.02
"""On CPUs XLA computes them at half the speed of oneDNN; where it is tried all the same, that costs no more."""
_XLA_COST = 1.5
"""What XLA takes to compile a step, in times of what TensorFlow takes to build it: 0.5 to 1.6, measured; that again
for a batch of another size."""
_TURNS = 5
"""Calls of each of two choices that are compared."""
_CALLS_OF_ONE_STEP = 4
"""In a turn, against one call of many steps."""
_TOO_SLOW = 1.5
"""What takes so much longer after two turns is not timed any further."""

Choice = tuple[bool, int]
"""Whether XLA compiles the step, and steps a call."""

Search = Generator[int, list[float], None]
"""Yields how many calls to time, and is sent the seconds a step in each."""


class Tuner(Observer):
    """Chooses while the training runs: every step that is timed is a step done.

    Args:
        step: Whose train function is chosen.
        jit: `auto`, or the choice.
        steps_per_execution: `auto`, or the choice.
        total_steps: Of the training, from where it starts.
        last_differs: Whether the last batch of an epoch is smaller, for which XLA compiles again.
        say: Takes the sentence for the log.
        xla_gain: Share of the time that XLA may save, of this model.
    """

    def __init__(
        self,
        step: Step,
        *,
        jit: Literal["auto"] | bool,
        steps_per_execution: Literal["auto"] | int,
        total_steps: int,
        last_differs: bool,
        say: Callable[[str], None],
        xla_gain: float = _XLA_GAIN,
    ) -> None:
        super().__init__()
        self._step = step
        self._xla_gain = xla_gain
        self._auto_jit, self._auto_times = jit == "auto", steps_per_execution == "auto"
        self.jit = jit is True
        self.times = 1 if steps_per_execution == "auto" else int(steps_per_execution)
        self._left = total_steps
        self._last_differs = last_differs
        self._say = say
        self._functions: dict[bool, Any] = {}
        self._obstacle: str | None = None
        self._search: Search | None = None
        self._wanted, self._samples = 0, list[float]()
        self._started_s, self._before = 0.0, -1

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Sets the first choice, and begins to look for a better one where something is left to choose."""
        self._step.calls = "loop" if self._auto_times or self.times > 1 else "single"
        self._use(self.jit, self.times)
        if self._auto_jit or self._auto_times:
            self._search = self._look()
            self._wanted = next(self._search)

    @property
    def is_searching(self) -> bool:
        """Whether the choice is still open."""
        return self._search is not None

    def get_state(self) -> dict[str, Any]:
        """Returns the choice, once it is made."""
        return {} if self.is_searching else {"jit": self.jit, "times": self.times}

    def set_state(self, state: dict[str, Any]) -> None:
        """Takes the choice of an earlier attempt: what it found out need not be found out again."""
        if state:
            self.jit, self.times = bool(state["jit"]), int(state["times"])
            self._auto_jit = self._auto_times = False

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Steps are counted from 0 again."""
        self._before = -1

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Starts the clock."""
        self._before = batch - 1
        self._started_s = time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Takes a sample, and goes on with the search when there are enough."""
        steps = batch - self._before
        self._left -= steps
        if self._search is None or steps * 2 <= self.times:  # the rest of an epoch is no sample
            return
        self._step.bad_step()  # a result: a GPU has only been told what to do when the call returns
        self._samples.append((time.perf_counter() - self._started_s) / steps)
        if len(self._samples) < self._wanted:
            return
        samples, self._samples = self._samples, []
        try:
            self._wanted = self._search.send(samples)
        except StopIteration:
            self._search = None

    def _look(self) -> Search:
        (build_s,) = self._agree((yield 1))
        (plain_s,) = self._agree((yield 12))
        best_s, words = plain_s, [f"{plain_s * 1e3:.3g} ms a step"]
        if self._auto_times:
            times = self._fit_into_epoch(min(_MOST_STEPS, int(_CALL_S / plain_s)))
            if times > 1:
                best_s = yield from self._try(self.jit, times, best_s, words, f"{times} steps a call", 1.0)
        if self._auto_jit:
            compile_s = build_s * _XLA_COST * (2 if self._last_differs else 1)
            if self._left * best_s * self._xla_gain > compile_s:
                yield from self._try(True, self.times, best_s, words, "with XLA", _GAIN)
            else:
                words.append("XLA would take longer to compile than it could save")
        self._say(f"pace: {'; '.join(words)}")

    def _fit_into_epoch(self, times: int) -> int:
        """Returns as many steps a call or a few less, so that the calls of an epoch are about alike."""
        steps = getattr(self, "params", {}).get("steps")
        if not steps or times < 1:
            return times
        return -(-steps // -(-steps // times))

    def _try(
        self, jit: bool, times: int, best_s: float, words: list[str], name: str, gain: float
    ) -> Generator[int, Any, float]:
        """Measures a choice against the best so far, keeps the faster, and returns its seconds a step."""
        before = self.jit, self.times
        if jit and not self.jit:
            self._use_once(self._try_with_xla)
            yield 1
            if self._obstacle is not None:
                words.append(f"XLA cannot compile it: {self._obstacle}")
                self._use(*before)
                return best_s
        self._use(jit, times)
        yield 1  # which may build it
        best_s, found_s = yield from self._take_turns(before, (jit, times))
        keeps = found_s * gain < best_s
        words.append(f"{name} {found_s * 1e3:.3g} against {best_s * 1e3:.3g} ms{'' if keeps else ', not kept'}")
        if not keeps:
            self._use(*before)
        return found_s if keeps else best_s

    def _take_turns(self, one: Choice, other: Choice) -> Generator[int, Any, tuple[float, float]]:
        """Returns the seconds a step of two choices, measured in turns: a machine that others use slows both."""
        samples: dict[Choice, list[float]] = {one: [], other: []}
        for turn in range(_TURNS):
            for choice in (one, other):
                self._use(*choice)
                samples[choice] += yield (_CALLS_OF_ONE_STEP if choice[1] == 1 < other[1] else 1)
            if turn == 1:  # the best of each: a batch of another size may have been compiled in one
                (one_s,), (other_s,) = self._agree([min(samples[one])]), self._agree([min(samples[other])])
                if other_s > one_s * _TOO_SLOW:
                    return one_s, other_s
        return (*self._agree(samples[one]), *self._agree(samples[other]))

    def _try_with_xla(self, iterator: Any) -> Any:
        results, self._obstacle = self._step.try_with_xla(iterator)
        return results

    def _use_once(self, function: Callable[[Any], Any]) -> None:
        """Lets `fit` call a function of one step next."""
        self.times = 1
        self.model.train_function = function
        self.model.steps_per_execution = 1

    def _use(self, jit: bool, times: int) -> None:
        self.jit, self.times = jit, times
        if jit not in self._functions:
            self._functions[jit] = self._step.make_train_function(jit=jit)
        self.model.train_function = self._functions[jit]
        self.model.steps_per_execution = times

    def _agree(self, samples: list[float]) -> tuple[float]:
        """Returns the median; of several workers, the mean of theirs: all have to choose alike."""
        median = float(np.median(samples))
        strategy = self._step.strategy
        if not getattr(strategy.extended, "_in_multi_worker_mode", lambda: False)():
            return (median,)

        def mean() -> Any:  # the value is made inside, on the device of the replica: outside it has none
            context = tf.distribute.get_replica_context()
            return context.all_reduce(tf.distribute.ReduceOp.MEAN, tf.constant(median, tf.float64))

        means = tf.function(lambda: strategy.run(mean))()
        return (float(strategy.experimental_local_results(means)[0]),)


def guess_xla_gain(model: keras.Model, devices: Sequence[str]) -> float:
    """Returns the share of the time of a step that XLA may save.

    Args:
        model: Built.
        devices: That compute, as TensorFlow names them.
    """
    has_convolutions = any(isinstance(layer, Conv) for layer in model._flatten_layers())
    is_on_cpu = all("CPU" in device.upper() for device in devices)
    return _XLA_GAIN_OF_CONVOLUTIONS if has_convolutions and is_on_cpu else _XLA_GAIN
