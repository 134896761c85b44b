"""Versions come and go under a real server that is never left alone."""

import http.client
import json
import logging
import socket
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil
import pytest
from conftest import Server, run_server
from numbered_models import eventually, publish

from bmp.registry import Registry

WIDTH = 512  # 1 MB of weights: 30 versions that stay behind would be seen
MOVES_UNDER_LOAD = 12
MOVES_FOR_MEMORY = 30
_log = logging.getLogger(__name__)


class Client(threading.Thread):
    """Asks the same over one connection, again and again, and keeps what was wrong.

    Each version answers with its own number, so the number must be that of the `Bmp-Model` header.
    """

    def __init__(self, server: Server, request: dict[str, object]) -> None:
        super().__init__(daemon=True)
        self.request = json.dumps({"x_test": [[0, 0]], **request})
        self.version = 0
        self.answers = 0
        self.wrong: list[str] = []
        self.pause_s = 0.005
        self.stopping = False
        self.connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=20)
        self.connection.connect()
        self.port = self.connection.sock.getsockname()[1]

    def run(self) -> None:
        while not self.stopping:
            try:
                self._ask()
            except (OSError, http.client.HTTPException) as error:
                self.wrong.append(repr(error))
            time.sleep(self.pause_s)
        self.connection.close()

    def _ask(self) -> None:
        self.connection.request("POST", "/predict", self.request, {"Content-Type": "application/json"})
        reply = self.connection.getresponse()
        body, version = json.loads(reply.read()), int((reply.headers["Bmp-Model"] or "n/0").partition("/")[2])
        if reply.status != 200 or body != {"prediction": [[float(version)]]}:
            self.wrong.append(f"{reply.status} {version} {body}")
        if reply.will_close:
            self.wrong.append("the connection was closed")
        self.version = version
        self.answers += 1


@contextmanager
def asking(server: Server, requests: list[dict[str, object]]) -> Iterator[list[Client]]:
    """Clients that ask all the time, and no answer is wrong."""
    clients = [Client(server, request) for request in requests]
    for client in clients:
        client.start()
    try:
        yield clients
    finally:
        for client in clients:
            client.stopping = True
        for client in clients:
            client.join(30)
    assert [wrong for client in clients for wrong in client.wrong] == []
    assert all(client.answers for client in clients)


def workers_of(server: Server) -> list[psutil.Process]:
    return psutil.Process(server.process.pid).children()


def ports_at(worker: psutil.Process) -> set[int]:
    """Returns the ports of the clients that a worker serves."""
    return {link.raddr.port for link in worker.net_connections("tcp") if link.status == "ESTABLISHED"}


def take_part(server: Server, workers: list[psutil.Process]) -> bool:
    """Tells whether every worker accepts connections."""
    address = server.url.removeprefix("http://").split(":")
    with ExitStack() as stack:
        links = [stack.enter_context(socket.create_connection((address[0], int(address[1])))) for _ in range(4)]
        for link in links:
            link.sendall(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n")
        for link in links:
            link.recv(1)
        ports = {link.getsockname()[1] for link in links}
        return all(ports_at(worker) & ports for worker in workers)


def move(registry: Registry, version: int, clients: list[Client]) -> float:
    """Moves both aliases, and returns the seconds from then until every client gets the version that they name now."""
    registry.set_alias("n", "canary", version)
    registry.set_alias("n", "production", version)
    start = time.monotonic()
    eventually(lambda: all(client.version == version for client in clients))
    return time.monotonic() - start


def memory_of(worker: psutil.Process) -> int:
    return worker.memory_info().rss


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    registry = Registry(tmp_path / "registry")
    for number in (1, 2):
        publish(registry, number, width=WIDTH)
    registry.set_alias("n", "production", 1)
    registry.set_alias("n", "canary", 1)
    return registry


def test_no_request_is_lost_or_answered_by_the_wrong_version(registry: Registry, tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    with run_server(registry.root, log, "--workers", "2") as server:
        workers = workers_of(server)
        eventually(lambda: take_part(server, workers))
        with asking(server, [{}] * 4 + [{"model": "n", "alias": "canary"}] * 2) as clients:
            eventually(lambda: all(client.answers for client in clients))
            ports = {client.port for client in clients}
            assert all(ports_at(worker) & ports for worker in workers), "a worker without a client proves nothing"
            waits = []
            for number in range(3, 3 + MOVES_UNDER_LOAD):
                publish(registry, number, width=WIDTH)
                waits.append(move(registry, number, clients))
            _log.info("live after %s s", [f"{wait:.2f}" for wait in sorted(waits)])
            assert statistics.median(waits) < 2, waits  # one alone may hit a busy machine
            _move_for_memory(registry, clients, workers)
        assert workers_of(server) == workers
        assert "Traceback" not in log.read_text() and "cannot be served" not in log.read_text()
        held = [version.number for version in registry.gc("n").in_use]
        assert held == [], "what is not served any more is held all the same"


def _move_for_memory(registry: Registry, clients: list[Client], workers: list[psutil.Process]) -> None:
    """Moves all aliases to and fro; each move drops a version and loads another, and a worker does not grow."""
    for client in clients:
        client.pause_s = 0.03
    first, before = registry.versions("n")[-2], []
    for turn in range(MOVES_FOR_MEMORY):
        move(registry, first + turn % 2, clients)
        if turn == 3:
            before = [memory_of(worker) for worker in workers]
    grown = [memory_of(worker) - size for worker, size in zip(workers, before, strict=True)]
    _log.info("grown by %s", grown)
    assert max(grown) < 12 * 2**20, grown


def test_an_empty_registry_is_served_from_its_first_model_on(tmp_path: Path) -> None:
    registry, log = Registry(tmp_path / "registry"), tmp_path / "server.log"
    options = ("--workers", "1", "--model", "n")
    with run_server(registry.root, log, *options, ready_path="/health") as server:
        assert f"the registry '{registry.root}' holds no model yet; waiting for n on {server.url}" in log.read_text()
        assert server.get("/ready").status_code == 503 and server.get("/models").json()["models"] == []
        publish(registry, 7, "other")
        publish(registry, 1)
        eventually(lambda: server.get("/ready").status_code == 200)
        assert server.post({"x_test": [[0, 0]]}).json() == {"prediction": [[1.0]]}
