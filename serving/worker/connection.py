"""One client connection: a whole request in, one WSGI call, the answer out; it never blocks.

The application is called once a request has arrived complete, so a slow client costs a buffer and
never a thread.
"""

from __future__ import annotations

import socket
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from email.utils import formatdate
from http import HTTPStatus
from select import EPOLLIN, EPOLLOUT, EPOLLRDHUP
from time import monotonic
from typing import Any
from wsgiref.types import WSGIApplication

from serving.worker.exchange import NEVER, Call, Exchange
from serving.worker.framing import RECEIVE_BYTES, ChunkedBody, Refusal, SizedBody
from serving.worker.head import Head, HeadReader

# What a connection is at; READY: the next request is in the buffer and waits for its turn; QUEUED: the application's
# fast path has the request and will answer it.
HEAD, BODY, READY, QUEUED, RUNNING, WRITING, LINGERING, CLOSED = range(8)


class Server(ABC):
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
    heads: HeadReader
    before_request: Callable[[Exchange], None] | None
    after_request: Callable[[Exchange], None] | None
    observe_refusal: Callable[[str], None] | None = None  # is told the code of each
    ready: deque[Connection]
    draining = False  # stopping: every answer closes its connection

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._stamp = b""
        self._stamp_second = 0
        self._received = bytearray(RECEIVE_BYTES)
        self._received_view = memoryview(self._received)

    @abstractmethod
    def serve(self, connection: Connection) -> None:
        """Lets the connection's exchange proceed, then settles the connection."""

    @abstractmethod
    def offer(self, connection: Connection) -> bool:
        """Gives the connection's exchange to the application's fast path; tells whether that took it."""

    @abstractmethod
    def drop(self, connection: Connection) -> None:
        """Takes back from the fast path what the connection waits for."""

    @abstractmethod
    def watch(self, connection: Connection, events: int) -> None:
        """Changes what the connection's socket is watched for."""

    @abstractmethod
    def forget(self, connection: Connection) -> None:
        """Drops the connection, which is closing."""

    def receive(self, sock: socket.socket) -> bytes:
        """Returns what a socket has; to read into the same memory each time is quicker than to ask for new.

        Raises:
            OSError: There is nothing, or the connection is broken.
        """
        return self._received_view[: sock.recv_into(self._received)].tobytes()

    def stamp(self) -> bytes:
        """Returns the Server and Date lines of an answer, written once a second."""
        second = int(time.time())
        if second != self._stamp_second:
            self._stamp = f"Server: bmp\r\nDate: {formatdate(second, usegmt=True)}\r\n".encode("ascii")
            self._stamp_second = second
        return self._stamp

    def error_answer(self, error: Refusal, with_body: bool) -> bytes:
        """Returns the bytes of an answer that the server itself gives."""
        retry = "Retry-After: 1\r\n" if error.status == 503 else ""
        line = f"HTTP/1.1 {error.status} {HTTPStatus(error.status).phrase}\r\n"
        fields = (
            f"{retry}Content-Type: application/json\r\nContent-Length: {len(error.body)}\r\nConnection: close\r\n\r\n"
        )
        return b"".join([line.encode(), self.stamp(), fields.encode(), error.body if with_body else b""])


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
        self.call: Call | None = None  # what the fast path made of the request, while it is queued
        self.keep_alive = True
        self.broken = False  # nothing can be sent any more
        self.unsent = 0
        self._sock = sock
        self._out: deque[memoryview] = deque()
        self.template = template  # what the environ of every request starts from
        self._head: Head | None = None  # of the request whose body is being read
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
        elif phase == QUEUED:
            self._look_for_end()
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
            self.refuse(Refusal("request_timeout", "a complete body", "a part of it"))
        elif self.phase == HEAD and self._buffer:
            self.refuse(Refusal("request_timeout", "complete headers", "a part of them"))
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

    def deliver(self, call: Call) -> None:
        """Sends what the fast path answers."""
        assert self.exchange is not None
        assert call.reply is not None
        self.phase, self.call = RUNNING, None
        self.exchange.deliver(call.reply)
        self.settle()

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

    def refuse(self, error: Refusal) -> None:
        """Answers in place of the application and closes."""
        wants_head = self._buffer.startswith(b"HEAD ") or (self._head is not None and self._head.method == "HEAD")
        self.server.log.info("Refused %s: %s", self.template["REMOTE_ADDR"], error)
        if self.server.observe_refusal is not None:
            self.server.observe_refusal(error.code)
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
            if self.phase == QUEUED:
                self.server.drop(self)
            self.phase = CLOSED
            self.server.forget(self)
            self._sock.close()
            if self.exchange is not None:
                self.exchange.abandon()

    def _receive(self, now: float) -> None:
        try:
            data = self.server.receive(self._sock)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self._take(data, now)
        else:
            self.close()

    def _look_for_end(self) -> None:
        """Closes when the client is gone; if it sends more requests, those are read after the answer.

        A client that only stops sending looks the same as one that has closed, and is taken for it: waiting for an
        answer, hardly any does that, and to run what nobody waits for would cost those who do.
        """
        try:
            goes_on = self.events & EPOLLIN and self._sock.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return
        except OSError:
            goes_on = b""
        if goes_on:
            self.server.watch(self, EPOLLRDHUP)
        else:
            self.close()

    def _take(self, data: bytes, now: float) -> None:
        try:
            if self.phase == BODY:
                self._read_body(data)
            else:
                self._read_head(self._buffer + data if self._buffer else data, now)
        except Refusal as error:
            self.refuse(error)

    def _read_head(self, data: bytes, now: float) -> None:
        server = self.server
        if data.startswith(b"\r\n"):  # RFC 9112, section 2.2: an empty line may precede a request
            data, self._scanned = data[2:], 0
        self._buffer = data
        head = server.heads.read(data, self._scanned)
        if head is None:
            if data and not self._scanned:
                self.deadline = now + server.header_timeout_s
            self._scanned = len(data)
            return
        self._scanned = 0
        self.keep_alive = head.keeps_alive
        start, size = head.length, head.size
        if size is not None and len(data) >= start + size:
            self._buffer = data[start + size :]
            self._dispatch(head, data[start : start + size])
        else:
            self._begin_body(head, data[start:], now)

    def _begin_body(self, head: Head, data: bytes, now: float) -> None:
        if head.awaits_go and not data:
            self.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        self._head = head
        self._body = ChunkedBody(self.server.max_body_bytes) if head.size is None else SizedBody(head.size)
        self._body_started = now
        self._buffer = b""
        self.phase = BODY
        self._read_body(data)

    def _read_body(self, data: bytes) -> None:
        body, server, head = self._body, self.server, self._head
        assert head is not None
        rest = body.feed(data)
        if rest is None:
            allowed = server.body_grace_s + body.file.tell() / server.min_body_bytes_per_s
            self.deadline = self._body_started + min(server.body_timeout_s, allowed)
            return
        self._buffer = rest
        self._head, self._body = None, SizedBody(0)
        self._dispatch(head, body.file.getvalue())

    def _dispatch(self, head: Head, body: bytes) -> None:
        server = self.server
        self.exchange = Exchange(self, head, body)
        self.deadline = NEVER
        server.nr += 1
        if server.nr >= server.max_requests:
            server.draining = True
        if not server.offer(self):
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
