"""One launch on this host, from its first rank to its exit code."""

from contextlib import ExitStack

from bmp.distribution.launch.follower import Follower
from bmp.distribution.launch.gang import Gang
from bmp.distribution.launch.leader import Ending, Leader
from bmp.distribution.launch.options import Options
from bmp.distribution.launch.progress import Screen
from bmp.distribution.launch.rank import Keeper
from bmp.distribution.launch.rendezvous import Door
from bmp.distribution.launch.signals import Signals
from bmp.errors import TrainingError


def launch(options: Options) -> int:
    """Starts the ranks of this host and keeps them going to the end.

    Must be called from the main thread, with no other thread running: ranks are forked, and bound to it.

    Returns:
        The exit code: 0; that of the rank that failed; 143, 130 or 129 when stopped by SIGTERM, SIGINT or SIGHUP.

    Raises:
        ConfigError: The port for the other hosts cannot be listened on.
        TrainingError: There are no free ports, a rank cannot be started, or a log cannot be written.
    """
    try:
        return _launch(options)
    except OSError as error:
        raise TrainingError(f"The launcher cannot go on, and has ended all ranks of this host: {error}.") from error


def _launch(options: Options) -> int:
    with Signals() as signals, Screen() as screen, Keeper() as keeper:
        gang = Gang(options, keeper, screen)
        screen.say(f"run directory {options.run_dir}, logs in {options.run_dir / 'logs'}")
        ending = _run(options, gang, screen, signals)
        screen.clear()
        _tell(ending, screen)
        return ending.code


def _run(options: Options, gang: Gang, screen: Screen, signals: Signals) -> Ending:
    if options.host_index > 0:
        return Follower(options, gang, screen, signals).follow()
    with ExitStack() as stack:
        door = None
        if len(options.hosts) > 1:
            door = Door(options, screen)
            stack.callback(door.close)
        return Leader(options, gang, door, screen, signals).lead()


def _tell(ending: Ending, screen: Screen) -> None:
    for report in ending.reports:
        screen.quote(report.name, f"the last lines of {report.log}:")
        for line in report.lines:
            screen.quote(report.name, f"  {line}")
    screen.say(f"{ending.reason}." if ending.code == 0 else f"{ending.reason}. Exit code {ending.code}.")
