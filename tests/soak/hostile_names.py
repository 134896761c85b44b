"""Thousands of hostile strings over every argument that takes a name: nothing escapes, and each ends in a sentence."""

import contextlib
import random
from pathlib import Path

from tests.hostile.arguments import ARGUMENTS, Ground, describe, try_name
from tests.hostile.names import make_names
from tests.soak.tally import Tally


def try_names(root: Path, rng: random.Random, strings: int) -> Tally:
    """Tries each string on every argument, and looks outside after each."""
    tally = Tally("hostile-names", f"strings, each in {len(ARGUMENTS)} arguments, did not escape: 0 escapes")
    ground = Ground(root / "ground")
    with contextlib.chdir(ground.here):
        for text in make_names(rng, strings):
            wrong = try_name(ground, text)
            tally.add(not wrong, f"{text!r}: {describe(wrong)!a}")
    tally.note(f"{strings * len(ARGUMENTS):,} tries; each ended well, or in a sentence")
    return tally
