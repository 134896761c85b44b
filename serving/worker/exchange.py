"""One request and the application's answer to it, as PEP 3333 (WSGI) has it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from contextvars import Context, copy_context
from functools import lru_cache
from http import HTTPStatus
from io import BytesIO
from time import monotonic
from typing import Any, Protocol

from serving.worker.framing import Refusal
from serving.worker.head import UNDECIDED, Head

NEVER = float("inf")
HIGH_WATER_BYTES = 2**20  # unsent bytes at which a streamed answer pauses
STEP_S = 0.05  # how long a streamed answer may go on before others get their turn

Headers = tuple[tuple[str, str], ...]
Reply = tuple[int, bytes, Headers]

_STATUS = re.compile(r"[2-9][0-9]{2} [\t\x20-\x7e\xa0-\xff]*")
_FIELD_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_LENGTH = re.compile(r"[0-9]{1,18}")
_FIELD_VALUE = re.compile(r"[\t\x20-\x7e\xa0-\xff]*")

# Fields of an answer that are the server's to set, not the application's.
_SERVER_FIELDS = re.compile(
    "connection|keep-alive|proxy-authenticate|proxy-authorization|te|trailers?|transfer-encoding|upgrade|server|date"
)


def _write_head(status: str, headers: Iterable[tuple[str, str]]) -> tuple[str, int | None]:
    """Returns the lines of an answer's head that the application decides, and the length that it announces."""
    if not _STATUS.fullmatch(status):
        raise ValueError(f"not a status line: {status!r}")
    length, lines = None, [f"HTTP/1.1 {status}\r\n"]
    for name, value in headers:
        folded = name.lower()
        is_length = folded == "content-length"
        if not _FIELD_NAME.fullmatch(name) or not (_LENGTH if is_length else _FIELD_VALUE).fullmatch(value):
            raise ValueError(f"not a header: {name!r}")
        if is_length:
            length = int(value)
        elif not _SERVER_FIELDS.fullmatch(folded):
            lines.append(f"{name}: {value}\r\n")
    return "".join(lines), length


@lru_cache(maxsize=256)
def _known_head(status: int, headers: Headers) -> tuple[str, bytes]:
    """Returns the status line and the head of an answer by its code and headers."""
    line = f"{status} {HTTPStatus(status).phrase}"
    return line, _write_head(line, headers)[0].encode("latin-1")


class Call(Protocol):
    """What a fast path made of a request."""

    reply: Reply | None
    """Status, body, and headers without Content-Length, of which there are few different ones; None as long as it
    waits to be run."""


class Route(Protocol):
    """How a fast path answers the requests that have the same head."""

    def begin(self, body: bytes) -> Call:
        """Takes a request."""


class FastPath(Protocol):
    """What an application may have to answer several requests at once, when all that has come has been seen."""

    def find(self, environ: dict[str, Any]) -> Route | None:
        """Returns how requests with a head are answered, or None where the application shall; asked once for each.

        Args:
            environ: What the head says; not to be changed. Only requests whose answer has a body may be taken.
        """

    def run(self) -> Iterable[Call]:
        """Runs some of those that wait, at least one, and returns them with their replies."""

    def drop(self, call: Call) -> None:
        """Lets go of one that waits."""

    def settle(self) -> None:
        """Does what can wait until nobody does, at most for a moment: the worker has nothing else to do just now."""


class Channel(Protocol):
    """What an exchange needs of the connection it came over."""

    server: Any
    exchange: Exchange | None
    keep_alive: bool
    broken: bool
    unsent: int
    template: dict[str, Any]

    def send(self, data: bytes) -> None:
        """Sends what the socket takes now and keeps the rest."""


