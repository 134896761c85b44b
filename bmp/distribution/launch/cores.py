"""The machine's cores, divided among its ranks: ranks that share cores spend their time taking turns."""

from collections.abc import Sequence
from itertools import pairwise


def divide_cores(cores: Sequence[int], jobs: Sequence[str]) -> list[tuple[int, ...]]:
    """Returns the cores of each rank of a machine.

    Where there are enough, every rank has its own. Else only workers have, because they are what computes, and a
    chief or a parameter server may use all; more workers than cores take turns.

    Args:
        cores: Those this process may use.
        jobs: What each rank is: `chief`, `worker` or `ps`.
    """
    cores = sorted(cores)
    owners = [rank for rank, job in enumerate(jobs) if job == "worker" or len(cores) >= len(jobs)]
    own = dict(zip(owners, _cut(cores, len(owners)), strict=True))
    return [own.get(rank, tuple(cores)) for rank in range(len(jobs))]


def _cut(cores: Sequence[int], parts: int) -> list[tuple[int, ...]]:
    if parts > len(cores):
        return [(cores[part % len(cores)],) for part in range(parts)]
    edges = [part * len(cores) // parts for part in range(parts + 1)] if parts else []
    return [tuple(cores[first:last]) for first, last in pairwise(edges)]


def describe_pools(cores: Sequence[int]) -> dict[str, str]:
    """Returns the variables that size the thread pools of a rank on these cores.

    One thread a core computes an operation; two operations at least may run at a time, or one that waits for
    another rank would keep the input from coming.
    """
    count = len(cores)
    return {
        "TF_NUM_INTRAOP_THREADS": str(count),
        "TF_NUM_INTEROP_THREADS": str(max(2, count)),
        "OMP_NUM_THREADS": str(count),
    }
