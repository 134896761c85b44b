"""The machine's GPUs, divided among its workers: two processes cannot share the memory of one."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from bmp.errors import ConfigError

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


def divide_gpus(gpus: Sequence[str], jobs: Sequence[str], *, has_servers: bool) -> list[dict[str, str]]:
    """Returns the variable for each rank: neighbours for a worker, none for a chief beside workers, or a server.

    Where there is no GPU, nothing is set. Beside parameter servers, the last of more workers than GPUs have none.

    Args:
        gpus: Names.
        jobs: What each rank of this host is: `chief`, `worker` or `ps`.
        has_servers: Whether the cluster has parameter servers, on whatever host.

    Raises:
        ConfigError: Workers that exchange their gradients would be on a GPU here and on the CPU there, which TensorFlow
            cannot bring together.
    """
    if not gpus:
        return [{} for _ in jobs]
    computing = [rank for rank, job in enumerate(jobs) if job == "worker"] or list(range(len(jobs)))
    if len(computing) > len(gpus) and not has_servers:
        _refuse_mixture(len(gpus), len(computing))
    each = max(len(gpus) // len(computing), 1)
    own = {rank: gpus[place * each : (place + 1) * each] for place, rank in enumerate(computing)}
    return [{"CUDA_VISIBLE_DEVICES": ",".join(own.get(rank, ())) or "-1"} for rank in range(len(jobs))]


def _refuse_mixture(gpus: int, workers: int) -> NoReturn:
    raise ConfigError(
        f"This host has {gpus} GPU{'s' if gpus > 1 else ''} for {workers} workers, and those on a GPU cannot exchange "
        f"gradients with those on the CPU. Start --workers {gpus}, or set CUDA_VISIBLE_DEVICES=-1 to train on the CPU.",
        expected=f"at most {gpus} workers",
        received=f"{workers}",
    )
