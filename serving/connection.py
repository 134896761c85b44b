"""One client connection: a whole request in, one WSGI call, the answer out; it never blocks.

The application is called once a request has arrived complete, so a slow client costs a buffer and
never a thread. Framing is strict: wherever two readers of the same bytes could disagree about where a
request ends, the client gets an error and the connection closes.
"""

from __future__ import annotations

import json
import re
import socket
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextvars import copy_context
from email.utils import formatdate
from http import HTTPStatus
from io import BytesIO
from select import EPOLLIN, EPOLLOUT
from time import monotonic
from typing import Any
from urllib.parse import unquote_to_bytes
from wsgiref.types import WSGIApplication

from gunicorn_h1c import InvalidHeader, InvalidHTTPVersion, LimitRequestHeaders, LimitRequestLine
from gunicorn_h1c._parser_fast import IncompleteError, parse_request

# What a connection is at; READY: the next request is in the buffer and waits for its turn.
HEAD, BODY, READY, RUNNING, WRITING, LINGERING, CLOSED = range(7)

NEVER = float("inf")
RECEIVE_BYTES = 65536
HIGH_WATER_BYTES = 2**20  # unsent bytes at which a streamed answer pauses
STEP_S = 0.05  # how long a streamed answer may go on before others get their turn
CHUNK_LINE_BYTES = 4096
KNOWN_FIELDS = 1024

_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,16})(?:[ \t]*;[\t\x20-\x7e\x80-\xff]*)?")
_TRAILER = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[\t\x20-\x7e\x80-\xff]*")
_ABSOLUTE_TARGET = re.compile(r"[Hh][Tt][Tt][Pp][Ss]?://([^/?]+)(/[^?]*)?(\?.*)?")
_AUTHORITY = re.compile(r"(?:[A-Za-z0-9\-._~!$&'()*+,;=%]*|\[[0-9A-Fa-f:.]+\])(?::[0-9]*)?")
_STATUS = re.compile(r"[2-9][0-9]{2} [\t\x20-\x7e\xa0-\xff]*")
_FIELD_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_LENGTH = re.compile(r"[0-9]{1,18}")
_FIELD_VALUE = re.compile(r"[\t\x20-\x7e\xa0-\xff]*")

# Fields of an answer that are the server's to set, not the application's.
_SERVER_FIELDS = re.compile(
    "connection|keep-alive|proxy-authenticate|proxy-authorization|te|trailers?|transfer-encoding|upgrade|server|date"
)
# How the parser's complaints about codings start that are well formed but not supported.
_UNKNOWN_CODINGS = ("Unsupported Transfer-Encoding", "Stacked chunked", "Invalid Transfer-Encoding")

_ANSWERS = {
    "bad_request": (400, "The request is not valid HTTP."),
    "request_timeout": (408, "The request came too slowly."),
    "body_too_large": (413, "The request body is too large."),
    "uri_too_long": (414, "The request line is too long."),
    "expectation_failed": (417, "The expectation is not supported."),
    "headers_too_large": (431, "The headers are too many or too large."),
    "internal_error": (500, "The server failed to answer the request."),
    "not_implemented": (501, "The server does not support what the request asks for."),
    "overloaded": (503, "The server is busy."),
    "http_version_not_supported": (505, "The HTTP version is not supported."),
}


class HttpError(Exception):
    """An answer that the server gives in place of the application: a code of `_ANSWERS`, with details."""

    def __init__(self, code: str, expected: str = "", received: str = "") -> None:
        status, message = _ANSWERS[code]
        super().__init__(f"{code} (expected {expected}, received {received})" if expected else code)
        error = {"code": code, "message": message, "expected": expected or None, "received": received or None}
        self.status = status
        self.body = json.dumps({"error": error}).encode()


