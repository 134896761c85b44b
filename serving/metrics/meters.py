"""What is counted: requests, runs of the engines, and models. Cheap enough for every request.

With several processes the counts go to files in `PROMETHEUS_MULTIPROC_DIR`, which each process reads all of: whoever
is asked answers for all of them. Labels hold only what this server says itself, never a client's words.

Doors call `record`, batching calls `record_run`, what holds requests back `record_queue`, the loader `record_load` and
`record_lineup`, and the worker `record_refusal`. Who answers thousands of requests a second calls `record_all`, and
`write` now and then. `serving.metrics.scrape` reads all of it back.
"""

from bisect import bisect_left
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Summary

from serving.metrics.tally import Tally

if TYPE_CHECKING:
    from serving.batching import Ran

OK = "ok"
"""The outcome of what went well; any other outcome is the code of an error."""

REGISTRY = CollectorRegistry()
_tally = Tally()
_REQUEST_S = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
_RUN_S = (0.00005, 0.0001, 0.0002, *_REQUEST_S[:-1])
_MAX_SERIES = 4096


class Durations(Histogram):
    """A histogram that takes several values at once: in a file shared by processes, each that is written costs."""

    def observe_all(self, values: Sequence[float]) -> None:
        """Observes each of some values."""
        self._raise_if_not_observable()
        self._sum.inc(sum(values))
        counts: dict[int, int] = {}
        for value in values:
            bucket = bisect_left(self._upper_bounds, value)
            counts[bucket] = counts.get(bucket, 0) + 1
        for bucket, count in counts.items():
            self._buckets[bucket].inc(count)


# Seconds, from the first byte that was read to the answer: how long, and by its counts how many.
REQUESTS = Durations(
    "bmp_request_duration_seconds",
    "From a request that is read to its answer.",
    ("model", "version", "door", "outcome"),
    buckets=_REQUEST_S,
    registry=REGISTRY,
)
RUNS = Durations(
    "bmp_engine_duration_seconds",
    "One run of an engine, by its examples, rounded up to a power of two.",
    ("model", "version", "batch"),
    buckets=_RUN_S,
    registry=REGISTRY,
)
WAITS = Durations(
    "bmp_queue_duration_seconds",
    "How long a request waited for an engine.",
    ("model", "version"),
    buckets=_RUN_S,
    registry=REGISTRY,
)
EXAMPLES = Counter("bmp_examples", "Examples that were answered.", ("model", "version"), registry=REGISTRY)
SHARED = Counter(
    "bmp_shared_engine_seconds",
    "What requests of one run would add to the engine's time if each counted the whole run, beyond the first.",
    ("model", "version"),
    registry=REGISTRY,
)
LAST_RUN = Gauge(
    "bmp_last_run_timestamp_seconds",
    "When an engine ran last.",
    ("model", "version"),
    multiprocess_mode="max",
    registry=REGISTRY,
)
QUEUED = Gauge(
    "bmp_queue_examples",
    "Examples that wait for an engine.",
    ("model", "version"),
    multiprocess_mode="livesum",
    registry=REGISTRY,
)
REFUSED = Counter(
    "bmp_refused_requests",
    "What was refused before it was a request: not HTTP, too large, too slow, or one connection too many.",
    ("code",),
    registry=REGISTRY,
)
LOADED_NAME = "bmp_model_loaded"
LOADED = Gauge(
    LOADED_NAME,
    "Processes in which a version answers requests.",
    ("model", "version"),
    multiprocess_mode="livesum",
    registry=REGISTRY,
)
LOADS = Summary(
    "bmp_model_load_duration_seconds",
    "Loads of versions, well or not, each in each process.",
    ("model", "outcome"),
    registry=REGISTRY,
)
SWITCHES = Counter(
    "bmp_model_switches",
    "How often another version became the default, in each process.",
    ("model",),
    registry=REGISTRY,
)


class Named(Protocol):
    """A version of a model, such as a `LoadedModel`."""

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def version(self) -> int: ...  # noqa: D102


def record(door: str, outcome: str, seconds: float, model: Named | None = None) -> None:
    """Counts one request: once, when its answer is ready, well or not. A few microseconds.

    Args:
        door: Where it came in: `predict`, `tfserving`, `inference_v2`, `grpc_tfserving`, `grpc_v2`, or what else has a
            name of ours.
        outcome: `OK`, or the code of the error, such as `BmpError.code`; never a client's words.
        seconds: From the moment that the request was read until now, by `time.perf_counter` or `time.monotonic`.
        model: Which one it was for; None where that was never found out.
    """
    record_all(door, outcome, (seconds,), model)
    write()


def record_all(door: str, outcome: str, durations: Sequence[float], model: Named | None = None) -> None:
    """Counts requests that have all in common but how long they took, as `record` does, but for `write`."""
    name, version = ("", "") if model is None else (model.name, model.version)
    _tally.add_requests((name, version, door, outcome), durations)


def record_run(ran: "Ran") -> None:
    """Counts one run of an engine, with the requests in it: what `Policy.observe` is made for; `write` is to come."""
    _tally.add_run((ran.model, ran.version, round_up(ran.examples)), ran)


def write() -> None:
    """Writes what `record_all` and `record_run` have counted, for whoever asks any of the processes."""
    requests, runs = _tally.take()
    for labels, durations in requests.items():
        _request_child(*labels).observe_all(durations)
    for labels, ran in runs.items():
        run, waited, examples, shared, last = _run_children(*labels)
        run.observe_all(ran.seconds)
        waited.observe_all(ran.waits_s)
        if ran.examples:
            examples.inc(ran.examples)
            last.set(ran.last_s)
        if ran.shared_s:
            shared.inc(ran.shared_s)


def record_queue(model: Named, examples: int) -> None:
    """Says how many examples wait for an engine in this process, now that it has changed.

    Args:
        model: Which they are for.
        examples: That wait; those in a run wait no more.
    """
    _queue_child(model.name, model.version).set(examples)


def record_refusal(code: str) -> None:
    """Counts what the worker refuses by itself, before it is known what it asks for.

    Args:
        code: Of the error.
    """
    REFUSED.labels(code).inc()


def record_load(name: str, outcome: str, seconds: float) -> None:
    """Counts a version that was loaded, or could not be.

    Args:
        name: Of the model, as the registry has it.
        outcome: `OK`, or the code of the error.
        seconds: That it took.
    """
    LOADS.labels(name, outcome).observe(seconds)


def record_lineup(name: str, before: set[int], now: set[int], *, switched: bool) -> None:
    """Says which versions of a model answer requests in this process.

    Args:
        name: Of the model.
        before: Those that did so until now.
        now: Those that do so from now on.
        switched: Whether another version became the default.
    """
    for number in before ^ now:
        LOADED.labels(name, number).set(number in now)
    if switched:
        SWITCHES.labels(name).inc()


def round_up(examples: int) -> int:
    """Returns the next power of two: there are few of them, so batches of all sizes make few series."""
    return 1 << max(0, examples - 1).bit_length()


# A look-up by prometheus_client costs more than what it counts.


@lru_cache(_MAX_SERIES)
def _request_child(*labels: str | int) -> Any:
    return REQUESTS.labels(*labels)


@lru_cache(_MAX_SERIES)
def _run_children(name: str | int, version: str | int, batch: str | int) -> tuple[Any, ...]:
    of_version = (metric.labels(name, version) for metric in (WAITS, EXAMPLES, SHARED, LAST_RUN))
    return RUNS.labels(name, version, batch), *of_version


@lru_cache(_MAX_SERIES)
def _queue_child(name: str, version: int) -> Any:
    return QUEUED.labels(name, version)
