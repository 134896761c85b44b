"""Memory between requests: kept where it is needed again, given back where it is much."""

import ctypes
import subprocess
import sys

import pytest

PROGRAM = """
import resource
from pathlib import Path
from serving.worker.allocator import keep_freed_memory

def take(size, count):
    buffers = [bytearray(b"x") * size for _ in range(count)]

def count_faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def resident_bytes():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

keep_freed_memory()
take(300_000, 8)
before = count_faults()
for _ in range(50):
    take(300_000, 8)
faults, before = count_faults() - before, resident_bytes()
take(8_000_000, 8)
print(faults, resident_bytes() - before)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="this C library has no such settings")
def test_what_usual_bodies_take_is_kept_and_what_large_ones_take_is_not() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    faults, grown_bytes = map(int, done.stdout.split())
    assert faults < 300_000 * 8 / 4096, "fewer than one round would have if its memory were new"
    assert grown_bytes < 8_000_000