class Server:
    """The worker as its connections see it: the application, the limits and the loop."""

    max_body_bytes = 16 * 2**20
    max_head_bytes = 64 * 2**10
    header_timeout_s = 10.0
    body_timeout_s = 60.0
    body_grace_s = 5.0  # before the minimal rate of a body counts
    min_body_bytes_per_s = 1024.0
    write_timeout_s = 30.0
    linger_timeout_s = 5.0
    max_linger_bytes = 64 * 2**20

    wsgi: WSGIApplication
    log: Any
    alive: bool
    nr: int
    max_requests: int
    keepalive_s: float
    request_limits: tuple[int, int, int]  # bytes of the request line, headers, bytes of a header
    before_request: Callable[[Exchange], None] | None
    after_request: Callable[[Exchange], None] | None
    ready: deque[Connection]
    draining = False  # stopping: every answer closes its connection

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._environ_keys: dict[bytes, str] = {}
        self._stamp = ""
        self._stamp_second = 0

    def serve(self, connection: Connection) -> None:
        """Lets the connection's exchange proceed, then settles the connection."""
        raise NotImplementedError

    def watch(self, connection: Connection, events: int) -> None:
        """Changes what the connection's socket is watched for."""
        raise NotImplementedError

    def forget(self, connection: Connection) -> None:
        """Drops the connection, which is closing."""
        raise NotImplementedError

    def stamp(self) -> str:
        """Returns the Server and Date lines of an answer, written once a second."""
        second = int(time.time())
        if second != self._stamp_second:
            self._stamp = f"Server: bmp\r\nDate: {formatdate(second, usegmt=True)}\r\n"
            self._stamp_second = second
        return self._stamp

    def environ_key(self, name: bytes) -> str:
        """Returns the environ key of a header; "" for one that is dropped."""
        key = self._environ_keys.get(name)
        if key is None:
            if not name:
                raise HttpError("bad_request", "one line per header", "a folded line")
            key = name.decode("ascii").upper().replace("-", "_")
            if b"_" in name or key == "PROXY":
                key = ""  # could pass for another header, or for the proxy setting of HTTP clients
            elif key not in ("CONTENT_TYPE", "CONTENT_LENGTH"):
                key = f"HTTP_{key}"
            if len(self._environ_keys) < KNOWN_FIELDS and len(name) < 64:
                self._environ_keys[name] = key
        return key

    def error_answer(self, error: HttpError, with_body: bool) -> bytes:
        """Returns the bytes of an answer that the server itself gives."""
        retry = "Retry-After: 1\r\n" if error.status == 503 else ""
        head = (
            f"HTTP/1.1 {error.status} {HTTPStatus(error.status).phrase}\r\n{self.stamp()}{retry}"
            f"Content-Type: application/json\r\nContent-Length: {len(error.body)}\r\n"
            "Connection: close\r\n\r\n"
        )
        return head.encode("ascii") + (error.body if with_body else b"")


class SizedBody:
    """A body whose length was announced."""

    def __init__(self, size: int) -> None:
        self.file = BytesIO()
        self._missing = size

    def feed(self, data: bytes) -> bytes | None:
        """Takes bytes in; once the body is whole, returns those that follow it."""
        missing = self._missing
        self._missing -= self.file.write(data[:missing])
        return None if self._missing else data[missing:]


class ChunkedBody:
    """A body in the chunked transfer coding (RFC 9112, section 7.1), decoded as it comes."""

    def __init__(self, limit: int) -> None:
        self.file = BytesIO()
        self._limit = limit
        # For all that is not data (sizes, extensions, trailers): what makes tiny chunks costly.
        self._overhead_left = limit // 32 + RECEIVE_BYTES
        self._pending = b""
        self._missing = 0
        self._take_line = self._take_size

    def feed(self, data: bytes) -> bytes | None:
        """Takes bytes in; once the body is whole, returns those that follow it."""
        data = self._pending + data
        position = 0
        while True:
            if self._missing:
                taken = self.file.write(data[position : position + self._missing])
                self._missing -= taken
                position += taken
            end = data.find(b"\n", position)
            if end < 0:
                self._pending = data[position:]
                if len(self._pending) > CHUNK_LINE_BYTES:
                    raise HttpError("bad_request", "chunk lines of a sane length", "a longer line")
                return None
            if end == position or data[end - 1] != 13:
                raise HttpError("bad_request", "CR LF at the end of a chunk line", "LF")
            line = data[position : end - 1]
            position = end + 1
            self._overhead_left -= len(line) + 2
            if self._overhead_left < 0:
                raise HttpError("bad_request", "larger chunks, shorter extensions and trailers")
            if self._take_line(line):
                return data[position:]

    def _take_size(self, line: bytes) -> bool:
        match = _CHUNK_SIZE.fullmatch(line)
        if match is None:
            raise HttpError("bad_request", "a chunk size in hexadecimal digits", repr(line[:20]))
        self._missing = int(match[1], 16)
        if self.file.tell() + self._missing > self._limit:
            raise HttpError("body_too_large", f"at most {self._limit} bytes", "a longer chunked body")
        self._take_line = self._take_end_of_data if self._missing else self._take_trailer
        return False

    def _take_end_of_data(self, line: bytes) -> bool:
        if line:
            raise HttpError("bad_request", "CR LF after the data of a chunk", repr(line[:20]))
        self._take_line = self._take_size
        return False

    def _take_trailer(self, line: bytes) -> bool:
        if line and not _TRAILER.fullmatch(line):
            raise HttpError("bad_request", "a trailer of a name and a value", repr(line[:20]))
        return not line


