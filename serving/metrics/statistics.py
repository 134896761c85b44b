"""The statistics of the models in the words of Triton's protocol, from what `serving.metrics.meters` has counted."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from serving.metrics import meters
from serving.metrics.scrape import read_counts, sum_samples
from serving.service import Service

_VERSION = ("model", "version")
_REQUESTS, _RUNS, _WAITS = "bmp_request_duration_seconds", "bmp_engine_duration_seconds", "bmp_queue_duration_seconds"
_EXAMPLES, _SHARED, _LAST = "bmp_examples_total", "bmp_shared_engine_seconds_total", "bmp_last_run_timestamp_seconds"


@dataclass(frozen=True)
class _Total:
    """How often, and how long in all."""

    count: float = 0
    seconds: float = 0

    def describe(self) -> dict[str, int]:
        return {"count": round(self.count), "ns": round(self.seconds * 1e9)}


def find_versions(service: Service, name: str | None = None) -> list[tuple[str, int]]:
    """Returns name and number of the versions that answer requests, of one model or of each.

    Raises:
        NotReadyError: The model is still loading, or could not be loaded.
        NotFoundError: There is no such model.
    """
    names = service.names() if name is None else [name]
    return [(each, state.number) for each in names for state in service.versions(each) if state.state == "AVAILABLE"]


def describe_statistics(versions: Iterable[tuple[str, int]]) -> list[dict[str, Any]]:
    """Returns the statistics of versions in JSON's types, of all processes together.

    `compute_infer` is the time in the engine, and each request of a batch counts the whole of it. `compute_input` is
    what remains of the requests' time beside that and the wait: to read a request and to write its answer, which are
    not told apart. The sizes in `batch_stats` are rounded up to powers of two.

    Args:
        versions: Name and number of each.
    """
    families = read_counts()
    requests = _read_totals(families, _REQUESTS, *_VERSION, "outcome")
    runs = _read_totals(families, _RUNS, *_VERSION, "batch")
    waits = _read_totals(families, _WAITS, *_VERSION)
    examples, shared, last = (sum_samples(families, name, *_VERSION) for name in (_EXAMPLES, _SHARED, _LAST))
    described = []
    for name, number in versions:
        key = (name, str(number))
        batches = {int(labels[2]): total for labels, total in sorted(runs.items()) if labels[:2] == key}
        mine = [(labels[2] == meters.OK, total) for labels, total in requests.items() if labels[:2] == key]
        good, bad = (_add(total for is_good, total in mine if is_good == wanted) for wanted in (True, False))
        engine = _Total(good.count, _add(batches.values()).seconds + shared.get(key, 0))
        wait = _Total(good.count, waits.get(key, _Total()).seconds)
        described.append(
            {
                "name": name,
                "version": str(number),
                "last_inference": round(last.get(key, 0) * 1000),
                "inference_count": round(examples.get(key, 0)),
                "execution_count": round(_add(batches.values()).count),
                "inference_stats": _describe_requests(good, bad, wait, engine),
                "batch_stats": [_describe_batch(size, batches[size]) for size in sorted(batches)],
                "memory_usage": [],
            }
        )
    return described


def _read_totals(families: Any, name: str, *labels: str) -> dict[tuple[str, ...], _Total]:
    counts, sums = (sum_samples(families, f"{name}_{what}", *labels) for what in ("count", "sum"))
    return {key: _Total(count, sums[key]) for key, count in counts.items()}


def _add(totals: Iterable[_Total]) -> _Total:
    totals = list(totals)
    return _Total(sum(total.count for total in totals), sum(total.seconds for total in totals))


def _describe_requests(good: _Total, bad: _Total, wait: _Total, engine: _Total) -> dict[str, dict[str, int]]:
    remaining = _Total(good.count, max(0, good.seconds - wait.seconds - engine.seconds))
    totals = {
        "success": good,
        "fail": bad,
        "queue": wait,
        "compute_input": remaining,
        "compute_infer": engine,
        "compute_output": _Total(good.count),
        "cache_hit": _Total(),
        "cache_miss": _Total(),
    }
    return {name: total.describe() for name, total in totals.items()}


def _describe_batch(size: int, total: _Total) -> dict[str, Any]:
    nothing = _Total(total.count).describe()
    return {
        "batch_size": size,
        "compute_input": nothing,
        "compute_infer": total.describe(),
        "compute_output": nothing,
    }
