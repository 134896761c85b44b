"""Many connections that send whatever they are told, and look at what comes back; one thread, one epoll.

What is framed as HTTP goes over connections that are kept, each waiting for its answer. What is not has a connection to
itself, and behind it a request that asks to close: whatever the server made of it, it says so and closes, or it waits
for more, and then the client leaves.
"""

import re
import select
import socket
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from benchmarks.load.answer import Answer

LAST = b"GET /health HTTP/1.1\r\nHost: soak\r\nConnection: close\r\n\r\n"
_STATUS = re.compile(rb"HTTP/1\.1 ([0-9]{3}) ")
_LENGTH = re.compile(rb"\r\ncontent-length: *([0-9]+)\r\n", re.IGNORECASE)
_READ_BYTES = 2**16


@dataclass(frozen=True)
class Reply:
    """What a good request is answered with.

    Args:
        status: Of HTTP.
        answer: What it says; None where that may change.
    """

    status: int
    answer: Answer | None

    def is_same(self, status: int, body: bytes) -> bool:
        """Tells whether it was answered so again."""
        return status == self.status and (self.answer is None or self.answer.is_same(body))


@dataclass(frozen=True)
class Probe:
    """What is sent.

    Args:
        data: All of it.
        words: What it is, for whoever looks for a fault.
        is_framed: Whether one answer is due for it, over a connection that goes on.
        good: What it has to be answered with, where it was not spoiled.
    """

    data: bytes
    words: str
    is_framed: bool = True
    good: Reply | None = None


@dataclass(frozen=True)
class Heard:
    """What came back.

    Args:
        statuses: Of all answers.
        body: Of the last one, where it is framed.
        trouble: What went wrong with the connection, in words.
    """

    statuses: tuple[int, ...]
    body: bytes = b""
    trouble: str = ""


Listen = Callable[[Probe, Heard], None]


@dataclass
class _Line:
    """A connection and what is under way on it."""

    link: socket.socket
    probe: Probe
    unsent: memoryview
    since_s: float
    received: bytearray = field(default_factory=bytearray)
    is_hung_up: bool = False


class Prober:
    """Sends probes, several at a time.

    Args:
        address: Of the server.
        listen: Is told of each.
        lines: How many connections there are.
        patience_s: How long an answer that is due may take.
        linger_s: How long a connection is kept on which nothing is due.
    """

    def __init__(
        self,
        address: tuple[str, int],
        listen: Listen,
        *,
        lines: int = 48,
        patience_s: float = 20.0,
        linger_s: float = 0.4,
    ) -> None:
        self._address, self._listen, self._lines = address, listen, lines
        self._patience_s, self._linger_s = patience_s, linger_s
        self._epoll = select.epoll()
        self._busy: dict[int, _Line] = {}
        self._idle: deque[socket.socket] = deque()

    def run(self, probes: Iterable[Probe]) -> None:
        """Sends all of them, and waits for what is due."""
        source = iter(probes)
        try:
            while self._fill(source) or self._busy:
                for descriptor, events in self._epoll.poll(0.02):
                    if descriptor in self._busy:
                        self._advance(self._busy[descriptor], events)
                self._hang_up_late()
        finally:
            self._close()

    def _fill(self, source: Iterator[Probe]) -> bool:
        """Gives every free connection something to send; returns whether there may be more."""
        while len(self._busy) < self._lines:
            probe = next(source, None)
            if probe is None:
                return False
            self._begin(probe)
        return True

    # === A probe ===

    def _begin(self, probe: Probe) -> None:
        link = self._idle.popleft() if probe.is_framed and self._idle else self._connect()
        data = probe.data if probe.is_framed else probe.data + LAST
        line = self._busy[link.fileno()] = _Line(link, probe, memoryview(data), time.monotonic())
        self._epoll.register(link.fileno(), select.EPOLLIN)
        self._send(line)

    def _connect(self) -> socket.socket:
        link = socket.create_connection(self._address, timeout=10)
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        link.setblocking(False)
        return link

    def _advance(self, line: _Line, events: int) -> None:
        if events & select.EPOLLOUT:
            self._send(line)
        if events & ~select.EPOLLOUT:
            self._receive(line)

    def _send(self, line: _Line) -> None:
        try:
            line.unsent = line.unsent[line.link.send(line.unsent) :]
        except BlockingIOError:
            pass
        except OSError:  # the server has heard enough; what it said is still to be read
            line.unsent = line.unsent[:0]
        self._epoll.modify(line.link.fileno(), select.EPOLLIN | (select.EPOLLOUT if line.unsent else 0))

    def _receive(self, line: _Line) -> None:
        try:
            data = line.link.recv(_READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        line.received += data
        if not line.probe.is_framed:
            if not data:
                self._end(line, Heard(_read_statuses(line.received)))
            return
        heard = _read_answer(line.received)
        if heard is not None:
            self._end(line, heard, is_kept=bool(data) and b"\r\nConnection: close\r\n" not in line.received)
        elif not data:
            self._end(line, Heard(_read_statuses(line.received), trouble="closed without a whole answer"))

    def _end(self, line: _Line, heard: Heard, *, is_kept: bool = False) -> None:
        del self._busy[line.link.fileno()]
        self._epoll.unregister(line.link.fileno())
        if is_kept and not line.unsent:
            self._idle.append(line.link)
        else:
            line.link.close()
        self._listen(line.probe, heard)

    def _hang_up_late(self) -> None:
        now_s = time.monotonic()
        for line in list(self._busy.values()):
            if not line.probe.is_framed and now_s - line.since_s > self._linger_s:
                self._end(line, Heard(_read_statuses(line.received)))
            elif now_s - line.since_s > self._patience_s:
                self._end(line, Heard((), trouble=f"no answer within {self._patience_s:g} s"))

    def _close(self) -> None:
        for link in (*self._idle, *(line.link for line in self._busy.values())):
            link.close()
        self._epoll.close()


def _read_statuses(received: bytes | bytearray) -> tuple[int, ...]:
    return tuple(int(status) for status in _STATUS.findall(received))


def _read_answer(received: bytearray) -> Heard | None:
    """Returns the answer, once it is whole; what only tells to go on is passed over."""
    start = 0
    while True:
        end = received.find(b"\r\n\r\n", start)
        if end < 0:
            return None
        status = int(received[start + 9 : start + 12])
        if status >= 200:
            break
        start = end + 4
    length = _LENGTH.search(received, start, end + 2)
    body = bytes(received[end + 4 :])
    size = int(length[1]) if length else 0
    return Heard((status,), body[:size]) if len(body) >= size else None
