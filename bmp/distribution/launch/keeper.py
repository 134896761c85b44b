"""A small process that outlives its launcher by a moment: it kills every rank that is left, with all its children.

Run as a file by its path, without bmp: it reads `+PID` (watch this process group) and `-PID` (it is gone) from its
input and, once that is closed because the launcher has ended in whatever way, sends SIGKILL to the groups left.
"""

import os
import signal
import sys
from collections.abc import Iterable


def keep(lines: Iterable[str]) -> None:
    """Follows the launcher's lines to their end, then kills what is left."""
    groups: set[int] = set()
    for line in lines:
        (groups.add if line.startswith("+") else groups.discard)(int(line[1:]))
    for group in groups:
        try:
            os.killpg(group, signal.SIGKILL)
        except ProcessLookupError:
            continue  # it ended by itself


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    keep(sys.stdin)
