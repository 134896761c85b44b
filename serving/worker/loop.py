"""The event loop of a worker: accepting, time, threads, and gunicorn's life cycle."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from mmap import mmap
from queue import SimpleQueue
from select import EPOLLIN, epoll
from threading import Thread
from time import monotonic
from types import SimpleNamespace
from typing import Any
from wsgiref.util import FileWrapper

from gunicorn.http.wsgi import WSGIErrorsWrapper
from gunicorn.workers.base import Worker

from serving.worker.allocator import keep_freed_memory
from serving.worker.connection import QUEUED, RUNNING, Connection, Server
from serving.worker.exchange import NEVER, Call, Exchange, FastPath
from serving.worker.framing import Limits, Refusal
from serving.worker.head import HeadReader

# Settings of gunicorn that would have no effect here: the value they must have and what to do instead.
UNSUPPORTED = {
    "is_ssl": (False, "put TLS in a proxy in front"),
    "proxy_protocol": ("off", "let the proxy send X-Forwarded-* headers"),
    "protocol": ("http", "let the proxy speak HTTP"),
    "http_protocols": (["h1"], "put HTTP/2 in a proxy in front"),
    "http2_cleartext": ("off", "put HTTP/2 in a proxy in front"),
    "header_map": ("drop", "rename the headers in a proxy"),
    "permit_obsolete_folding": (False, "mend the client"),
    "strip_header_spaces": (False, "mend the client"),
    "permit_unconventional_http_method": (False, "mend the client"),
    "permit_unconventional_http_version": (False, "mend the client"),
    "casefold_http_method": (False, "mend the client"),
}
SPARE_CONNECTIONS = 64  # that are told "overloaded" before new ones have to wait unaccepted
LOAD_CELLS = 64
ACCEPT_MOST = 16  # new connections, before it is looked what the others want
SETTLE_WITHIN_S = 0.01  # that the fast path's counts may be behind, with so much to do that there is no pause
BURST_S = 0.001  # how long batches may follow each other before it is looked who else has come
POLITE_S = 0.01  # how long a worker leaves new connections to one that has fewer
POLITE_POLL_S = 0.001
STARTING_POLL_S = 0.02
STARTING_LOAD = 1e6  # goes for a worker whose application is still starting: anybody else has less
STOP_MARGIN_S = 0.5  # the arbiter kills what is left after graceful_timeout
STOP_IDLE_S = 1.0  # a stopping worker still answers a request that comes this soon


class BufferedWorker(Server, Worker):
    """Serves all its connections from one loop; gunicorn's `post_fork` hook may set the limits it has.

    Those limits are the attributes of `Server` and `sweep_interval_s`.
    """

    sweep_interval_s = 1.0

    # When each worker was last seen and its load (its connections), two cells a worker. It is made in the
    # arbiter, so all workers share the memory.
    shared_loads: memoryview[float] | None = None

    def __init__(self, age: int, *arguments: Any) -> None:
        super().__init__(age, *arguments)
        if BufferedWorker.shared_loads is None:
            BufferedWorker.shared_loads = memoryview(mmap(-1, 16 * LOAD_CELLS)).cast("d")
        self.loads = BufferedWorker.shared_loads
        self.cell = 2 * (age % LOAD_CELLS)

    @classmethod
    def check_config(cls, cfg: Any, log: Any) -> None:
        """Refuses settings that would silently have no effect.

        Raises:
            RuntimeError: gunicorn prints it and exits.
        """
        for name, (supported, advice) in UNSUPPORTED.items():
            value = getattr(cfg, name) or False
            if value != supported:
                raise RuntimeError(f"BufferedWorker does not support {name}={value!r}: {advice}")

    def run(self) -> None:
        """Serves until told to stop, then answers what has been asked already."""
        self._prepare()
        self._sweep(monotonic())
        connections, ready, poll, wake = self.connections, self.ready, self.epoll.poll, self.PIPE[0]
        while (self.alive and not self.draining) or self._has_work_left():
            events = poll(0 if ready or self.queued or self.settle_at < NEVER else self._choose_poll_s())
            now = monotonic()
            if self.starting:
                self._look_whether_started()
            for _ in range(len(ready)):
                ready.popleft().advance(now)
            for fd, _ in events:
                connection = connections.get(fd)
                if connection is not None:
                    connection.on_event(now)
                elif fd == wake:
                    self._take_back()
                elif fd in self.doors:
                    self._welcome(fd, now)
            if self.queued:
                self._run_queued(now)
            elif now >= self.settle_at or (not events and self.settle_at < NEVER):
                self._settle()
            if self.polite:
                self._stay_polite(now)
            # What came before `now` has been read above, so nobody expires because others were slow.
            if now >= self.next_sweep:
                self._sweep(now)
        self._finish()

    def _choose_poll_s(self) -> float:
        return POLITE_POLL_S if self.polite else self.idle_s

    def _prepare(self) -> None:
        keep_freed_memory()
        cfg, self.pooled = self.cfg, self.cfg.threads > 1
        hooks = ("pre_request", "post_request")
        custom = [name for name in hooks if getattr(cfg, name) is not type(cfg.settings[name]).default]
        self.connections: dict[int, Connection] = {}
        self.jobs: SimpleQueue[Connection] = SimpleQueue()
        self.done: SimpleQueue[Connection] = SimpleQueue()
        self.next_beat = self.next_sweep = 0.0
        if cfg.timeout:
            self.sweep_interval_s = min(self.sweep_interval_s, cfg.timeout / 2)
        self.stop_at = NEVER
        self.hung = 0
        self.polite = False
        self.polite_until = 0.0
        # A fast path belongs to one thread.
        self.fast_path: FastPath | None = None if self.pooled else getattr(self.wsgi, "fast_path", None)
        self.queued: dict[Call, Connection] = {}
        self.settle_at = NEVER  # when the fast path is to settle at the latest, if it has answered anything since
        # An application may load in the background; until then others get the connections, if they can.
        self.is_started: Callable[[], bool] | None = getattr(self.wsgi, "is_started", None)
        self.starting = self.is_started is not None
        self.idle_s = STARTING_POLL_S if self.starting else self.sweep_interval_s
        self._tell_load()
        self.before_request = self._before if "pre_request" in custom else None
        self.after_request = self._after if "post_request" in custom or self.log.access_log_enabled else None
        limits = Limits(
            cfg.limit_request_line or self.max_head_bytes,
            cfg.limit_request_fields,
            cfg.limit_request_field_size or self.max_head_bytes,
            self.max_head_bytes,
        )
        self.heads = HeadReader(limits, self.max_body_bytes)
        self.keepalive_s = cfg.keepalive
        self.ready = deque()
        self.epoll = epoll()
        self.epoll.register(self.PIPE[0], EPOLLIN)
        self.doors = {listener.fileno(): (listener, self._template(listener)) for listener in self.sockets}
        self.doors_open = False
        for _ in range(cfg.threads if self.pooled else 0):
            # Daemons: a request that hangs must not keep the process from exiting.
            Thread(target=self._work, daemon=True).start()

    def _template(self, listener: Any) -> dict[str, Any]:
        """Returns what the environs of all requests that come through a listener have in common."""
        address = listener.getsockname()
        name, port = address[:2] if isinstance(address, tuple) else ("localhost", 80)
        return {
            "SCRIPT_NAME": "",
            "SERVER_NAME": name,
            "SERVER_PORT": str(port),
            "SERVER_SOFTWARE": "bmp",
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.errors": WSGIErrorsWrapper(self.cfg),
            "wsgi.multithread": self.pooled,
            "wsgi.multiprocess": self.cfg.workers > 1,
            "wsgi.run_once": False,
            "wsgi.input_terminated": True,
            "wsgi.file_wrapper": FileWrapper,
        }

    # Connections.

    def _accept(self, door: int, now: float) -> bool:
        """Takes one connection; other workers get a chance at those that wait behind it."""
        listener, template = self.doors[door]
        try:
            client, peer = listener.accept()
        except (BlockingIOError, ConnectionError):
            return False
        except OSError as error:  # out of descriptors or memory: trying at once would only burn time
            self.log.error("Cannot accept connections for a while: %s", error)
            self._shut_doors()
            return False
        client.setblocking(False)
        host, port = peer[:2] if isinstance(peer, tuple) else ("", "")
        template = {**template, "REMOTE_ADDR": host, "REMOTE_PORT": str(port)}
        connection = self.connections[client.fileno()] = Connection(self, client, template, now)
        self.watch(connection, EPOLLIN)
        self._tell_load()
        limit = self.cfg.worker_connections
        if len(self.connections) > limit:
            connection.refuse(Refusal("overloaded", f"at most {limit} connections"))
            if len(self.connections) > limit + SPARE_CONNECTIONS:
                self._shut_doors()
        return True

    def _welcome(self, door: int, now: float) -> None:
        """Takes new connections, or leaves them for a while to a worker that has fewer.

        The kernel tends to wake the same worker again and again, which would then serve most clients
        while the others idle.
        """
        for _ in range(ACCEPT_MOST):
            if not self._is_next() or not self.doors_open:
                break
            if not self._accept(door, now):
                return
        if self.doors_open and not self._is_next():
            self._shut_doors()
            self.polite, self.polite_until = True, now + POLITE_S

    def _stay_polite(self, now: float) -> None:
        late = now >= self.polite_until and not (self.starting and self._somebody_else_started())
        if late or self._is_next():
            self.polite = False
            self._open_doors()
        if late:
            for door in self.doors:
                self._accept(door, now)

    def _tell_load(self) -> None:
        self.loads[self.cell + 1] = len(self.connections) + (STARTING_LOAD if self.starting else 0)

    def _look_whether_started(self) -> None:
        if self.is_started is None or self.is_started():
            self.starting = False
            self.idle_s = self.sweep_interval_s
            self._tell_load()

    def _other_loads(self) -> list[float]:
        """Returns the loads of the other workers that live."""
        loads, seen = self.loads, monotonic() - 2 * self.sweep_interval_s
        cells = range(0, len(loads), 2)
        return [loads[cell + 1] for cell in cells if loads[cell] >= seen and cell != self.cell]

    def _is_next(self) -> bool:
        """Tells whether no other worker has less to do."""
        mine = self.loads[self.cell + 1]
        return all(load >= mine for load in self._other_loads())

    def _somebody_else_started(self) -> bool:
        return any(load < STARTING_LOAD for load in self._other_loads())

    def _open_doors(self) -> None:
        if not self.doors_open and self.stop_at == NEVER:
            self.doors_open = True
            for door in self.doors:
                self.epoll.register(door, EPOLLIN)

    def _shut_doors(self) -> None:
        if self.doors_open:
            self.doors_open = False
            for door in self.doors:
                self.epoll.unregister(door)

    def watch(self, connection: Connection, events: int) -> None:
        """Changes what a connection's socket is watched for; 0 takes it off the loop."""
        if not events:
            self.epoll.unregister(connection.fd)
        elif not connection.events:
            self.epoll.register(connection.fd, events)
        elif events != connection.events:
            self.epoll.modify(connection.fd, events)
        connection.events = events

    def forget(self, connection: Connection) -> None:
        """Drops a connection that is closing."""
        if connection.events:
            self.watch(connection, 0)
        del self.connections[connection.fd]
        self._tell_load()

    # Calling the application.

    def serve(self, connection: Connection) -> None:
        """Lets a connection's exchange proceed, here or on a pool thread."""
        if self.pooled:
            connection.phase = RUNNING
            self.jobs.put(connection)
            return
        try:
            connection.proceed()
        except SystemExit:
            if not self.alive:  # it was not the application but a signal that asks to quit
                raise
            self._give_up(connection)
        connection.settle()
        now = monotonic()
        if now >= self.next_beat:
            self._beat(now)

    def offer(self, connection: Connection) -> bool:
        """Gives a connection's exchange to the application's fast path; tells whether that took it."""
        fast_path, exchange = self.fast_path, connection.exchange
        if fast_path is None or exchange is None:
            return False
        call = exchange.offer(fast_path)
        if call is None:
            if connection.exchange is not None:
                return False
            connection.settle()  # it has failed
            return True
        if call.reply is None:
            connection.phase, connection.call = QUEUED, call
            self.queued[call] = connection
        else:
            self.settle_at = min(self.settle_at, monotonic() + SETTLE_WITHIN_S)
            connection.deliver(call)
        return True

    def drop(self, connection: Connection) -> None:
        """Takes back from the fast path what a connection waits for."""
        assert self.fast_path is not None
        assert connection.call is not None
        del self.queued[connection.call]
        self.fast_path.drop(connection.call)

    def _run_queued(self, now: float) -> None:
        """Has the fast path run a batch, or several that are quick, and sends the answers."""
        assert self.fast_path is not None
        pause, self.settle_at = now + BURST_S, min(self.settle_at, now + SETTLE_WITHIN_S)
        while self.queued and now < pause:
            for call in self.fast_path.run():
                self.queued.pop(call).deliver(call)
            now = monotonic()
        if now >= self.settle_at:
            self._settle()
        if now >= self.next_beat:
            self._beat(now)

    def _settle(self) -> None:
        assert self.fast_path is not None
        self.settle_at = NEVER
        self.fast_path.settle()

    def _work(self) -> None:
        """Lets exchanges proceed, as a pool thread, for ever."""
        while True:
            connection = self.jobs.get()
            try:
                connection.proceed()
            except BaseException:
                self._give_up(connection)
            self.done.put(connection)
            with suppress(BlockingIOError):  # a full pipe wakes the loop as well
                os.write(self.PIPE[1], b".")

    def _give_up(self, connection: Connection) -> None:
        self.log.exception("The application gave up on %s", connection.exchange)
        connection.broken = True

    def _take_back(self) -> None:
        os.read(self.PIPE[0], 4096)
        while not self.done.empty():
            self.done.get().settle()

    def _before(self, exchange: Exchange) -> None:
        self.cfg.pre_request(self, _request_of(exchange))

    def _after(self, exchange: Exchange) -> None:
        """Writes the access log and calls the operator's hook."""
        request, status = _request_of(exchange), exchange.status or "-"
        response = SimpleNamespace(status=status, headers=exchange.headers, sent=exchange.sent)
        taken = timedelta(seconds=monotonic() - exchange.started)
        self.log.access(response, request, exchange.environ, taken)
        self.cfg.post_request(self, request, exchange.environ, response)

    # Time.

    def _beat(self, now: float) -> None:
        self.next_beat = now + self.sweep_interval_s
        self.notify()

    def _sweep(self, now: float) -> None:
        """Does what has to be done once in a while: deadlines, heartbeat, health."""
        self.next_sweep = now + self.sweep_interval_s
        self._beat(now)
        if os.getppid() != self.ppid:
            self.log.info("The arbiter is gone, stopping: %s", self)
            self.alive = False
        for connection in list(self.connections.values()):
            if connection.deadline <= now:
                connection.expire()
        if self.cfg.timeout:
            self._look_for_hung(now - self.cfg.timeout)
        if self.stop_at == NEVER:
            self.loads[self.cell] = now
            if not self.polite:
                self._open_doors()

    def _look_for_hung(self, latest: float) -> None:
        """Has the worker replaced when a pool thread is stuck; Python cannot stop one."""
        running = [c.exchange for c in self.connections.values() if c.phase == RUNNING]
        hung = [exchange for exchange in running if exchange and exchange.step_started < latest]
        if len(hung) > self.hung:
            self.log.critical("Stopping: %s has not returned for %s s", hung[0], self.cfg.timeout)
            self.alive = False
        self.hung = len(hung)

    def _has_work_left(self) -> bool:
        """Tells, when stopping, whether there is something left to answer, and time for it."""
        now = monotonic()
        if self.stop_at == NEVER:
            self.stop_at = now + max(self.cfg.graceful_timeout - STOP_MARGIN_S, 0)
            self.loads[self.cell] = 0  # nobody has to wait for this worker any more
            self.draining = True
            self.keepalive_s = STOP_IDLE_S
            self.linger_timeout_s = min(self.linger_timeout_s, STOP_IDLE_S)
            for door in self.doors:  # clients that wait there believe to be connected
                while len(self.connections) < self.cfg.worker_connections and self._accept(door, now):
                    continue
            self._shut_doors()
            for listener, _ in self.doors.values():
                listener.close()
            for connection in self.connections.values():
                connection.hurry(now + STOP_IDLE_S)
        return len(self.connections) > self.hung and now < self.stop_at

    def _finish(self) -> None:
        if self.settle_at < NEVER:
            self._settle()
        for connection in list(self.connections.values()):
            if connection.phase != RUNNING:
                connection.close()
        self.epoll.close()


def _request_of(exchange: Exchange) -> SimpleNamespace:
    """Returns the request as gunicorn's hooks and access log look at it."""
    environ = exchange.environ
    return SimpleNamespace(
        method=environ["REQUEST_METHOD"],
        uri=environ["RAW_URI"],
        path=environ["PATH_INFO"],
        query=environ["QUERY_STRING"],
        version=(1, int(environ["SERVER_PROTOCOL"][-1])),
        headers=[(key[5:].replace("_", "-"), value) for key, value in environ.items() if key.startswith("HTTP_")],
    )