class Exchange:
    """One request and the application's answer to it."""

    def __init__(self, connection: Connection, environ: dict[str, Any]) -> None:
        self.environ = environ
        self.status = ""
        self.headers: list[tuple[str, str]] = []
        self.sent = 0
        self.started = monotonic()
        self.step_started = NEVER
        self._connection = connection
        # A paused answer shares its thread with other requests and may go on in another thread: without
        # a context of its own, the application would find there what those requests left.
        self._context = copy_context()
        self._result: Iterable[bytes] | None = None
        self._pieces: Iterator[bytes] | None = None
        self._head = ""
        self._head_sent = self._chunked = self._no_body = False
        self._length: int | None = None  # as the application announces it
        self._known_length: int | None = None  # as seen from what it returns

    def __str__(self) -> str:
        return f"{self.environ['REQUEST_METHOD']} {self.environ['RAW_URI']}"

    def proceed(self) -> None:
        """Calls the application or goes on with its answer, until it is complete or has to wait."""
        self.step_started = monotonic()
        self._context.run(self._call if self._pieces is None else self._send_pieces)

    def abandon(self) -> None:
        """Lets go of an answer that nobody waits for any more."""
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
        self.status, self.headers, self._length, self._head = status, headers, length, "".join(lines)
        return self.write

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

    def _call(self) -> None:
        server = self._connection.server
        try:
            if server.before_request is not None:
                server.before_request(self)
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
            error, with_body = HttpError("internal_error"), self.environ["REQUEST_METHOD"] != "HEAD"
            self.status = f"{error.status} -"
            connection.send(connection.server.error_answer(error, with_body))
        self._release()

    def _open(self) -> bytes:
        """Returns the head of the answer, which tells the client where the body will end."""
        connection, status = self._connection, self.status[:3]
        if not status:
            raise AssertionError("the application answered without calling start_response")
        server, framing = connection.server, ""
        modern = self.environ["SERVER_PROTOCOL"] == "HTTP/1.1"
        self._no_body = self.environ["REQUEST_METHOD"] == "HEAD" or status in ("204", "304")
        if self._length is None and not self._no_body:
            self._length = self._known_length
        if self._length is not None:
            framing = f"Content-Length: {self._length}\r\n" if status != "204" else ""
        elif not self._no_body and modern:
            self._chunked = True
            framing = "Transfer-Encoding: chunked\r\n"
        elif not self._no_body:
            connection.keep_alive = False
        if server.draining or not server.alive or not server.keepalive_s:
            connection.keep_alive = False
        if not connection.keep_alive:
            framing += "Connection: close\r\n"
        elif not modern:
            framing += "Connection: keep-alive\r\n"
        return f"{self._head}{framing}{server.stamp()}\r\n".encode("latin-1")


