"""`python -m tests.soak`: the campaign that tries to spoil a run, a registry and a server, whole or a part of it.

Each part prints how many of how many were good; the exit code is 1 if one was not. `SOAK_SCALE=0.1` makes it short.
"""

import os
import random
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import click

from bmp.errors import BmpError
from tests.soak.calls import strike
from tests.soak.disk import corrupt, fill
from tests.soak.hostile_files import play_all
from tests.soak.hostile_names import try_names
from tests.soak.hosts import cut
from tests.soak.kills import kill, stop
from tests.soak.registry_calls import strike_changes
from tests.soak.registry_flips import flip
from tests.soak.registry_publishes import publish
from tests.soak.registry_size import measure
from tests.soak.serving_bad import send_bad
from tests.soak.serving_storms import overload_server, reload
from tests.soak.tally import Tally, say
from tests.soak.workers import kill_workers

Part = Callable[[Path, random.Random, int], Tally]


@dataclass(frozen=True)
class Entry:
    """A part of the campaign.

    Args:
        run: Does it.
        times: How often, in a whole campaign.
        option: What is counted, as the option is called.
        help: What it does.
    """

    run: Part
    times: int
    option: str
    help: str


PARTS = {
    "calls": Entry(strike, 2, "rounds", "Strike at every system call of a checkpoint's writing."),
    "kills": Entry(kill, 100, "kills", "Kill a run of one device at random moments, until it ends."),
    "stops": Entry(stop, 20, "stops", "Ask a run to stop at random moments, until it ends."),
    "flips": Entry(corrupt, 6, "flips", "Flip a bit of a run's newest checkpoint."),
    "full": Entry(fill, 8, "disks", "Fill the disk under a run."),
    "workers": Entry(kill_workers, 20, "kills", "Kill one of two workers under bmp launch."),
    "hosts": Entry(cut, 1, "cuts", "Cut one of two hosts off."),
    "registry-publishes": Entry(publish, 2_000, "publishes", "Publish from eight processes at once."),
    "registry-calls": Entry(strike_changes, 1, "rounds", "Strike at every system call of a change to the registry."),
    "registry-size": Entry(measure, 1_000, "models", "List a large registry."),
    "registry-flips": Entry(flip, 2_000, "flips", "Flip a bit of a published model."),
    "hostile-files": Entry(play_all, 1, "rounds", "Bring in files that are made to do harm."),
    "hostile-names": Entry(try_names, 2_000, "strings", "Try hostile strings in every argument that takes a name."),
    "serving-bad": Entry(send_bad, 200_000, "requests", "Send bad requests by every door of a server."),
    "serving-reload": Entry(reload, 200, "reloads", "Replace a model of a server that is under load."),
    "serving-overload": Entry(overload_server, 30, "seconds", "Offer a server ten times what it can answer."),
}


def _scale() -> float:
    text = os.environ.get("SOAK_SCALE", "1")
    try:
        scale = float(text)
    except ValueError:
        scale = 0.0
    if not 0 < scale <= 1000:
        sys.exit(f"soak: SOAK_SCALE is '{text}'; expected a number above 0, such as 0.1 for a tenth of the campaign.")
    return scale


def _run(names: list[str], seed: int | None, counts: dict[str, int]) -> None:
    seed = int(time.time()) if seed is None else seed
    say(f"soak: seed {seed}; repeat it with --seed {seed}")
    tallies = []
    with tempfile.TemporaryDirectory(prefix="bmp-soak-", ignore_cleanup_errors=True) as root:
        for name in names:
            tallies.append(_run_part(name, Path(root) / name, random.Random(f"{seed} {name}"), counts[name]))
            say(str(tallies[-1]))
            if not tallies[-1].passed:
                kept = Path(tempfile.mkdtemp(prefix=f"bmp-soak-{name}-")) / name
                (Path(root) / name).rename(kept)
                say(f"              what it left is in {kept}")
    passed = sum(tally.passed for tally in tallies)
    say(f"soak: {passed} of {len(tallies)} parts passed, seed {seed}")
    sys.exit(0 if passed == len(tallies) else 1)


def _run_part(name: str, root: Path, rng: random.Random, times: int) -> Tally:
    root.mkdir(parents=True)
    try:
        return PARTS[name].run(root, rng, times)
    except BmpError as error:
        tally = Tally(name, "began")
        tally.add(False, error.message)
        return tally


@click.group(invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--seed", type=int, help="Of every random moment.  [the time]")
@click.pass_context
def main(context: click.Context, seed: int | None) -> None:
    """Try to spoil a run, a registry and a server, in every way that the parts know; without a part, in all of them."""
    context.obj = seed
    if context.invoked_subcommand is None:
        scale = _scale()
        _run(list(PARTS), seed, {name: max(1, round(entry.times * scale)) for name, entry in PARTS.items()})


def _add(name: str, entry: Entry) -> None:
    default = max(1, round(entry.times * _scale()))

    @main.command(name, help=entry.help)
    @click.option(f"--{entry.option}", "times", default=default, show_default=True, type=click.IntRange(1))
    @click.pass_obj
    def command(seed: int | None, times: int) -> None:
        _run([name], seed, {name: times})


if __name__ == "__main__":
    for part, entry in PARTS.items():
        _add(part, entry)
    main(prog_name="python -m tests.soak")
