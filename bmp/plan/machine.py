"""What this machine has for a training: cores, memory that may still be taken, GPUs.

What the kernel and control groups say is read from files below a root, Linux only; of GPUs nvidia-smi is asked.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bmp.errors import BmpError

ROOT = Path("/")
_BESIDE_TENSORS_BYTES = 2324 << 20
"""What TensorFlow leaves of a GPU to its context and the libraries of CUDA. Measured on an H100, where tensors can have
78,752 MiB of 81,076 that are free; it is less on older ones."""


@dataclass(frozen=True)
class Device:
    """Where a replica can be.

    Args:
        name: `memory of this machine`, or `GPU 0: NVIDIA …`.
        free_bytes: What may still be taken; None where nobody tells.
    """

    name: str
    free_bytes: int | None


@dataclass(frozen=True)
class Machine:
    """This machine, for a process in it.

    Args:
        cores: That this process may use at a time; fewer than one where a control group allows only that.
        memory: Free for this process, within the limits of every control group it is in.
        gpus: Those that TensorFlow would use.
    """

    cores: float
    memory: Device
    gpus: tuple[Device, ...]


def read_machine(root: Path = ROOT) -> Machine:
    """Returns what this machine has now; no device is touched.

    What this process holds already counts as free: it is part of what a training needs.
    """
    memory = Device("memory of this machine", read_free_bytes(root) + read_own_bytes(root))
    return Machine(read_cores(root), memory, read_gpus())


def read_free_bytes(root: Path = ROOT) -> int:
    """Returns the memory that this process can still get: the least of the machine's and its control groups'."""
    groups = (_free_in_group(folder, *names) for folder, *names in _find_groups(root))
    return min(
        [_read_field(root / "proc/meminfo", "MemAvailable:") * 1024, *(free for free in groups if free is not None)]
    )


def read_own_bytes(root: Path = ROOT) -> int:
    """Returns the memory that this process holds now (resident)."""
    pages = int((root / "proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def read_cores(root: Path = ROOT) -> float:
    """Returns the cores that the affinity and the control groups of this process allow."""
    allowed = float(len(os.sched_getaffinity(0)))
    for controller, version in (("cpu", 1), ("", 2)):
        for folder in _walk_groups(root, controller, version):
            quota = _read_quota(folder)
            allowed = min(allowed, quota) if quota else allowed
    return allowed


def read_gpus() -> tuple[Device, ...]:
    """Returns the GPUs that TensorFlow would use, and what its tensors can have of what nvidia-smi says is free."""
    import tensorflow as tf

    names = [gpu.name for gpu in tf.config.list_physical_devices("GPU")]
    if not names:
        return ()
    told = _ask_nvidia_smi()
    if len(told) != len(names):
        return tuple(Device(name, None) for name in names)
    return tuple(leave_room(gpu) for gpu in told)


def leave_room(gpu: Device) -> Device:
    """Returns a GPU with what is left for tensors; TensorFlow has not used it yet."""
    return gpu if gpu.free_bytes is None else Device(gpu.name, max(gpu.free_bytes - _BESIDE_TENSORS_BYTES, 0))


def parse_nvidia_smi(text: str) -> tuple[Device, ...]:
    """Reads lines of `index, name, free MiB`."""
    rows = [[cell.strip() for cell in line.split(",")] for line in text.splitlines() if line.strip()]
    return tuple(
        Device(f"GPU {index}: {name}", int(free) * 2**20 if free.isdigit() else None) for index, name, free in rows
    )


def _ask_nvidia_smi() -> tuple[Device, ...]:
    program = shutil.which("nvidia-smi")
    if program is None:
        return ()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    chosen = ["-i", visible] if visible else []
    query = [program, "--query-gpu=index,name,memory.free", "--format=csv,noheader,nounits", *chosen]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        raise BmpError(f"nvidia-smi, asked for the free memory of the GPUs, failed: {error}.") from error
    return parse_nvidia_smi(done.stdout)


def _find_groups(root: Path) -> Iterator[tuple[Path, str, str, str]]:
    """Yields the folders of the memory groups of this process, with the names of limit, usage and idle cache."""
    for folder in _walk_groups(root, "memory", 1):
        yield folder, "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"
    for folder in _walk_groups(root, "", 2):
        yield folder, "memory.max", "memory.current", "inactive_file"


def _walk_groups(root: Path, controller: str, version: int) -> Iterator[Path]:
    """Yields the folders from the top of a hierarchy down to the group of this process, those that are seen here."""
    top = root / "sys/fs/cgroup" / controller
    lines = (line.split(":", 2) for line in (root / "proc/self/cgroup").read_text().splitlines())
    for _, controllers, path in lines:
        if (version == 1 and controller in controllers.split(",")) or (version == 2 and controllers == ""):
            parts = Path(path.lstrip("/")).parts
            folders = (top.joinpath(*parts[:depth]) for depth in range(len(parts) + 1))
            yield from (folder for folder in folders if folder.is_dir())


def _free_in_group(folder: Path, limit_name: str, usage_name: str, cache_name: str) -> int | None:
    limit, usage = folder / limit_name, folder / usage_name
    if not limit.is_file() or not usage.is_file() or limit.read_text().strip() == "max":
        return None
    cache = _read_field(folder / "memory.stat", cache_name)  # given back when memory runs short
    return max(int(limit.read_text()) - int(usage.read_text()) + cache, 0)


def _read_quota(folder: Path) -> float | None:
    """Returns the cores that a group may use, None for no limit."""
    if (folder / "cpu.max").is_file():
        quota, period = (folder / "cpu.max").read_text().split()
    elif (folder / "cpu.cfs_quota_us").is_file():
        quota, period = ((folder / name).read_text().strip() for name in ("cpu.cfs_quota_us", "cpu.cfs_period_us"))
    else:
        return None
    return None if quota in ("max", "-1") else int(quota) / int(period)


def _read_field(path: Path, name: str) -> int:
    """Returns the number after a name in a file of `name number` lines; 0 where there is none."""
    lines = path.read_text().splitlines() if path.is_file() else []
    return next((int(line.split()[1]) for line in lines if line.split()[:1] == [name]), 0)
