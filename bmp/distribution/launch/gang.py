"""The ranks of this host: started together, stopped together."""

import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from bmp.distribution.cluster import Cluster
from bmp.distribution.heartbeat import Beat
from bmp.distribution.launch.cores import describe_pools, divide_cores
from bmp.distribution.launch.gpus import divide_gpus, list_gpus
from bmp.distribution.launch.options import Options
from bmp.distribution.launch.ports import choose_ports
from bmp.distribution.launch.progress import Screen
from bmp.distribution.launch.rank import Keeper, Rank, Start
from bmp.distribution.launch.roles import Role
from bmp.distribution.launch.site import PERMANENT, Assignment, Report, Trouble
from bmp.distribution.launch.watch import Watch

_DUMP_S = 1.0
_LOST_S = 5.0


class Gang:
    """The site that is this host.

    Args:
        options: What to start, and how.
        keeper: Who kills the ranks if this process cannot.
        screen: Where the chief's lines are shown.
    """

    def __init__(self, options: Options, keeper: Keeper, screen: Screen) -> None:
        self.trouble: Trouble | None = None
        self.ports: list[int] | None = None
        self._options = options
        self._keeper = keeper
        self._screen = screen
        self._used_ports: set[int] = set()
        self._ranks: list[Rank] = []
        self._watches: dict[str, Watch] = {}
        self._to_send: list[tuple[float, signal.Signals]] | None = None

    @property
    def beats(self) -> Mapping[str, Beat]:
        """What each rank said last."""
        return {name: watch.beat for name, watch in self._watches.items() if watch.beat is not None}

    @property
    def running(self) -> bool:
        """Whether a rank has not ended."""
        return any(rank.code is None for rank in self._ranks)

    @property
    def chief_is_done(self) -> bool:
        """Whether the first rank, which is the chief on the first host, has ended well."""
        return bool(self._ranks) and self._ranks[0].code == 0

    @property
    def reports(self) -> Sequence[Report]:
        """What became of the ranks that have ended."""
        return [self._report(rank, rank.code) for rank in self._ranks if rank.code is not None]

    def _report(self, rank: Rank, code: int) -> Report:
        beat = self.beats.get(rank.role.name, Beat("starting"))
        return Report(rank.role.name, code, beat.step, str(rank.log), tuple(rank.read_tail()))

    def ask_ports(self, count: int, attempt: int) -> None:
        """Forgets the last attempt, and chooses ports that this launch has not used: its may still be spoken to."""
        self.trouble, self._to_send, self._ranks, self._watches = None, None, [], {}
        self.ports = choose_ports(self._options.address, count, self._used_ports)
        self._used_ports.update(self.ports)

    def start(self, assignment: Assignment) -> None:
        """Starts the ranks.

        Raises:
            ConfigError: There are not GPUs for all workers.
            OSError: One cannot be started, or its log cannot be written.
        """
        directory = self._options.run_dir / "logs" / f"attempt-{assignment.attempt}"
        directory.mkdir(parents=True, exist_ok=True)
        jobs = [role.job for role in assignment.roles]
        cores = divide_cores(sorted(os.sched_getaffinity(0)), jobs)
        gpus = divide_gpus(list_gpus(os.environ), jobs, has_servers="ps" in assignment.spec)
        for local_rank, (role, own) in enumerate(zip(assignment.roles, cores, strict=True)):
            start = self._plan(role, own, gpus[local_rank], local_rank, assignment, directory)
            self._ranks.append(Rank(start, self._keeper))
            limits = self._options.start_timeout_s, self._options.watchdog_s
            self._watches[role.name] = Watch(*limits, time.monotonic())

    def _plan(
        self,
        role: Role,
        cores: Sequence[int],
        gpus: Mapping[str, str],
        local_rank: int,
        assignment: Assignment,
        directory: Path,
    ) -> Start:
        spec = {job: tuple(addresses) for job, addresses in assignment.spec.items()}
        cluster = Cluster(role.job, role.index, spec)
        beat_file = directory / f"{role.stem}.beat"
        told = {
            "TF_CONFIG": cluster.tf_config(),
            "TF_USE_LEGACY_KERAS": "1",
            "RANK": str(cluster.rank),
            "WORLD_SIZE": str(cluster.num_processes),
            "LOCAL_RANK": str(local_rank),
            "LOCAL_WORLD_SIZE": str(len(assignment.roles)),
            "BMP_ATTEMPT": str(assignment.attempt),
            "BMP_HEARTBEAT_FILE": str(beat_file.absolute()),
        }
        unless_set = {"TF_CPP_MIN_LOG_LEVEL": "2", "PYTHONUNBUFFERED": "1"}
        return Start(
            role,
            [sys.executable, *self._options.command],
            unless_set | dict(os.environ) | told | describe_pools(cores) | dict(gpus),
            cores,
            directory / f"{role.stem}.log",
            beat_file,
            cluster.is_chief,
        )

    def poll(self) -> None:
        """Takes in what the ranks print and say, which have ended, and what is wrong."""
        now_s = time.monotonic()
        for rank in self._ranks:
            ended_before = rank.code is not None
            self._watches[rank.role.name].see(rank.read_beat(), now_s)
            rank.poll()
            for line in rank.read_output():
                self._screen.show(rank.role.name, line)
            if rank.code is not None and not ended_before:
                rank.close()
        self.trouble = self.trouble or self._find_failure() or self._find_silence(now_s)
        self._send_what_is_due(now_s)

    def _find_failure(self) -> Trouble | None:
        """Of several that have ended since the last look, one that a restart cannot mend is the reason."""
        failed = [(rank, rank.code) for rank in self._ranks if rank.code]
        if not failed:
            return None
        rank, code = min(failed, key=lambda pair: pair[1] not in PERMANENT)
        return Trouble(f"{rank.role.name} {say_end(code)}", rank.role.name, exit_code(code))

    def _find_silence(self, now_s: float) -> Trouble | None:
        """Of several silent ranks, the one behind the others is the reason."""
        silent = [
            (watch.beat.step if watch.beat else -1, rank.role.name, words)
            for rank in self._ranks
            if rank.code is None and (words := (watch := self._watches[rank.role.name]).find_silence(now_s))
        ]
        if not silent or self._to_send is not None:
            return None
        _, name, words = min(silent)
        return Trouble(f"{name} {words}", name, hung=True)

    def stop(self, hung: bool) -> None:
        """Begins to stop the ranks: their stacks if they hang, SIGTERM, and SIGKILL after the grace."""
        if self._to_send is not None:
            return
        now_s = time.monotonic()
        term_s = now_s + (_DUMP_S if hung else 0)
        dump = [(now_s, signal.SIGUSR1)] if hung else []
        self._to_send = [*dump, (term_s, signal.SIGTERM), (term_s + self._find_grace_s(), signal.SIGKILL)]
        self._send_what_is_due(now_s)

    def _find_grace_s(self) -> float:
        """Returns how long ranks have to end: where one was lost the others wait for it, and can write nothing more."""
        is_lost = any(rank.code not in (None, 0, 143) for rank in self._ranks)
        return min(self._options.grace_s, _LOST_S) if is_lost and not self._options.ps else self._options.grace_s

    def kill(self) -> None:
        """Kills the ranks and their children at once."""
        self._to_send = [(0, signal.SIGKILL)]
        self._send_what_is_due(time.monotonic())

    def _send_what_is_due(self, now_s: float) -> None:
        while self._to_send and self._to_send[0][0] <= now_s:
            _, number = self._to_send.pop(0)
            for rank in self._ranks:
                rank.kill() if number == signal.SIGKILL else rank.send(number)


def say_end(code: int) -> str:
    """Returns how a rank ended, in words."""
    if code < 0:
        name = signal.Signals(-code).name if -code in signal.valid_signals() else f"signal {-code}"
        return f"was killed by {name}" + (" (out of memory, perhaps)" if code == -signal.SIGKILL else "")
    if code == 143:
        return "stopped after a checkpoint because something sent it SIGTERM (exit code 143)"
    return f"ended with exit code {code}" + (f", {PERMANENT[code]}" if code in PERMANENT else "")


def exit_code(code: int) -> int:
    """Returns the exit code of a shell for a process that ended so."""
    return 128 - code if code < 0 else code