class Exchange:
    """One request and the application's answer to it.

    Args:
        connection: That it came over.
        head: Of the request.
        body: All of it.
    """

    status = ""
    headers: Iterable[tuple[str, str]] = ()
    sent = 0
    step_started = NEVER
    _environ: dict[str, Any] | None = None
    _context: Context | None = None
    _result: Iterable[bytes] | None = None
    _pieces: Iterator[bytes] | None = None
    _head = b""
    _head_sent = _chunked = _no_body = _is_announced = False
    _length: int | None = None  # as the application announces it
    _known_length: int | None = None  # as seen from what it returns

    def __init__(self, connection: Channel, head: Head, body: bytes) -> None:
        self.head = head
        self.started = monotonic()
        self._connection = connection
        self._body = body

    @property
    def environ(self) -> dict[str, Any]:
        """The request as the application gets it, which may change it."""
        if self._environ is None:
            body, head = self._body, self.head
            self._environ = {**self._connection.template, **head.environ, "wsgi.input": BytesIO(body)}
            if head.size is None:
                self._environ["CONTENT_LENGTH"] = str(len(body))
        return self._environ

    def __str__(self) -> str:
        return f"{self.head.method} {self.head.environ['RAW_URI']}"

    def offer(self, fast_path: FastPath) -> Call | None:
        """Offers the request to the application's fast path; returns what that made of it, if it wanted it."""
        head = self.head
        try:
            self._announce()
            if head.route is UNDECIDED:
                head.route = fast_path.find(head.environ)
            return None if head.route is None else head.route.begin(self._body)
        except Exception:
            self._fail()
            return None

    def proceed(self) -> None:
        """Calls the application or goes on with its answer, until it is complete or has to wait."""
        self.step_started = monotonic()
        if self._context is None:
            # A paused answer shares its thread with other requests and may go on in another thread: without
            # a context of its own, the application would find there what those requests left.
            self._context = copy_context()
        self._context.run(self._call if self._pieces is None else self._send_pieces)

    def abandon(self) -> None:
        """Lets go of an answer that nobody waits for any more."""
        if self._context is None:
            self._release()
        else:
            self._context.run(self._release)

    def _release(self) -> None:
        connection, result = self._connection, self._result
        connection.exchange = self._result = self._pieces = None
        try:
            close = getattr(result, "close", None)
            if close is not None:
                close()
            if connection.server.after_request is not None:
                connection.server.after_request(self)
        except Exception:
            connection.server.log.exception("Failed after the answer to %s", self)

    def start_response(
        self, status: str, headers: list[tuple[str, str]], exc_info: Any = None
    ) -> Callable[[bytes], object]:
        """Takes the status and the headers of the answer, as PEP 3333 has it."""
        if exc_info is not None:
            try:
                if self._head_sent:
                    raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None  # breaks the cycle of traceback, frame and exc_info
        elif self.status:
            raise AssertionError("start_response was called a second time without exc_info")
        head, self._length = _write_head(status, headers)
        self._head = head.encode("latin-1")
        self.status, self.headers = status, headers
        return self.write

    def deliver(self, reply: Reply) -> None:
        """Sends an answer of the fast path."""
        status, body, headers = reply
        try:
            self.status, head = _known_head(status, headers)
            self.headers, self.sent, self._head_sent = headers, len(body), True
            self._connection.send(head + self._frame(len(body)) + body)
        except Exception:
            self._fail()
        else:
            self._release()

    def write(self, data: bytes) -> None:
        """Sends a piece of the answer; also PEP 3333's `write`."""
        head = b"" if self._head_sent else self._open()
        if self._no_body:
            data = b""
        self.sent += len(data)
        if self._chunked:
            data = b"%x\r\n%b\r\n" % (len(data), data) if data else b""
        elif self._length is not None and self.sent > self._length:
            raise ValueError("the answer is longer than its Content-Length")
        if head:
            data = head + data
            self._head_sent = True
        self._connection.send(data)

    def _announce(self) -> None:
        """Tells whoever wants to know of the request, once."""
        before_request = self._connection.server.before_request
        if before_request is not None and not self._is_announced:
            self._is_announced = True
            before_request(self)

    def _call(self) -> None:
        server = self._connection.server
        try:
            self._announce()
            result = self._result = server.wsgi(self.environ, self.start_response)
            if type(result) is list and len(result) == 1:
                self._known_length = len(result[0])
            self._pieces = iter(result)
        except Exception:
            self._fail()
        else:
            self._send_pieces()

    def _send_pieces(self) -> None:
        connection, pieces = self._connection, self._pieces
        assert pieces is not None
        try:
            pause = monotonic() + STEP_S
            for piece in pieces:
                if piece:
                    self.write(piece)
                if connection.broken:
                    break
                if connection.unsent > HIGH_WATER_BYTES or monotonic() > pause:
                    return
            else:
                self._end()
        except Exception:
            self._fail()
        else:
            self._release()

    def _end(self) -> None:
        if not self._head_sent:
            self._known_length = 0
            self.write(b"")
        if self._chunked:
            self._connection.send(b"0\r\n\r\n")
        elif self._length is not None and self.sent < self._length and not self._no_body:
            raise ValueError("the answer is shorter than its Content-Length")

    def _fail(self) -> None:
        connection = self._connection
        connection.server.log.exception("The application failed on %s", self)
        connection.keep_alive = False  # an answer that has begun stays incomplete, for the client to see
        if not self._head_sent:
            error, with_body = Refusal("internal_error"), self.head.method != "HEAD"
            self.status = f"{error.status} -"
            connection.send(connection.server.error_answer(error, with_body))
        self._release()

    def _open(self) -> bytes:
        """Returns the head of the answer, which tells the client where the body will end."""
        connection, status = self._connection, self.status[:3]
        if not status:
            raise AssertionError("the application answered without calling start_response")
        self._no_body = self.head.method == "HEAD" or status in ("204", "304")
        if self._length is None and not self._no_body:
            self._length = self._known_length
        if self._length is None and not self._no_body:
            self._chunked = self.head.is_modern
            connection.keep_alive = connection.keep_alive and self._chunked
        return self._head + self._frame(None if status == "204" else self._length)

    def _frame(self, length: int | None) -> bytes:
        """Returns the lines of the head that say where the answer ends and what becomes of the connection."""
        connection, is_modern = self._connection, self.head.is_modern
        server, option = connection.server, b""
        if server.draining or not server.alive or not server.keepalive_s:
            connection.keep_alive = False
        if not connection.keep_alive:
            option = b"Connection: close\r\n"
        elif not is_modern:
            option = b"Connection: keep-alive\r\n"
        if self._chunked:
            return b"Transfer-Encoding: chunked\r\n%b%b\r\n" % (option, server.stamp())
        if length is None:
            return b"%b%b\r\n" % (option, server.stamp())
        return b"Content-Length: %d\r\n%b%b\r\n" % (length, option, server.stamp())
