"""What a run ran in: versions, machine, command line."""

import os
import platform
import shlex
import socket
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import bmp


def describe_environment(devices: Sequence[str], cluster: str) -> dict[str, Any]:
    """Returns versions, machine and command line of this process."""
    packages = {found.metadata["Name"]: found.version for found in metadata.distributions()}
    return {
        "bmp": bmp.__version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "host": socket.gethostname(),
        "cpu": _find_cpu(),
        "cores": len(os.sched_getaffinity(0)),
        "devices": list(devices),
        "cluster": cluster,
        "command": shlex.join(sys.argv),
        "directory": str(Path.cwd()),
        "packages": dict(sorted(packages.items(), key=lambda item: item[0].lower())),
    }


def _find_cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.machine()
