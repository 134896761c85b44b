"""A run of one device, killed again and again at random moments, or asked to stop: the end is the same to the bit."""

import random
import signal
from collections import Counter
from pathlib import Path

from tests.soak.place import Place, end, is_alive_after, pick_moment, run_reference
from tests.soak.tally import Tally

_MOST_IN_A_RUN = 200


def kill(root: Path, rng: random.Random, kills: int) -> Tally:
    """Kills with SIGKILL."""
    tally = Tally("kills", "runs ended with the weights and files of the undisturbed run")
    return _disturb(tally, root, rng, kills, signal.SIGKILL)


def stop(root: Path, rng: random.Random, stops: int) -> Tally:
    """Asks with SIGTERM, and looks that the run ends as it should."""
    tally = Tally("stops", "runs ended with the weights and files of the undisturbed run; every exit code was right")
    return _disturb(tally, root, rng, stops, signal.SIGTERM)


def _disturb(tally: Tally, root: Path, rng: random.Random, times: int, number: signal.Signals) -> Tally:
    wanted, took_s = run_reference(root / "undisturbed")
    done, stages = 0, Counter[str]()
    while done < times:
        place = Place(root / f"{tally.part}-{tally.tried}")
        hits, trouble = _run_through(place, rng, times - done, took_s, number)
        trouble = trouble or place.differs_from(wanted)
        done += len(hits)
        stages.update(hits)
        tally.add(not trouble, f"{place.root}, hit {len(hits)} times: {trouble}", place.tail())
        if trouble:
            break
        place.remove()
    where = ", ".join(f"{count} in {stage}" for stage, count in stages.most_common())
    tally.note(f"{done} times {number.name}: {where}; undisturbed the run takes {took_s:.0f} s")
    return tally


def _run_through(
    place: Place, rng: random.Random, times: int, took_s: float, number: signal.Signals
) -> tuple[list[str], str]:
    """Runs to the end, hit up to so many times; returns the stage at each hit, and what went wrong."""
    hits: list[str] = []
    while len(hits) < min(times, _MOST_IN_A_RUN):
        process = place.start()
        try:
            alive = is_alive_after(process, pick_moment(rng, min(took_s, 12.0)))
        finally:
            end(process, number)
        if not alive:
            return hits, f"ended with {process.returncode}" if process.returncode else ""
        if number is signal.SIGKILL or process.returncode:  # a run that was at its very end may still end well
            hits.append(place.stage())
        if number is signal.SIGTERM and process.returncode not in (0, 143, -signal.SIGTERM):
            return hits, f"ended with {process.returncode} after SIGTERM"
        if not process.returncode:
            return hits, ""
    code = place.finish()
    return hits, f"ended with {code}" if code else ""
