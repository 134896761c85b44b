"""Host 0 of a launch, or the only one: decides when all ranks start, stop, start again, and how it ends."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count

from bmp.distribution.heartbeat import Beat
from bmp.distribution.launch.crew import Crew, say_workers
from bmp.distribution.launch.gang import Gang, say_end
from bmp.distribution.launch.messages import Finish
from bmp.distribution.launch.options import Options
from bmp.distribution.launch.progress import Screen
from bmp.distribution.launch.rendezvous import Door
from bmp.distribution.launch.roles import Share, build_spec, list_roles
from bmp.distribution.launch.signals import Signals, Stopped
from bmp.distribution.launch.site import PERMANENT, Assignment, Report, Site, Trouble

TICK_S = 0.05


@dataclass(frozen=True)
class Ending:
    """How a launch ends.

    Args:
        code: The exit code.
        reason: In one sentence.
        reports: The ranks whose last lines say more.
    """

    code: int
    reason: str
    reports: Sequence[Report] = ()


class Leader:
    """Leads a launch to its end.

    Args:
        options: What was asked for.
        gang: The ranks of this host.
        door: Where other hosts come in; None if this is the only one.
        screen: What people see.
        signals: Who may ask to stop.
    """

    def __init__(self, options: Options, gang: Gang, door: Door | None, screen: Screen, signals: Signals) -> None:
        self._options = options
        self._gang = gang
        self._door = door
        self._screen = screen
        self._signals = signals
        self._crew = Crew(options)
        self._sites: dict[int, Site] = {0: gang}
        self._best_step = 0

    def lead(self) -> Ending:
        """Starts the ranks, again and again if need be, until there is an end."""
        try:
            ending = self._repeat()
        except Stopped as stopped:
            self._screen.say(f"{stopped}: stopping all ranks within {self._options.grace_s:g} s; once more: at once")
            self._stop(hung=False)
            ending = Ending(
                stopped.code, f"stopped by {stopped}; the same command with --run-dir {self._options.run_dir} goes on"
            )
        if self._door is not None:
            for site in self._door.sites.values():
                site.send(Finish(code=ending.code, reason=ending.reason[:1000]))
        return ending

    def _repeat(self) -> Ending:
        for attempt in count():
            ending = self._gather(attempt) or self._judge(attempt, self._try(attempt))
            if ending is not None:
                return ending
        raise AssertionError("restarts are counted")

    def _gather(self, attempt: int) -> Ending | None:
        """Waits for the hosts and goes on with those that came in time, if they are enough."""
        self._sites = {0: self._gang}
        if self._door is None:
            return None
        within_s = self._options.join_timeout_s if attempt else self._options.start_timeout_s
        wanted = self._crew.share(range(len(self._options.hosts))).keys()
        deadline_s = time.monotonic() + within_s
        self._door.forget_lost()
        while time.monotonic() < deadline_s and not wanted <= {0, *self._door.sites}:
            self._tick()
            self._door.forget_lost()
        self._sites |= {index: site for index, site in self._door.sites.items() if index in wanted}
        missing = [f"{index} ({self._options.hosts[index].address})" for index in sorted(wanted - self._sites.keys())]
        return self._go_without(", ".join(missing), within_s) if missing else None

    def _go_without(self, missing: str, within_s: float) -> Ending | None:
        workers, least = self._crew.count_workers(self._sites), self._options.min_workers
        if workers < least:
            reason = (
                f"host {missing} did not come within {within_s:g} s; {say_workers(workers)} left of the {least} needed"
            )
            return Ending(1, f"{reason}. Give the same command there, or a lower MIN in --workers MIN:MAX")
        self._screen.say(f"host {missing} did not come within {within_s:g} s: going on with {say_workers(workers)}")
        return None

    def _try(self, attempt: int) -> tuple[int, Trouble] | None:
        """Runs all ranks until they have ended; returns what went wrong first, and on which host."""
        shares = self._crew.share(self._sites)
        self._sites = {host: self._sites[host] for host in shares}
        for host, site in self._sites.items():
            site.ask_ports(shares[host].total, attempt)
        found = self._wait_for_ports()
        if found is None:
            self._start(attempt, shares)
            found = self._watch()
        self._stop(hung=found is not None and found[1].hung)
        self._screen.clear()
        self._signals.check()
        return found

    def _wait_for_ports(self) -> tuple[int, Trouble] | None:
        found = None
        while found is None and any(site.ports is None for site in self._sites.values()):
            self._tick()
            found = self._find_trouble()
        return found

    def _start(self, attempt: int, shares: Mapping[int, Share]) -> None:
        ports = {host: site.ports or [] for host, site in self._sites.items()}
        addresses = {host: self._options.hosts[host].in_spec for host in shares}
        spec = build_spec(shares, addresses, ports)
        for host, site in self._sites.items():
            site.start(Assignment(attempt, list_roles(shares, host), spec))

    def _watch(self) -> tuple[int, Trouble] | None:
        """Once the chief has ended well, what the others do is of no matter; they get the grace to end as well."""
        done_s = None
        while any(site.running for site in self._sites.values()):
            self._tick()
            if self._gang.chief_is_done:
                done_s = done_s or time.monotonic()
                if self._options.ps or time.monotonic() - done_s > self._options.grace_s:
                    return None
            elif found := self._find_trouble():
                return found
        return None

    def _find_trouble(self) -> tuple[int, Trouble] | None:
        return next(((host, site.trouble) for host, site in self._sites.items() if site.trouble), None)

    def _stop(self, hung: bool) -> None:
        """Stops the ranks of every host and waits for it; a second signal kills them."""
        for site in self._sites.values():
            if site.running:
                site.stop(hung)
        killed = False
        while any(site.running for site in self._sites.values()):
            if self._signals.at_once and not killed:
                killed = True
                for site in self._sites.values():
                    site.kill()
            self._look()

    def _tick(self) -> None:
        self._look()
        if any(site.running for site in self._sites.values()):
            self._screen.update(self._beats())
        self._signals.check()

    def _look(self) -> None:
        time.sleep(TICK_S)
        sites = list(self._sites.values())
        if self._door is not None:
            self._door.poll()
            sites += (site for site in self._door.sites.values() if site not in sites)  # those that wait
        for site in sites:
            site.poll()

    def _beats(self) -> dict[str, Beat]:
        return {name: beat for site in self._sites.values() for name, beat in site.beats.items()}

    def _judge(self, attempt: int, found: tuple[int, Trouble] | None) -> Ending | None:
        """Returns the end, or None for another attempt."""
        reports = [report for site in self._sites.values() for report in site.reports]
        if found is None or self._gang.chief_is_done:
            beat = next(iter(self._gang.beats.values()), None)
            restarts = f", after {attempt} restart{'s' * (attempt > 1)}" if attempt else ""
            return Ending(0, "finished" + (f" at step {beat.step:,}" if beat else "") + restarts)
        if permanent := next((report for report in reports if report.code in PERMANENT), None):
            reason = f"{permanent.name} {say_end(permanent.code)}, so it was not restarted"
            return Ending(permanent.code, reason, [permanent])
        host, trouble = found
        step = max([0, *(report.step for report in reports), *(beat.step for beat in self._beats().values())])
        reason = f"{trouble.cause}, at step {step:,}"
        if attempt >= self._options.max_restarts:
            return Ending(
                trouble.code, f"{reason}, after {attempt} restart{'s' * (attempt != 1)} (--max-restarts)", reports
            )
        dropped = self._crew.note_failure(host, trouble, step > self._best_step, self._sites)
        self._best_step = max(step, self._best_step)
        again = f"restart {attempt + 1} of {self._options.max_restarts}"
        self._screen.say(f"{reason}; {again}" + (f". {dropped}" if dropped else ""))
        return None
