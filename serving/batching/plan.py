"""How many examples of a model go together: decided by what it was measured to take, when it was loaded."""

import logging
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from pathlib import Path

import numpy as np

from bmp.signature import Arrays
from serving.batching.policy import Policy
from serving.engines import Engine

_SIZES = (1, 2, 4, 8, 16, 32, 64)
_SHORT_S, _LONG_S, _PATIENCE = 0.3, 1.0, 50  # measuring may take so many runs of one example, within these bounds
_MIN_REPEATS, _MAX_REPEATS, _REPEATS_S = 2, 10, 0.03  # of a run: as many as take so long, within these bounds
_MAX_GROWTH_BYTES = 64 * 2**20  # of the process, from the smallest batch to the largest
_GAIN, _GAIN_S = 0.2, 2e-6  # of an example: gathering has to save that much, for it costs something itself
_NEAR = 1.1  # of the best: good enough, if it is smaller
_NEAR_SIZES = 1.03  # of the best choice of sizes: good enough, if they are fewer
_CALL_S = 10e-6  # that one more run costs around it
_TOLERANCE = 1e-5
_WAIT_S = 0.25  # of work may wait, by default
_MIN_QUEUE, _MAX_QUEUE = 16, 16_384
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plan:
    """How examples of a model go together.

    Args:
        table: Seconds that one run takes, by how many examples it has; 1 is in it.
        max_together: How many examples of different requests go together at most; 1 where gathering does not pay.
        sizes: Batch sizes that the engine has set up, 1 and `max_together` among them: runs are made of them. Empty
            where any size is as good.
    """

    table: Mapping[int, float]
    max_together: int = 1
    sizes: tuple[int, ...] = ()

    @property
    def gathers(self) -> bool:
        """Whether requests go together."""
        return self.max_together > 1

    def pieces(self, count: int) -> tuple[int, ...]:
        """Returns the batch sizes to run so many examples in; the last one may be larger than what is left."""
        if not self.sizes:
            return (count,)
        whole, rest = divmod(count, self.sizes[-1])
        return (self.sizes[-1],) * whole + self._splits[rest]

    def seconds(self, count: int) -> float:
        """Returns how long so many examples take."""
        if self.sizes:
            return sum(self.table[size] for size in self.pieces(count))
        if count in self.table:
            return self.table[count]
        known = sorted(self.table)
        if count > known[-1]:
            return self.table[known[-1]] * count / known[-1]
        return float(np.interp(count, known, [self.table[size] for size in known]))

    @cached_property
    def queue(self) -> int:
        """How many examples may wait where nobody says: what is run in a quarter of a second, within reason."""
        each_s = self.seconds(self.max_together) / self.max_together
        return int(min(max(_WAIT_S / each_s, 2 * self.max_together, _MIN_QUEUE), _MAX_QUEUE))

    @cached_property
    def _splits(self) -> list[tuple[int, ...]]:
        """By count, up to `max_together`: the pieces that take least."""
        splits: list[tuple[int, ...]] = [()]
        for count in range(1, self.sizes[-1] + 1):
            options = [(size, *splits[max(0, count - size)]) for size in self.sizes]
            splits.append(min(options, key=self._cost))
        return [tuple(sorted(split, reverse=True)) for split in splits]

    def _cost(self, pieces: Sequence[int]) -> float:
        return sum(self.table[size] + _CALL_S for size in pieces)


def make_plan(name: str, engine: Engine, samples: Arrays, limit: int, policy: Policy) -> Plan:
    """Measures a model, decides, and leaves the engine set up for what was decided.

    What a model makes of an example must not hang on its neighbours in the batch. Whether that is so cannot be seen
    from outside for every input; some examples are tried together and alone, and a model that answers them
    differently runs every request by itself.

    Args:
        name: Of the model, for the log.
        engine: Runs it.
        samples: `(N, *shape)` by input name, examples of its own.
        limit: How many examples a batch may have.
        policy: What the server wants.

    Raises:
        BmpError: What the engine has to say to its own samples.
    """
    sizes = [size for size in _SIZES if size <= limit] if policy.gathers else [1]
    table = _measure(engine, samples, sizes)
    together = _choose_together(table, policy.slo_p99_s)
    if together > 1 and not _is_independent(engine, samples):
        _log.warning(
            "%s answers an example differently when others are in its batch, so each request runs by itself", name
        )
        together = 1
    plan = Plan(table, together, _choose_sizes(table, together, engine.max_sizes))
    engine.keep(plan.sizes or (1,))
    for size in plan.sizes or (1,):
        engine.run(_take(samples, size))
    if policy.slo_p99_s is not None and table[1] > policy.slo_p99_s:
        _log.warning("%s takes %.1f ms for one example, which is over BMP_SLO_P99_MS by itself", name, 1000 * table[1])
    if plan.gathers:
        times = ", ".join(f"{size} in {1000 * table[size]:.3g} ms" for size in (1, together))
        _log.info("%s: up to %d examples of different requests run together (measured: %s)", name, together, times)
    return plan


