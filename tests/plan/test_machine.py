from pathlib import Path

import pytest

from bmp.plan.machine import (
    Device,
    leave_room,
    parse_nvidia_smi,
    read_cores,
    read_free_bytes,
    read_machine,
    read_own_bytes,
)

GB = 10**9


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A machine with 8 GB free, whose process is in the group /jobs/one of version 2."""
    write(tmp_path / "proc/meminfo", f"MemTotal: {16 * GB // 1024} kB\nMemAvailable:   {8 * GB // 1024} kB\n")
    write(tmp_path / "proc/self/cgroup", "0::/jobs/one\n")
    (tmp_path / "sys/fs/cgroup/jobs/one").mkdir(parents=True)
    return tmp_path


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def limit(folder: Path, maximum: int | str, current: int, inactive: int = 0) -> None:
    write(folder / "memory.max", f"{maximum}\n")
    write(folder / "memory.current", f"{current}\n")
    write(folder / "memory.stat", f"anon 5\ninactive_file {inactive}\n")


def test_without_limits_what_the_kernel_has_is_free(root):
    assert read_free_bytes(root) == 8 * GB
    limit(root / "sys/fs/cgroup/jobs/one", "max", GB)
    assert read_free_bytes(root) == 8 * GB


def test_the_tightest_group_up_the_tree_decides(root):
    limit(root / "sys/fs/cgroup/jobs/one", 6 * GB, GB)
    assert read_free_bytes(root) == 5 * GB
    limit(root / "sys/fs/cgroup/jobs", 4 * GB, 3 * GB)
    assert read_free_bytes(root) == GB


def test_cache_that_can_be_given_back_is_free(root):
    limit(root / "sys/fs/cgroup/jobs/one", 6 * GB, 5 * GB, inactive=2 * GB)
    assert read_free_bytes(root) == 3 * GB


def test_a_full_group_has_nothing_free(root):
    limit(root / "sys/fs/cgroup/jobs/one", 2 * GB, 3 * GB)
    assert read_free_bytes(root) == 0


def test_groups_of_version_1_whose_path_is_of_another_namespace(root):
    write(root / "proc/self/cgroup", "4:memory:/outside/here\n1:cpu,cpuacct:/\n0::/\n")
    folder = root / "sys/fs/cgroup/memory"
    write(folder / "memory.limit_in_bytes", f"{3 * GB}\n")
    write(folder / "memory.usage_in_bytes", f"{GB}\n")
    write(folder / "memory.stat", "total_inactive_file 0\n")
    assert read_free_bytes(root) == 2 * GB


@pytest.mark.parametrize(("text", "expected"), [("50000 100000", 0.5), ("max 100000", None)])
def test_a_quota_limits_the_cores(root, text, expected):
    write(root / "sys/fs/cgroup/jobs/cpu.max", f"{text}\n")
    assert read_cores(root) == (expected or read_cores())


def test_this_machine_has_something():
    machine = read_machine()
    assert machine.cores > 0 and machine.memory.free_bytes > read_own_bytes() > 10**6


def test_lines_of_nvidia_smi():
    text = "0, NVIDIA H100 80GB HBM3, 80994\n1, Tesla T4, [N/A]\n"
    assert parse_nvidia_smi(text) == (
        Device("GPU 0: NVIDIA H100 80GB HBM3", 80994 * 2**20),
        Device("GPU 1: Tesla T4", None),
    )


@pytest.mark.parametrize(("free", "left"), [(81076, 78752), (100, 0), (None, None)])
def test_a_gpu_is_not_for_tensors_alone(free, left):
    """An H100 as TensorFlow took it, one that is full, and one of which nobody tells."""
    found = leave_room(Device("GPU 0", None if free is None else free << 20))
    assert found == Device("GPU 0", None if left is None else left << 20)
