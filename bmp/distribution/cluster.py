"""Who am I in the cluster? From TF_CONFIG, from SLURM's variables, or else a lone process; no TensorFlow here."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bmp.distribution.slurm import read_slurm
from bmp.errors import ConfigError, suggest

JOBS = ("chief", "worker", "ps")
"""What a task may be, in the order in which ranks are counted."""

_EXAMPLE = '{"cluster": {"worker": ["10.0.0.1:2222", "10.0.0.2:2222"]}, "task": {"type": "worker", "index": 0}}'


@dataclass(frozen=True)
class Cluster:
    """One process and the cluster it is in.

    Args:
        task_type: What this process is: `chief`, `worker` or `ps`.
        task_index: Which one of them, from 0.
        spec: The addresses (`host:port`) of every task of every type; empty for a lone process.
        reason: Where this came from, in words for the log.
    """

    task_type: str = "worker"
    task_index: int = 0
    spec: dict[str, tuple[str, ...]] = field(default_factory=dict)
    reason: str = "a lone process"

    @property
    def num_processes(self) -> int:
        """Processes in the cluster, parameter servers and all."""
        return sum(len(addresses) for addresses in self.spec.values()) or 1

    @property
    def is_chief(self) -> bool:
        """Whether this process writes what only one may write: the chief or, where there is none, worker 0."""
        first = "chief" if "chief" in self.spec else "worker"
        return (self.task_type, self.task_index) == (first, 0)

    @property
    def rank(self) -> int:
        """Number of this process among all: first the chief, then the workers, then the parameter servers."""
        before = JOBS[: JOBS.index(self.task_type)]
        return sum(len(self.spec.get(job, ())) for job in before) + self.task_index

    def tf_config(self) -> str:
        """Returns what TF_CONFIG says about this process; `{}` for a lone one."""
        if not self.spec:
            return "{}"
        spec = {job: list(addresses) for job, addresses in self.spec.items()}
        return json.dumps({"cluster": spec, "task": {"type": self.task_type, "index": self.task_index}})


def read_cluster(environ: Mapping[str, str]) -> Cluster:
    """Finds out who this process is.

    TF_CONFIG counts first; then the variables of a SLURM step with more than one task (`BMP_PORT_BASE`, 8888 if
    unset, is the port of the first task of each node; `BMP_PS` says how many of the last tasks are parameter
    servers); else it is a lone process.

    Raises:
        ConfigError: What the variables say cannot be a cluster.
    """
    if text := environ.get("TF_CONFIG", "").strip():
        return _read_tf_config(text)
    step = read_slurm(environ)
    if step is None:
        return Cluster()
    job, index = step.role
    return Cluster(job, index, check_spec(step.spec, "SLURM"), f"SLURM step, task {step.task} of {step.tasks}")


def _read_tf_config(text: str) -> Cluster:
    config = _parse(text)
    spec = _read_spec(config.get("cluster") or {})
    if not spec:
        return Cluster(reason="a lone process: TF_CONFIG names no cluster")
    task = config.get("task")
    if not isinstance(task, dict):
        raise _wrong("has no task: which of the cluster this process is")
    job, index = _read_task(task.get("type"), task.get("index"), spec)
    return Cluster(job, index, spec, f"TF_CONFIG: {job} {index} of {sum(map(len, spec.values()))} processes")


def _parse(text: str) -> dict[str, Any]:
    try:
        config = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _wrong(f"is not JSON ({error})", text) from error
    if not isinstance(config, dict):
        raise _wrong("is not a JSON object", text)
    return config


def _read_spec(cluster: Any) -> dict[str, tuple[str, ...]]:
    """Takes the evaluator out: a cluster that waits for it never starts."""
    if not isinstance(cluster, dict):
        raise _wrong("has a 'cluster' that is not an object")
    spec = {job: addresses for job, addresses in cluster.items() if job != "evaluator" and addresses != []}
    for job, addresses in spec.items():
        if job not in JOBS:
            raise _wrong(f"names tasks of the unknown type '{job}'; known: {', '.join(JOBS)}.{_hint(job)}")
        if not isinstance(addresses, list) or not all(isinstance(address, str) for address in addresses):
            raise _wrong(f"must list the addresses of '{job}' as texts")
    return check_spec({job: tuple(spec[job]) for job in JOBS if job in spec}, "TF_CONFIG")


def check_spec(spec: dict[str, tuple[str, ...]], origin: str) -> dict[str, tuple[str, ...]]:
    """Returns the addresses of a cluster.

    Raises:
        ConfigError: They cannot be one.
    """
    for job, addresses in spec.items():
        for address in addresses:
            _check_address(address, job, origin)
    if len(spec.get("chief", ())) > 1:
        raise _wrong(f"names {len(spec['chief'])} chiefs; there is one", origin=origin)
    if "ps" in spec and "chief" not in spec:
        raise _wrong("names parameter servers (ps) but no chief, which leads them", origin=origin)
    if "ps" in spec and "worker" not in spec:
        raise _wrong("names parameter servers (ps) but no worker, which computes", origin=origin)
    together = [address for addresses in spec.values() for address in addresses]
    twice = next((address for address in together if together.count(address) > 1), None)
    if twice:
        raise _wrong(f"names the address {twice} twice; each process has its own", origin=origin)
    return spec


def _check_address(address: str, job: str, origin: str) -> None:
    found = re.fullmatch(r"(\[[0-9A-Fa-f:.%\w]+\]|[^\s:/\[\]]+):(\d{1,5})", address)
    if found is None or not 1 <= int(found[2]) <= 65535:
        raise _wrong(f"has the address '{address[:80]}' of a {job}; an address is HOST:PORT", origin=origin)


def _read_task(job: Any, index: Any, spec: dict[str, tuple[str, ...]]) -> tuple[str, int]:
    if job == "evaluator":
        raise _wrong("makes this process an evaluator; bmp's workers validate themselves, so start none")
    if job not in JOBS:
        raise _wrong(f"has the unknown task type '{job}'; known: {', '.join(JOBS)}.{_hint(job)}")
    if job not in spec:
        raise _wrong(f"makes this process a {job}, but its cluster has none")
    number = int(index) if isinstance(index, str) and re.fullmatch(r"[0-9]{1,9}", index) else index
    if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number < len(spec[job]):
        last = len(spec[job]) - 1
        raise _wrong(f"has the task index {index!r}; the cluster has {job} 0" + (f" to {last}" if last else ""))
    return job, number


def _hint(job: Any) -> str:
    return " 'master' is called 'chief' now." if job == "master" else suggest(str(job), JOBS)


def _wrong(what: str, received: str | None = None, origin: str = "TF_CONFIG") -> ConfigError:
    example = f" Expected for example {_EXAMPLE}." if origin == "TF_CONFIG" else ""
    stop = "" if what.endswith((".", "?")) else "."
    return ConfigError(f"{origin} {what}{stop}{example}", expected=_EXAMPLE, received=received and received[:200])
