"""The variables that SLURM gives each task of a step, and the texts in them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product

from bmp.errors import ConfigError

DEFAULT_PORT_BASE = 8888
MAX_NODES = 1 << 16


@dataclass(frozen=True)
class Step:
    """One task of a SLURM step.

    Args:
        task: Number of this task.
        addresses: Of every task, in order.
        ps: How many of the last ones are parameter servers; then the first is the chief.
    """

    task: int
    addresses: tuple[str, ...]
    ps: int

    @property
    def tasks(self) -> int:
        """How many there are."""
        return len(self.addresses)

    @property
    def spec(self) -> dict[str, tuple[str, ...]]:
        """The addresses by what the tasks are."""
        if not self.ps:
            return {"worker": self.addresses}
        first_ps = self.tasks - self.ps
        return {"chief": self.addresses[:1], "worker": self.addresses[1:first_ps], "ps": self.addresses[first_ps:]}

    @property
    def role(self) -> tuple[str, int]:
        """What this task is, and which one of them."""
        left = self.task
        for job, addresses in self.spec.items():
            if left < len(addresses):
                return job, left
            left -= len(addresses)
        raise AssertionError("a task has a role")


def read_slurm(environ: Mapping[str, str]) -> Step | None:
    """Returns which task of a SLURM step this is; None outside of a step with more than one task.

    Raises:
        ConfigError: The variables contradict each other.
    """
    if "SLURM_PROCID" not in environ or "SLURM_STEP_NODELIST" not in environ:
        return None
    count_name = "SLURM_STEP_NUM_TASKS" if "SLURM_STEP_NUM_TASKS" in environ else "SLURM_NTASKS"
    tasks, task = _read_count(environ, count_name, 1), _read_count(environ, "SLURM_PROCID", 0)
    if tasks == 1:
        return None
    nodes = expand_nodes(environ["SLURM_STEP_NODELIST"])
    per_node = expand_tasks(environ.get("SLURM_STEP_TASKS_PER_NODE", ""))
    if len(per_node) != len(nodes) or sum(per_node) != tasks or task >= tasks:
        raise ConfigError(
            f"SLURM's variables contradict each other: task {task} of {tasks}, "
            f"{len(nodes)} nodes with {per_node} tasks. Start the ranks with srun.",
            expected="a step of srun",
        )
    _check_node(environ, nodes, per_node, task)
    return Step(task, _number_ports(nodes, per_node, _read_port_base(environ, max(per_node))), _read_ps(environ, tasks))


def expand_nodes(text: str) -> list[str]:
    """Returns the names in a list of nodes: `node[1-3,07-09],login` and the like, in order.

    Raises:
        ConfigError: It is no such list, or names more than 65536 nodes.
    """
    part = r"(?:[^\s,\[\]]|\[[0-9,-]+\])+"
    if not re.fullmatch(rf"{part}(?:,{part})*", text):
        raise ConfigError(f"'{text[:80]}' is no list of nodes; expected for example node[1-3,7],login.")
    nodes: list[str] = []
    for name in re.findall(part, text):
        pieces = [_expand_numbers(piece) for piece in re.split(r"(\[[0-9,-]+\])", name)]
        nodes += ("".join(choice) for choice in product(*pieces))
        if len(nodes) > MAX_NODES:
            raise ConfigError(f"'{text[:80]}' names more than {MAX_NODES:,} nodes.")
    return nodes


def _expand_numbers(piece: str) -> list[str]:
    if not piece.startswith("["):
        return [piece]
    numbers: list[str] = []
    for item in piece[1:-1].split(","):
        found = re.fullmatch(r"(\d{1,12})(?:-(\d{1,12}))?", item)
        first, last = (int(found[1]), int(found[2] or found[1])) if found else (1, 0)
        if found is None or not 0 <= last - first < MAX_NODES:
            raise ConfigError(f"'{item[:40]}' is no range of node numbers; expected for example 1-3.")
        numbers += (str(number).zfill(len(found[1])) for number in range(first, last + 1))
    return numbers


def expand_tasks(text: str) -> list[int]:
    """Returns how many tasks each node has, from a text such as `2(x3),1`.

    Raises:
        ConfigError: It is no such text, or counts more than 65536 nodes.
    """
    counts: list[int] = []
    for item in text.split(","):
        found = re.fullmatch(r"([1-9]\d{0,5})(?:\(x([1-9]\d{0,5})\))?", item)
        if found is None or len(counts) + int(found[2] or 1) > MAX_NODES:
            raise ConfigError(f"'{text[:80]}' does not say how many tasks each node has; expected such as 2(x3),1.")
        counts += [int(found[1])] * int(found[2] or 1)
    return counts


def _number_ports(nodes: list[str], per_node: list[int], port_base: int) -> tuple[str, ...]:
    return tuple(
        f"{node}:{port_base + index}" for node, count in zip(nodes, per_node, strict=True) for index in range(count)
    )


def _check_node(environ: Mapping[str, str], nodes: list[str], per_node: list[int], task: int) -> None:
    """Tasks are numbered node by node here; with another distribution the addresses would be wrong."""
    owners = [node for node, count in zip(nodes, per_node, strict=True) for _ in range(count)]
    here = environ.get("SLURMD_NODENAME", owners[task])
    if here in nodes and here != owners[task]:
        raise ConfigError(
            f"SLURM runs task {task} on {here}, not on {owners[task]}: tasks must be numbered node by node. "
            "Start them with srun --distribution=block."
        )


def _read_count(environ: Mapping[str, str], name: str, least: int) -> int:
    text = environ.get(name, "")
    if not re.fullmatch(r"\d{1,9}", text) or int(text) < least:
        raise ConfigError(f"{name} is '{text[:40]}'; expected a whole number from {least}.")
    return int(text)


def _read_port_base(environ: Mapping[str, str], most: int) -> int:
    if "BMP_PORT_BASE" not in environ:
        return DEFAULT_PORT_BASE
    base = _read_count(environ, "BMP_PORT_BASE", 1)
    if base + most - 1 > 65535:
        raise ConfigError(f"BMP_PORT_BASE is {base}; with {most} tasks on a node it can be {65536 - most} at most.")
    return base


def _read_ps(environ: Mapping[str, str], tasks: int) -> int:
    ps = _read_count(environ, "BMP_PS", 0) if environ.get("BMP_PS") else 0
    if ps > tasks - 2:
        raise ConfigError(f"BMP_PS is {ps}, but of {tasks} tasks one is the chief and one at least a worker.")
    return ps
