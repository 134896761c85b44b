"""An open loop: requests come at a given rate, whether the server keeps up or not, as they do from the world outside.

One thread, one epoll and plain sockets, so that it takes little of the cores that the server needs. A request is due
at a moment that was settled before, and its time counts from there: a generator that comes late makes the server look
worse, never better. What found no free connection is counted, and was not offered.
"""

import select
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import NamedTuple

Address = tuple[str, int]
IsRight = Callable[[int, bytes, bytes], bool]
"""Looks at an answer: which connection it came by, its head and its body."""
_READ_BYTES = 65536


class Phase(NamedTuple):
    """A rate for some seconds.

    Args:
        rate_per_s: Requests a second.
        seconds: For so long.
    """

    rate_per_s: float
    seconds: float


class Outcome(NamedTuple):
    """What became of a request.

    Args:
        due_s: When it had to be sent, in seconds from the start.
        took_s: From then to the end of its answer.
        status: Of HTTP; 0 where the connection was lost.
        is_right: Whether the answer is as it should be.
    """

    due_s: float
    took_s: float
    status: int
    is_right: bool


@dataclass
class Offered:
    """What came of all requests.

    Args:
        outcomes: In the order of their ends.
        missed: How many were due when no connection was free.
    """

    outcomes: list[Outcome] = field(default_factory=list)
    missed: int = 0

    def within(self, start_s: float, end_s: float) -> list[Outcome]:
        """Returns what was due in a part of the time."""
        return [outcome for outcome in self.outcomes if start_s <= outcome.due_s < end_s]


@dataclass
class _Client:
    """A connection, and what it waits for."""

    number: int
    link: socket.socket
    due_s: float = -1.0
    received: bytes = b""

    @property
    def is_idle(self) -> bool:
        return self.due_s < 0


class OpenLoop:
    """Sends the same request at one rate after another.

    Args:
        address: Of the server.
        request: The whole of it, as it travels; it has to fit into a socket's buffer.
        is_right: Judges each answer.
        connections: At most so many requests are under way.
    """

    def __init__(self, address: Address, request: bytes, is_right: IsRight, connections: int = 400) -> None:
        self._address, self._request, self._is_right = address, request, is_right
        self._epoll = select.epoll()
        self._clients: dict[int, _Client] = {}
        self._idle: deque[_Client] = deque()
        self._offered = Offered()
        self._stop = threading.Event()
        self._began_s = 0.0
        self._connected = 0
        for _ in range(connections):
            self._connect()

    def run(self, phases: Sequence[Phase], patience_s: float = 5.0) -> Offered:
        """Goes through the phases, waits for the last answers, and closes."""
        self._began_s = time.monotonic()
        ends_s = list(accumulate(phase.seconds for phase in phases))
        try:
            for phase, end_s in zip(phases, ends_s, strict=True):
                self._hold(phase, end_s)
            self._settle(self._now() + patience_s)
        finally:
            self._close()
        return self._offered

    def stop(self) -> None:
        """Has `run` skip the rest, from another thread."""
        self._stop.set()

    # === Sending ===

    def _hold(self, phase: Phase, end_s: float) -> None:
        due_s, step_s = end_s - phase.seconds, 1 / phase.rate_per_s
        while due_s < end_s and not self._stop.is_set():
            now_s = self._now()
            while due_s <= now_s and due_s < end_s:
                self._send(due_s)
                due_s += step_s
            self._receive(max(0.0, min(due_s, end_s) - now_s))

    def _send(self, due_s: float) -> None:
        if not self._idle:
            self._offered.missed += 1
            return
        client = self._idle.popleft()
        client.due_s, client.received = due_s, b""
        try:
            sent = client.link.send(self._request)
        except OSError:
            self._replace(client)
            return
        assert sent == len(self._request), "an idle connection has room for a whole request"

    def _now(self) -> float:
        return time.monotonic() - self._began_s

    # === Connections ===

    def _connect(self) -> None:
        link = socket.create_connection(self._address, timeout=10)
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        link.setblocking(False)
        client = self._clients[link.fileno()] = _Client(self._connected, link)
        self._connected += 1
        self._epoll.register(link.fileno(), select.EPOLLIN)
        self._idle.append(client)

    def _replace(self, client: _Client) -> None:
        """Takes another for a connection that the server has closed; a request that was under way is lost."""
        if client.is_idle:
            self._idle.remove(client)
        else:
            self._note(client, 0, is_right=False)
        del self._clients[client.link.fileno()]
        client.link.close()
        self._connect()

    def _close(self) -> None:
        for client in self._clients.values():
            client.link.close()
        self._epoll.close()

    # === Receiving ===

    def _receive(self, wait_s: float) -> None:
        for descriptor, _ in self._epoll.poll(wait_s):
            client = self._clients.get(descriptor)
            if client is not None:
                self._read(client)

    def _read(self, client: _Client) -> None:
        try:
            data = client.link.recv(_READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data or client.is_idle:
            self._replace(client)
            return
        client.received += data
        head, separator, body = client.received.partition(b"\r\n\r\n")
        if separator and len(body) >= _read_length(head):
            self._note(client, int(head[9:12]), is_right=self._is_right(client.number, head, body))
            self._idle.append(client)

    def _settle(self, until_s: float) -> None:
        """Waits for what is under way; what has no answer by then is lost."""
        while len(self._idle) < len(self._clients) and self._now() < until_s:
            self._receive(0.05)
        for client in self._clients.values():
            if not client.is_idle:
                self._note(client, 0, is_right=False)

    def _note(self, client: _Client, status: int, *, is_right: bool) -> None:
        self._offered.outcomes.append(Outcome(client.due_s, self._now() - client.due_s, status, is_right))
        client.due_s = -1.0


def _read_length(head: bytes) -> int:
    _, _, rest = head.lower().partition(b"\r\ncontent-length:")
    return int(rest.partition(b"\r\n")[0] or 0)


def write_request(path: str, body: bytes, content_type: str) -> bytes:
    """Returns a POST as it travels."""
    lines = [f"POST {path} HTTP/1.1", "Host: bench", f"Content-Type: {content_type}", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode() + body


def read_field(head: bytes, name: bytes) -> bytes:
    """Returns a field of an answer's head; empty where there is none. The name is in lower case."""
    start = head.lower().find(b"\r\n" + name + b":")
    return b"" if start < 0 else head[start + 3 + len(name) :].partition(b"\r\n")[0].strip()


def measure_peak(address: Address, request: bytes, is_right: IsRight, seconds: float, connections: int = 32) -> float:
    """Returns how many requests a second are answered well when each connection asks again at once."""
    never_idle = 1e5
    offered = OpenLoop(address, request, is_right, connections).run([Phase(never_idle, seconds)])
    return sum(outcome.is_right and outcome.status == 200 for outcome in offered.outcomes) / seconds


def percentile(figures: list[float], share: float) -> float:
    """Returns the figure that so great a share is at most; 0 of none."""
    return sorted(figures)[int(share * (len(figures) - 1))] if figures else 0.0
