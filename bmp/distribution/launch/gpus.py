"""The machine's GPUs, divided among its workers: two processes cannot share the memory of one."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

_DEVICE = re.compile(r"nvidia(\d+)")


def list_gpus(environ: Mapping[str, str], devices: Path = Path("/dev")) -> list[str]:
    """Returns the GPUs that processes of this machine may use, as CUDA_VISIBLE_DEVICES names them.

    Args:
        environ: Whose CUDA_VISIBLE_DEVICES counts where it is set: what is left of them.
        devices: Where Linux shows them.
    """
    named = environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [name.strip() for name in named.split(",") if name.strip() not in ("", "-1")]
    found = [int(match[1]) for path in devices.glob("nvidia*") if (match := _DEVICE.fullmatch(path.name))]
    return [str(number) for number in sorted(found)]


def divide_gpus(gpus: Sequence[str], jobs: Sequence[str]) -> list[dict[str, str]]:
    """Returns the variable for each rank: neighbours for a worker, none for a chief beside workers, or a server.

    Where there is no GPU, nothing is set. With fewer GPUs than workers the last workers have none.

    Args:
        gpus: Names.
        jobs: What each rank is: `chief`, `worker` or `ps`.
    """
    if not gpus:
        return [{} for _ in jobs]
    computing = [rank for rank, job in enumerate(jobs) if job == "worker"] or list(range(len(jobs)))
    each = max(len(gpus) // len(computing), 1)
    own = {rank: gpus[place * each : (place + 1) * each] for place, rank in enumerate(computing)}
    return [{"CUDA_VISIBLE_DEVICES": ",".join(own.get(rank, ())) or "-1"} for rank in range(len(jobs))]
