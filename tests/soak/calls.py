"""Every system call of the writing of a checkpoint, struck in turn: the process killed there, or the call failed."""

import random
import re
import shutil
from pathlib import Path

import numpy as np

from bmp.errors import CheckpointError
from bmp.training.checkpoint import Checkpoint, CheckpointStore
from tests.soak.strikes import DONE, REFUSED, Strike, check_strace, count_calls, list_strikes, make_struck, note_calls
from tests.soak.tally import Tally

_STEPS = (10, 20, 30)
_NEW, _NEXT = 40, 50


def strike(root: Path, rng: random.Random, rounds: int) -> Tally:
    """Strikes everywhere, and looks at what is left."""
    check_strace()
    tally = Tally("calls", "strikes left the old checkpoint or the new one, said so, and let the next be written")
    counts = count_calls(_Writing(root / "store"), root / "trace.txt")
    strikes = list_strikes(counts) * rounds
    rng.shuffle(strikes)
    for found in strikes:
        trouble = _try(root / "store", found)
        tally.add(not trouble, f"{found}: {trouble}")
    note_calls(tally, "one write", counts)
    shutil.rmtree(root / "store", ignore_errors=True)
    return tally


class _Writing:
    """The change that is struck: the next checkpoint, in a store of three and what a killed write has left."""

    def __init__(self, directory: Path) -> None:
        shutil.rmtree(directory, ignore_errors=True)
        self.store = CheckpointStore(directory)
        for step in _STEPS:
            self.store.write(_make(step))
        shutil.copytree(self.store.paths()[0], directory / f".step-{_NEW:012d}-0123456789abcdef")

    def __call__(self) -> None:
        self.store.write(_make(_NEW))


def _try(directory: Path, found: Strike) -> str:
    """Strikes once; returns what is wrong afterwards."""
    writing = _Writing(directory)
    code, sentence, trouble = make_struck(writing, found)
    if trouble:
        return trouble
    if code == REFUSED and not re.search(r"step 40 could not be written to .*Earlier checkpoints are intact", sentence):
        return f"the sentence is: {sentence}"
    try:
        return _look(writing.store, must_be_new=code == DONE) or _go_on(writing.store)
    except CheckpointError as error:
        return error.message


def _look(store: CheckpointStore, *, must_be_new: bool) -> str:
    newest, problems = store.read_newest()
    if problems:
        return " ".join(problems)
    if newest is None or not _is_sound(newest):
        return "what is read was never written"
    if newest.step not in ((_NEW,) if must_be_new else (_STEPS[-1], _NEW)):
        return f"the newest is of step {newest.step}"
    return ""


def _go_on(store: CheckpointStore) -> str:
    """Writes the next one, as a resumed run does; nothing may be left but the three newest."""
    store.write(_make(_NEXT))
    left = sorted(path.name for path in store.directory.iterdir())
    if len(left) != store.keep or any(name.startswith(".") for name in left):
        return f"after the next write there are {left}"
    return _look_at_next(store)


def _look_at_next(store: CheckpointStore) -> str:
    newest, problems = store.read_newest()
    return "" if newest is not None and newest.step == _NEXT and not problems else "the next one is not there"


def _make(step: int) -> Checkpoint:
    arrays = {f"weight/{number:04d}": np.full((50, 7), step + number, np.float32) for number in range(4)}
    return Checkpoint(step, {"finished": False, "observers": {}}, arrays)


def _is_sound(checkpoint: Checkpoint) -> bool:
    wanted = _make(checkpoint.step).arrays
    return checkpoint.arrays.keys() == wanted.keys() and all(
        np.array_equal(checkpoint.arrays[name], array) for name, array in wanted.items()
    )