# === Measuring ===


def _measure(engine: Engine, samples: Arrays, sizes: Sequence[int]) -> dict[int, float]:
    """Returns seconds by batch size, up to where it takes too long, too much memory, or gets no better."""
    table, start = {1: _time(engine, _take(samples, 1))}, time.perf_counter()
    end = start + min(max(_SHORT_S, _PATIENCE * table[1]), _LONG_S)
    last_s, least_bytes = 3 * table[1], math.inf
    for size in sizes[1:]:
        if start + 2 * last_s > end or _has_levelled_off(table):
            break
        engine.keep((1,))
        table[size] = _time(engine, _take(samples, size))
        least_bytes = min(least_bytes, _resident_bytes())
        if _resident_bytes() - least_bytes > _MAX_GROWTH_BYTES:
            break
        start, last_s = time.perf_counter(), time.perf_counter() - start
    return _smooth(table)


def _smooth(table: Mapping[int, float]) -> dict[int, float]:
    """Takes out what must have been disturbed: fewer take no longer than more, and twice as many no more than twice."""
    smooth = dict(sorted(table.items()))
    for size in list(smooth)[1:]:
        smooth[size] = min(smooth[size], 2 * smooth[size // 2])
    for size in list(smooth)[-2::-1]:
        smooth[size] = min(smooth[size], smooth[2 * size])
    return smooth


def _time(engine: Engine, inputs: Arrays) -> float:
    """Returns how long a run takes at best, in seconds; the first one sets things up and does not count."""
    engine.run(inputs)
    times: list[float] = []
    while len(times) < _MAX_REPEATS and (len(times) < _MIN_REPEATS or sum(times) < _REPEATS_S):
        start = time.perf_counter()
        engine.run(inputs)
        times.append(time.perf_counter() - start)
    return min(times)


def _has_levelled_off(table: Mapping[int, float]) -> bool:
    """Tells whether the last two doublings have made an example hardly cheaper."""
    each = [table[size] / size for size in sorted(table)]
    return len(each) > 2 and each[-1] > 0.95 * each[-2] and each[-2] > 0.95 * each[-3]


def _is_independent(engine: Engine, samples: Arrays) -> bool:
    together = engine.run(_take(samples, 4))
    alone = [engine.run({name: rows[row : row + 1] for name, rows in _take(samples, 4).items()}) for row in range(4)]
    return all(_are_close(rows, np.concatenate([answer[name] for answer in alone])) for name, rows in together.items())


def _are_close(found: np.ndarray, wanted: np.ndarray) -> bool:
    """Compares relative to the largest number: the rounding of a sum is that of its largest term."""
    found, wanted = found.astype(np.float64), wanted.astype(np.float64)
    return bool(np.abs(found - wanted).max(initial=0) <= _TOLERANCE * np.abs(wanted).max(initial=0))


def _take(samples: Arrays, count: int) -> Arrays:
    """Returns so many examples, from the start again where there are fewer."""
    return {name: np.ascontiguousarray(rows[np.arange(count) % len(rows)]) for name, rows in samples.items()}


def _resident_bytes() -> int:
    """Returns how much memory the process has; 0 where the system does not say it this way."""
    path = Path("/proc/self/statm")
    return int(path.read_text().split()[1]) * 4096 if path.exists() else 0


# === Deciding ===


def _choose_together(table: Mapping[int, float], slo_p99_s: float | None) -> int:
    """Returns the smallest size that is about as good as any, and 1 where none is clearly better than that.

    An answer takes at worst the rest of the run before it and its own run.
    """
    fitting = [size for size in table if size == 1 or slo_p99_s is None or 2 * table[size] <= slo_p99_s]
    best_s = min(table[size] / size for size in fitting)
    if table[1] - best_s < max(_GAIN * table[1], _GAIN_S):
        return 1
    return min(size for size in fitting if table[size] / size <= _NEAR * best_s)


def _choose_sizes(table: Mapping[int, float], together: int, most: int | None) -> tuple[int, ...]:
    """Returns few batch sizes that all counts up to `together` can be run in at little cost; none if any size will do.

    Of all choices the one with the fewest sizes that costs hardly more than the best.
    """
    if together == 1 or most is None:
        return ()
    costs: dict[tuple[int, ...], float] = {}
    for sizes in _subsets([size for size in table if 1 < size < together], most - 2):
        plan = Plan(table, together, (1, *sizes, together))
        costs[plan.sizes] = sum(plan.seconds(count) / count for count in range(1, together + 1))
    good = [sizes for sizes, cost in costs.items() if cost <= _NEAR_SIZES * min(costs.values())]
    return min(good, key=lambda sizes: (len(sizes), costs[sizes]))


def _subsets(sizes: Sequence[int], most: int) -> Iterator[tuple[int, ...]]:
    for count in range(most + 1):
        yield from combinations(sizes, count)