class Connection:
    """A client's socket and the requests that come over it.

    It belongs to the loop, except while its exchange proceeds, which may be on a pool thread: it is
    never in two hands at once and needs no lock.
    """

    def __init__(self, server: Server, sock: socket.socket, template: dict[str, Any], now: float) -> None:
        self.server = server
        self.fd = sock.fileno()
        self.events = 0  # what the loop watches the socket for
        self.phase = HEAD
        self.deadline = now + server.header_timeout_s
        self.exchange: Exchange | None = None
        self.keep_alive = True
        self.broken = False  # nothing can be sent any more
        self.unsent = 0
        self._sock = sock
        self._out: deque[memoryview] = deque()
        self._template = template  # what the environ of every request starts from
        self._environ = template
        self._buffer = b""  # received and not parsed yet
        self._scanned = 0  # how much of the buffer is known to hold no complete head
        self._body: SizedBody | ChunkedBody = SizedBody(0)
        self._body_started = now
        self._unread = False  # the client may be sending what nobody will read
        self._linger_left = server.max_linger_bytes

    def on_event(self, now: float) -> None:
        """Does what the socket is ready for."""
        phase = self.phase
        if phase <= BODY:
            self._receive(now)
        elif phase == WRITING:
            self._go_on()
        elif phase == LINGERING:
            self._drain()
        elif phase == RUNNING:
            self.server.watch(self, 0)  # more requests or a hang-up: looked at after the answer

    def advance(self, now: float) -> None:
        """Serves the next of the requests that came together."""
        if self.phase == READY:
            self.phase = HEAD
            self._take(b"", now)

    def expire(self) -> None:
        """Gives up waiting: the deadline has passed."""
        if self.phase == BODY:
            self.refuse(HttpError("request_timeout", "a complete body", "a part of it"))
        elif self.phase == HEAD and self._buffer:
            self.refuse(HttpError("request_timeout", "complete headers", "a part of them"))
        else:
            self.close()

    def hurry(self, deadline: float) -> None:
        """Waits no longer than this for a request that has not begun: the worker is stopping."""
        if self.phase == HEAD and not self._buffer:
            self.deadline = min(self.deadline, deadline)

    def proceed(self) -> None:
        """Lets the exchange proceed; the one method that may run on a pool thread."""
        assert self.exchange is not None
        self.exchange.proceed()

    def settle(self) -> None:
        """Decides what to wait for, now that the exchange has ended or paused."""
        server = self.server
        if self.broken:
            self.close()
        elif self._out or self.exchange is not None:
            self.phase = WRITING
            self.deadline = monotonic() + server.write_timeout_s
            server.watch(self, EPOLLOUT)
        elif self.keep_alive:
            self.deadline = monotonic() + server.keepalive_s
            if self.events != EPOLLIN:
                server.watch(self, EPOLLIN)
            self.phase = READY if self._buffer else HEAD
            if self._buffer:
                server.ready.append(self)
        elif self._unread or self._buffer or server.draining:
            self._linger()
        else:
            self.close()

    def refuse(self, error: HttpError) -> None:
        """Answers in place of the application and closes."""
        wants_head = self._environ.get("REQUEST_METHOD") == "HEAD" or self._buffer.startswith(b"HEAD ")
        self.server.log.info("Refused %s: %s", self._template["REMOTE_ADDR"], error)
        self.keep_alive = False
        self._unread = True
        self._buffer = b""
        self.send(self.server.error_answer(error, not wants_head))
        self.settle()

    def send(self, data: bytes) -> None:
        """Sends what the socket takes now and keeps the rest."""
        sent = 0
        if not self._out and not self.broken:
            try:
                sent = self._sock.send(data)
            except BlockingIOError:
                sent = 0
            except OSError:
                self.broken = True
        if sent < len(data) and not self.broken:
            self._out.append(memoryview(data)[sent:])
            self.unsent += len(data) - sent

    def close(self) -> None:
        """Closes the socket and drops the exchange."""
        if self.phase != CLOSED:
            self.phase = CLOSED
            self.server.forget(self)
            self._sock.close()
            if self.exchange is not None:
                self.exchange.abandon()

    def _receive(self, now: float) -> None:
        try:
            data = self._sock.recv(RECEIVE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self._take(data, now)
        else:
            self.close()

    def _take(self, data: bytes, now: float) -> None:
        try:
            if self.phase == BODY:
                self._read_body(data)
            else:
                self._read_head(self._buffer + data if self._buffer else data, now)
        except HttpError as error:
            self.refuse(error)

    def _read_head(self, data: bytes, now: float) -> None:
        server = self.server
        if data.startswith(b"\r\n"):  # RFC 9112, section 2.2: an empty line may precede a request
            data, self._scanned = data[2:], 0
        self._buffer = data
        try:
            request = parse_request(data, self._scanned, *server.request_limits)
        except IncompleteError:
            self._await_head(data, now)
            return
        except ValueError as error:
            raise _parse_error(error, data, server) from None
        end = request.consumed
        if end > server.max_head_bytes:
            raise _head_too_large(server)
        self._scanned = 0
        environ = self._environ = self._new_environ(request, data)
        size = _body_size(environ, server.max_body_bytes)
        if size is not None and len(data) >= end + size:
            self._buffer = data[end + size :]
            self._dispatch(BytesIO(data[end : end + size]))
            return
        if "HTTP_EXPECT" in environ and len(data) == end and environ["SERVER_PROTOCOL"] == "HTTP/1.1":
            self.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        self._body = ChunkedBody(server.max_body_bytes) if size is None else SizedBody(size)
        self._body_started = now
        self._buffer = b""
        self.phase = BODY
        self._read_body(data[end:])

    def _await_head(self, data: bytes, now: float) -> None:
        server, scanned = self.server, self._scanned
        if data.count(b"\n", scanned) != data.count(b"\r\n", max(scanned - 1, 0)):
            raise HttpError("bad_request", "CR LF at the end of a line", "LF")
        line_bytes = server.request_limits[0]
        if len(data) > line_bytes + 2 and data.find(b"\r\n", 0, line_bytes + 2) < 0:
            raise HttpError("uri_too_long", f"at most {line_bytes} bytes", "a longer line")
        if len(data) > server.max_head_bytes:
            raise _head_too_large(server)
        if data and not scanned:
            self.deadline = now + server.header_timeout_s
        self._scanned = len(data)

    def _new_environ(self, request: Any, data: bytes) -> dict[str, Any]:
        method, target, end = request.method, request.path, request.consumed
        # The parser lets several spaces and bare line feeds pass.
        if not data.startswith(b" HTTP/1.", len(method) + 1 + len(target)):
            raise HttpError("bad_request", "single spaces between the parts of the request line")
        if data.count(b"\n", 0, end) != data.count(b"\r\n", 0, end):
            raise HttpError("bad_request", "CR LF at the end of a line", "LF")
        environ, environ_key = self._template.copy(), self.server.environ_key
        for name, value in request.headers:
            key = environ_key(name)
            if key in environ:
                environ[key] += ("; " if key == "HTTP_COOKIE" else ", ") + value.decode("latin-1")
            elif key:
                environ[key] = value.decode("latin-1")
        modern = request.minor_version == 1
        environ["REQUEST_METHOD"] = method.decode("ascii")
        environ["SERVER_PROTOCOL"] = "HTTP/1.1" if modern else "HTTP/1.0"
        host = environ.get("HTTP_HOST")
        if modern if host is None else not _AUTHORITY.fullmatch(host):
            raise HttpError("bad_request", "one valid Host header", repr(host[:40]) if host else "none")
        _set_target(environ, target)
        options = environ.get("HTTP_CONNECTION")
        self.keep_alive = modern if options is None else _keeps_alive(options, modern)
        return environ

    def _read_body(self, data: bytes) -> None:
        body, server = self._body, self.server
        rest = body.feed(data)
        if rest is None:
            allowed = server.body_grace_s + body.file.tell() / server.min_body_bytes_per_s
            self.deadline = self._body_started + min(server.body_timeout_s, allowed)
            return
        self._buffer = rest
        self._environ["CONTENT_LENGTH"] = str(body.file.tell())
        body.file.seek(0)
        self._dispatch(body.file)
        self._body = SizedBody(0)

    def _dispatch(self, body: BytesIO) -> None:
        server, environ = self.server, self._environ
        self._environ = self._template
        environ["wsgi.input"] = body
        self.exchange = Exchange(self, environ)
        self.deadline = NEVER
        server.nr += 1
        if server.nr >= server.max_requests:
            server.draining = True
        server.serve(self)

    def _go_on(self) -> None:
        """Sends what is left; when all is gone, goes on with the answer."""
        out, before = self._out, self.unsent
        try:
            while out:
                sent = self._sock.send(out[0])
                self.unsent -= sent
                if sent == len(out[0]):
                    out.popleft()
                else:
                    out[0] = out[0][sent:]
        except BlockingIOError:
            if self.unsent < before:
                self.deadline = monotonic() + self.server.write_timeout_s
            return
        except OSError:
            self.broken = True
        if self.exchange is not None and not self.broken:
            self.deadline = NEVER
            self.server.serve(self)
        else:
            self.settle()

    def _linger(self) -> None:
        """Closes our side only: to close both would reset the connection before the client has read."""
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError:
            self.close()
            return
        self.phase = LINGERING
        self.deadline = monotonic() + self.server.linger_timeout_s
        self.server.watch(self, EPOLLIN)

    def _drain(self) -> None:
        try:
            received = len(self._sock.recv(RECEIVE_BYTES))
        except BlockingIOError:
            return
        except OSError:
            received = 0
        self._linger_left -= received
        if not received or self._linger_left < 0:
            self.close()


def _parse_error(error: ValueError, data: bytes, server: Server) -> HttpError:
    """Returns the answer to what the parser complains about."""
    text = str(error)
    if isinstance(error, LimitRequestLine):
        return HttpError("uri_too_long", f"at most {server.request_limits[0]} bytes", "a longer line")
    lines = data.partition(b"\r\n\r\n")[0].count(b"\r\n")  # the parser itself stops at 256 headers
    if isinstance(error, LimitRequestHeaders) or lines > server.request_limits[1]:
        return _head_too_large(server)
    if isinstance(error, InvalidHTTPVersion):
        return HttpError("http_version_not_supported", "HTTP/1.1", text)
    if isinstance(error, InvalidHeader) and text.startswith(_UNKNOWN_CODINGS):
        return HttpError("not_implemented", "Transfer-Encoding: chunked", "another coding")
    return HttpError("bad_request", "a valid HTTP/1.1 request", text)


def _head_too_large(server: Server) -> HttpError:
    _, count, size = server.request_limits
    expected = f"at most {count} headers of {size} bytes, {server.max_head_bytes} bytes in all"
    return HttpError("headers_too_large", expected, "more")


def _keeps_alive(connection: str, modern: bool) -> bool:
    options = {option.strip() for option in connection.lower().split(",")}
    return "close" not in options and (modern or "keep-alive" in options)


def _set_target(environ: dict[str, Any], target: bytes) -> None:
    """Sets what the environ says of the request target (RFC 9112, section 3.2)."""
    if not target.isascii() or b"#" in target:
        raise HttpError("bad_request", "a target of ASCII characters without a fragment", repr(target[:40]))
    text = environ["RAW_URI"] = target.decode("ascii")
    if text[0] != "/" and text != "*":
        if environ["REQUEST_METHOD"] == "CONNECT":
            raise HttpError("not_implemented", "a method other than CONNECT", "CONNECT")
        match = _ABSOLUTE_TARGET.fullmatch(text)
        if match is None or not _AUTHORITY.fullmatch(match[1]):
            raise HttpError("bad_request", "a path or an http URL as target", repr(text[:40]))
        environ["HTTP_HOST"] = match[1]  # goes before what the Host header says
        text = f"{match[2] or '/'}{match[3] or ''}"
    path, _, environ["QUERY_STRING"] = text.partition("?")
    environ["PATH_INFO"] = unquote_to_bytes(path).decode("latin-1") if "%" in path else path


def _body_size(environ: dict[str, Any], limit: int) -> int | None:
    """Returns the announced length of the body; None for a chunked one."""
    expect = environ.get("HTTP_EXPECT", "100-continue")
    if expect.lower() != "100-continue":
        raise HttpError("expectation_failed", "100-continue", repr(expect[:40]))
    length = environ.get("CONTENT_LENGTH")
    coding = environ.pop("HTTP_TRANSFER_ENCODING", None)
    if coding is not None:
        # With both, or in HTTP/1.0, a server on the way may have seen the body end elsewhere.
        if length is not None or environ["SERVER_PROTOCOL"] == "HTTP/1.0":
            raise HttpError("bad_request", "either Content-Length or, in HTTP/1.1, Transfer-Encoding")
        if coding.lower() != "chunked":
            raise HttpError("not_implemented", "Transfer-Encoding: chunked", repr(coding[:40]))
        return None
    if length is None:
        return 0
    if not length.isdecimal():
        raise HttpError("bad_request", "a Content-Length of decimal digits", repr(length[:20]))
    if len(length) > 18 or int(length) > limit:  # longer numbers overflow in the parser, unnoticed
        raise HttpError("body_too_large", f"at most {limit} bytes", f"{length[:20]} bytes")
    return int(length)
