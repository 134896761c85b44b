"""Host 0's side of the other hosts: they come to its door, and each that is let in is a site."""

import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bmp.distribution.heartbeat import Beat
from bmp.distribution.launch.connection import Connection, listen
from bmp.distribution.launch.messages import (
    VERSION,
    Alive,
    AllEnded,
    AskPorts,
    Failed,
    Join,
    Kill,
    Leave,
    Message,
    Ports,
    Rank,
    Refused,
    Start,
    Stop,
)
from bmp.distribution.launch.options import Options
from bmp.distribution.launch.progress import Screen
from bmp.distribution.launch.site import Assignment, Report, Trouble
from bmp.errors import ConfigError

_MAX_STRANGERS = 64
_STRANGER_S = 5.0


class RemoteSite:
    """A host at the other end of a connection.

    Args:
        connection: The way to it.
        silence_s: How long it may be silent.
    """

    def __init__(self, connection: Connection, silence_s: float) -> None:
        self.trouble: Trouble | None = None
        self.ports: list[int] | None = None
        self.leaving = False
        self._connection = connection
        self._silence_s = silence_s
        self._attempt = -1
        self._asked = 0
        self._running = False
        self._reports: list[Report] = []
        self._beats: dict[str, Beat] = {}

    @property
    def lost(self) -> bool:
        """Whether there is no way to it any more."""
        return self._connection.lost is not None

    @property
    def beats(self) -> Mapping[str, Beat]:
        """What each of its ranks said last."""
        return self._beats

    @property
    def running(self) -> bool:
        """Whether one of its ranks has not ended; a host that is lost stops its ranks by itself."""
        return self._running and not self.lost

    @property
    def reports(self) -> Sequence[Report]:
        """What became of its ranks."""
        return self._reports

    def ask_ports(self, count: int, attempt: int) -> None:
        """Asks for ports; they come later."""
        self.ports, self.trouble = None, None
        self._attempt, self._asked, self._reports, self._beats = attempt, count, [], {}
        self._connection.send(AskPorts(attempt=attempt, count=count))

    def start(self, assignment: Assignment) -> None:
        """Has it start its ranks."""
        self._running = True
        ranks = [Rank(job=role.job, index=role.index) for role in assignment.roles]
        spec = {job: list(addresses) for job, addresses in assignment.spec.items()}
        self._connection.send(Start.model_validate({"attempt": assignment.attempt, "ranks": ranks, "spec": spec}))

    def stop(self, hung: bool) -> None:
        """Has it stop its ranks."""
        self._connection.send(Stop(hung=hung))

    def kill(self) -> None:
        """Has it kill its ranks."""
        self._connection.send(Kill())

    def send(self, message: Message) -> None:
        """Says something else."""
        self._connection.send(message)

    def poll(self) -> None:
        """Takes in what it has said."""
        self._connection.say_alive(Alive())
        for message in self._connection.receive():
            self._take(message)
        self._connection.check_silence(self._silence_s)
        if self._connection.lost and self.trouble is None:
            self.trouble = Trouble(f"{self._connection.peer} {self._connection.lost}")

    def _take(self, message: Message) -> None:
        match message:
            case Alive():
                self._beats = {
                    where.name: Beat(where.phase, where.step, where.total_steps, where.figures)
                    for where in message.ranks
                }
            case Ports() if message.attempt == self._attempt and len(message.ports) == self._asked:
                self.ports = message.ports
            case Failed() if message.attempt == self._attempt and self.trouble is None:
                self.trouble = Trouble(message.cause, message.rank, message.code, message.hung)
            case AllEnded() if message.attempt == self._attempt:
                self._reports = [Report(r.name, r.code, r.step, r.log, tuple(r.lines)) for r in message.ranks]
                self._running = False
            case Leave():
                self.leaving = True
                self.trouble = self.trouble or Trouble(f"{self._connection.peer} was asked to stop")
            case _:
                pass  # of an earlier attempt

    def close(self) -> None:
        """Ends the connection, once it has taken what it was sent."""
        self._connection.close(linger_s=2)


@dataclass
class _Stranger:
    connection: Connection
    since_s: float


