"""`python -m tests.hostile.child`: plays the cases that it is told to, one a line, and says what came of each.

In comes `{"number", "way", "root"}`, out goes `{"trouble", "said", "peak_bytes"}`; the latter is how far the memory of
this process grew meanwhile, and of what it started.
"""

import json
import os
import resource
import sys
from pathlib import Path

from tests.hostile.corpus import CASES
from tests.hostile.saved_models import remove_plain
from tests.hostile.ways import play


def main() -> None:
    """Answers until there is nothing more to do."""
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answers:
        os.dup2(2, 1)  # what libraries print is no answer
        for line in sys.stdin:
            asked = json.loads(line)
            before = _reset_peak()
            trouble, said = play(CASES[asked["number"]], asked["way"], Path(asked["root"]))
            answer = {"trouble": trouble, "said": said, "peak_bytes": max(_read("VmHWM") - before, _read_children())}
            print(json.dumps(answer), file=answers, flush=True)
    remove_plain()


def _reset_peak() -> int:
    """Forgets the peak so far, and returns the bytes that are in use."""
    Path("/proc/self/clear_refs").write_text("5")
    return _read("VmRSS")


def _read(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{key}:"))


def _read_children() -> int:
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024


if __name__ == "__main__":
    main()
