"""What was counted, read back: by all processes of a server, where they count together."""

import os
import platform
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

from prometheus_client import Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector

from bmp import __version__
from serving.metrics import meters
from serving.metrics.shared_counts import VARIABLE, find_processes

_REQUESTS = "bmp_request_duration_seconds_count"
_REQUEST_LABELS = ("model", "version", "door", "outcome")
_OPENMETRICS = "application/openmetrics-text"


def write_metrics(accept: str) -> tuple[bytes, str]:
    """Returns everything as Prometheus reads it, and its Content-Type.

    Args:
        accept: The header of the request, which may ask for OpenMetrics.
    """
    if _OPENMETRICS in accept:
        return openmetrics.generate_latest(_Everything()), openmetrics.CONTENT_TYPE_LATEST
    return generate_latest(_Everything()), CONTENT_TYPE_PLAIN_0_0_4


def read_counts() -> list[Metric]:
    """Returns what was counted."""
    meters.write()
    source = MultiProcessCollector(None) if VARIABLE in os.environ else meters.REGISTRY
    families = list(source.collect())
    for family in families:  # when a series began: only one process alone could say
        family.samples = [sample for sample in family.samples if not sample.name.endswith("_created")]
    return families


def sum_samples(families: Iterable[Metric], name: str, *labels: str) -> dict[tuple[str, ...], float]:
    """Returns the sums of the samples of a name, by the values of some of their labels."""
    sums: dict[tuple[str, ...], float] = defaultdict(float)
    for family in families:
        for sample in family.samples:
            if sample.name == name:
                sums[tuple(sample.labels[label] for label in labels)] += sample.value
    return sums


class _Everything(Collector):
    """What was counted, and what is looked up when somebody asks."""

    def collect(self) -> Iterator[Metric]:
        families = read_counts()
        for family in families:
            if family.name == meters.LOADED_NAME:  # a version that is gone has zero processes for ever
                family.samples = [sample for sample in family.samples if sample.value]
            yield family
        yield _count_requests(families)
        yield _build_info()
        yield from _measure_memory(find_processes())


def _count_requests(families: Iterable[Metric]) -> Metric:
    """Returns the number of requests under a name of its own: the histogram of their durations has counted them."""
    family = CounterMetricFamily("bmp_requests", "Requests that were answered, well or not.", labels=_REQUEST_LABELS)
    for values, count in sum_samples(families, _REQUESTS, *_REQUEST_LABELS).items():
        family.add_metric(values, count)
    return family


def _build_info() -> Metric:
    family = GaugeMetricFamily("bmp_build_info", "What runs here.", labels=("version", "python"))
    family.add_metric((__version__, platform.python_version()), 1)
    return family


def _measure_memory(pids: Iterable[int]) -> Iterator[Metric]:
    sizes = [size for pid in pids if (size := _read_memory_bytes(pid)) is not None]
    yield GaugeMetricFamily("bmp_processes", "Processes of this server.", len(sizes))
    yield GaugeMetricFamily("bmp_memory_bytes", "Of these processes; what several share counts once.", sum(sizes))


def _read_memory_bytes(pid: int) -> int | None:
    """Returns the proportional set size; None where the process is gone, or not ours to look at."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return None
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("Pss:")), None)
