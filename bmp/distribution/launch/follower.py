"""Every host but the first: does what host 0 says, and stops its ranks when host 0 is gone."""

import time

from bmp.distribution.heartbeat import Beat
from bmp.distribution.launch.connection import Connection
from bmp.distribution.launch.gang import Gang
from bmp.distribution.launch.leader import TICK_S, Ending
from bmp.distribution.launch.messages import (
    Alive,
    AllEnded,
    AskPorts,
    Ended,
    Failed,
    Finish,
    Kill,
    Leave,
    Message,
    Ports,
    Refused,
    Start,
    Stop,
    Where,
)
from bmp.distribution.launch.options import Options
from bmp.distribution.launch.progress import Screen
from bmp.distribution.launch.rendezvous import connect
from bmp.distribution.launch.roles import Role
from bmp.distribution.launch.signals import Signals, Stopped
from bmp.distribution.launch.site import Assignment

_CONNECT_S = 2.0
_RETRY_S = 0.5


class Follower:
    """Follows host 0 to the end.

    Args:
        options: What was asked for, the same as on host 0.
        gang: The ranks of this host.
        screen: What people see.
        signals: Who may ask to stop.
    """

    def __init__(self, options: Options, gang: Gang, screen: Screen, signals: Signals) -> None:
        self._options = options
        self._gang = gang
        self._screen = screen
        self._signals = signals
        self._connection: Connection | None = None
        self._joined = False
        self._attempt = -1
        self._to_tell: set[str] = set()

    def follow(self) -> Ending:
        """Joins, as often as need be, and runs ranks until host 0 says that it is over."""
        try:
            return self._repeat()
        except Stopped as stopped:
            self._screen.say(f"{stopped}: stopping the ranks of this host; once more: at once")
            if self._connection is not None and self._connection.lost is None:
                self._connection.send(Leave())
            self._stop()
            return Ending(stopped.code, f"stopped by {stopped}; the other hosts go on without this one if they can")
        finally:
            if self._connection is not None:
                self._connection.close(linger_s=1)

    def _repeat(self) -> Ending:
        within_s, why = self._options.start_timeout_s, "it does not answer"
        deadline_s = time.monotonic() + within_s
        while time.monotonic() < deadline_s:
            try:
                self._connection = connect(self._options, _CONNECT_S)
            except OSError as error:
                why = str(error.strerror or error)
                self._pause()
                continue
            ending = self._obey(self._connection)
            if ending is not None:
                return ending
            why = f"it {self._connection.lost}"
            if self._joined:
                self._joined, within_s = False, self._options.join_timeout_s
                deadline_s = time.monotonic() + within_s
                self._screen.say(f"{self._connection.peer} {self._connection.lost}; trying to join it again")
            self._pause()
        host = self._options.hosts[0]
        where = f"host 0 ({host.in_spec}:{host.port})"
        return Ending(1, f"{where} could not be joined within {within_s:g} s: {why}. Does its launcher run?")

    def _pause(self) -> None:
        time.sleep(_RETRY_S)
        self._signals.check()

    def _obey(self, connection: Connection) -> Ending | None:
        """Does what host 0 says until it says that it is over; None if it is lost, and then no rank is left."""
        while connection.lost is None:
            time.sleep(TICK_S)
            for message in connection.receive():
                ending = self._take(message, connection)
                if ending is not None:
                    self._stop()
                    return ending
            self._look(connection)
            self._screen.update(self._gang.beats)
            self._signals.check()
        self._stop()
        return None

    def _look(self, connection: Connection) -> None:
        """Looks at the ranks, and tells host 0 what it must know."""
        self._gang.poll()
        trouble = self._gang.trouble
        if trouble is not None and "failure" in self._to_tell:
            self._to_tell.discard("failure")
            said = {"cause": trouble.cause[:1000], "rank": trouble.rank, "code": trouble.code, "hung": trouble.hung}
            connection.send(Failed.model_validate({"attempt": self._attempt, **said}))
        if not self._gang.running and "end" in self._to_tell:
            self._to_tell.discard("end")
            self._screen.clear()
            ranks = [
                Ended(name=report.name, code=report.code, step=report.step, log=report.log, lines=list(report.lines))
                for report in self._gang.reports
            ]
            connection.send(AllEnded(attempt=self._attempt, ranks=ranks))
        connection.say_alive(Alive(ranks=[_describe(name, beat) for name, beat in self._gang.beats.items()]))
        connection.check_silence(self._options.peer_timeout_s)

    def _take(self, message: Message, connection: Connection) -> Ending | None:
        self._joined |= not isinstance(message, Refused)
        match message:
            case Refused() if message.final:
                return Ending(2, f"{connection.peer} refused this one. {message.reason}")
            case Refused():
                connection.lost = f"refused this one: {message.reason}"
            case AskPorts():
                self._gang.ask_ports(message.count, message.attempt)
                connection.send(Ports(attempt=message.attempt, ports=self._gang.ports or []))
            case Start():
                self._start(message)
            case Stop():
                self._gang.stop(message.hung)
            case Kill():
                self._gang.kill()
            case Finish():
                return Ending(message.code, f"{message.reason} (as host 0 says)")
            case _:
                pass  # a sign of life
        return None

    def _start(self, message: Start) -> None:
        self._attempt, self._to_tell = message.attempt, {"failure", "end"}
        spec: dict[str, list[str]] = dict(message.spec.items())
        roles = [Role(rank.job, rank.index) for rank in message.ranks]
        self._gang.start(Assignment(message.attempt, roles, spec))

    def _stop(self) -> None:
        """Stops the ranks and waits for it; host 0 is told meanwhile if it can be."""
        self._gang.stop(hung=False)
        killed = False
        while self._gang.running:
            time.sleep(TICK_S)
            if self._signals.at_once and not killed:
                killed = True
                self._gang.kill()
            self._report()
        self._report()
        self._screen.clear()

    def _report(self) -> None:
        connection = self._connection
        if connection is None or connection.lost is not None:
            self._gang.poll()
            return
        connection.receive()  # whatever it asks for now, the ranks are being stopped
        self._look(connection)


def _describe(name: str, beat: Beat) -> Where:
    figures = dict(list(beat.figures.items())[:64])
    return Where(name=name, phase=beat.phase, step=beat.step, total_steps=beat.total_steps, figures=figures)
