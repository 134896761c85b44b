"""How many of how many: what a part of the campaign has to say."""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class Tally:
    """The checks of one part.

    Args:
        part: Its name.
        what: What is counted, as it stands after `n of n`.
    """

    part: str
    what: str
    good: int = 0
    tried: int = 0
    notes: list[str] = field(default_factory=list)
    began_s: float = field(default_factory=time.monotonic)

    def add(self, is_good: bool, where: str, evidence: str = "") -> None:
        """Counts one check; one that failed is told at once, with its evidence."""
        self.tried += 1
        self.good += is_good
        if not is_good:
            say(f"{self.part}: FAILED: {where}\n{evidence}".rstrip())

    def note(self, words: str) -> None:
        """Has something said beside the count."""
        self.notes.append(words)

    @property
    def passed(self) -> bool:
        """Whether something was tried, and all of it was good."""
        return self.good == self.tried > 0

    def __str__(self) -> str:
        verdict = "ok  " if self.passed else "FAIL"
        lines = [f"{verdict} {self.part:<18} {self.good} of {self.tried} {self.what} ({seconds(self)})"]
        return "\n".join([*lines, *(f"              {words}" for words in self.notes)])


def seconds(tally: Tally) -> str:
    return f"{time.monotonic() - tally.began_s:.0f} s"


def say(line: str) -> None:
    print(line, flush=True)


def summarise(figures: list[float], unit: str = "s") -> str:
    """Returns the median and the greatest of some figures."""
    if not figures:
        return "none"
    ordered = sorted(figures)
    return f"median {ordered[len(ordered) // 2]:.2f} {unit}, most {ordered[-1]:.2f} {unit}, of {len(ordered)}"


def wait_until(happens: Callable[[], object], within_s: float, every_s: float = 0.02) -> bool:
    """Returns whether it happens in time."""
    deadline_s = time.monotonic() + within_s
    while time.monotonic() < deadline_s:
        if happens():
            return True
        time.sleep(every_s)
    return False


def complain(words: str) -> None:
    """Ends the campaign: it cannot be run here."""
    sys.exit(f"soak: {words}")