class Door:
    """Where the other hosts come to.

    Args:
        options: This launch, which is the only one that is let in.
        screen: Where refusals are told.

    Raises:
        ConfigError: The address cannot be listened on.
    """

    def __init__(self, options: Options, screen: Screen) -> None:
        self.sites: dict[int, RemoteSite] = {}
        self._options = options
        self._screen = screen
        self._strangers: list[_Stranger] = []
        host = options.hosts[0]
        try:
            self._listener = listen(host.address, host.port)
        except OSError as error:
            raise ConfigError(
                f"Cannot listen on {host.in_spec}:{host.port} for the other hosts: {error.strerror or error}. "
                "Name another port in --hosts, on every host."
            ) from error

    def poll(self) -> None:
        """Lets in who belongs here; forgets hosts that are lost."""
        self._accept()
        for stranger in self._strangers:
            self._greet(stranger)
        self._strangers = [stranger for stranger in self._strangers if stranger.connection.lost is None]

    def forget_lost(self) -> None:
        """Takes hosts out that are lost or leaving; called between attempts."""
        for index, site in list(self.sites.items()):
            if site.lost or site.leaving:
                site.close()
                del self.sites[index]

    def _accept(self) -> None:
        while len(self._strangers) < _MAX_STRANGERS:
            try:
                sock, address = self._listener.accept()
            except BlockingIOError:
                return
            self._strangers.append(_Stranger(Connection(sock, str(address[0])), time.monotonic()))

    def _greet(self, stranger: _Stranger) -> None:
        connection = stranger.connection
        messages = connection.receive()
        if time.monotonic() - stranger.since_s > _STRANGER_S:
            connection.close()
            connection.lost = "did not say who it is"
        if connection.lost:
            self._screen.say(f"{connection.peer} came to the door and {connection.lost}")
        elif messages:
            self._admit(connection, messages[0])
            self._strangers = [other for other in self._strangers if other is not stranger]

    def _admit(self, connection: Connection, message: Message) -> None:
        refusal = self._find_refusal(message)
        if refusal is not None:
            connection.send(refusal)
            connection.close(linger_s=0.5)
            if refusal.final:
                self._screen.say(f"{connection.peer} was refused: {refusal.reason}")
            return
        assert isinstance(message, Join)
        connection.trust()
        connection.peer = f"host {message.index} ({self._options.hosts[message.index].address})"
        self.sites[message.index] = RemoteSite(connection, self._options.peer_timeout_s)
        self._screen.say(f"{connection.peer} has joined")

    def _find_refusal(self, message: Message) -> Refused | None:
        if not isinstance(message, Join):
            return Refused(reason="The first thing to say is join.", final=True)
        if message.version != VERSION:
            reason = f"Host 0 speaks version {VERSION} and this one {message.version}; install the same bmp on both."
            return Refused(reason=reason, final=True)
        if message.token != self._options.token:
            reason = (
                "Host 0 launches something else: the script, its arguments, the run directory, --hosts, --workers "
                f"and --ps must be the same on every host ({self._options.token} there, {message.token} here)."
            )
            return Refused(reason=reason[:1000], final=True)
        if not 1 <= message.index < len(self._options.hosts):
            return Refused(reason=f"There is no host {message.index} to join.", final=True)
        present = self.sites.get(message.index)
        if present is not None and not present.lost:
            reason = f"Host {message.index} has joined already, from another launcher."
            return Refused(reason=reason, final=False)
        return None

    def close(self) -> None:
        """Closes the door; those inside are told to go by whoever has let them in."""
        for stranger in self._strangers:
            stranger.connection.close()
        for site in self.sites.values():
            site.close()
        self._listener.close()


def connect(options: Options, within_s: float) -> Connection:
    """Returns a connection to host 0.

    Raises:
        OSError: It does not answer.
    """
    host = options.hosts[0]
    source = (options.address, 0)
    sock = socket.create_connection((host.address, host.port), timeout=within_s, source_address=source)
    connection = Connection(sock, f"host 0 ({host.in_spec}:{host.port})")
    connection.trust()
    connection.send(Join(version=VERSION, token=options.token, index=options.host_index))
    return connection
