"""The access log of a real server: one line for each request over HTTP, where the operator wants it."""

import os
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import requests
from conftest import Server, run_server
from numbered_models import eventually, publish

from bmp.registry import Registry

LINE = re.compile(r'127\.0\.0\.1 - - \[.{26}\] "(\w+) (\S+) HTTP/1\.1" (\d{3}) (\d+) "-" "python-requests/[\d.]+"')
BODY = {"x_test": [[0, 0]]}


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    registry = Registry(tmp_path_factory.mktemp("access") / "registry")
    publish(registry, 1)
    return registry


@pytest.fixture
def start(registry: Registry, tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """`start(*options)` starts a server of one worker that lives until the test ends."""
    with ExitStack() as stack:
        log = tmp_path / "server.log"
        yield lambda *options: stack.enter_context(run_server(registry.root, log, "--workers", "1", *options))


def read_lines(file: Path) -> list[tuple[str, ...]]:
    """Method, path, status and bytes of each request, but those by which it was found out that the server is ready."""
    lines = [LINE.fullmatch(line) for line in file.read_text().splitlines()]
    assert all(lines), file.read_text()
    return [line.groups() for line in lines if line and line[2] != "/ready"]


def ask(server: Server) -> list[tuple[str, ...]]:
    """Asks on the fast path, with a query, past the fast path, and wrongly; returns the lines that has to make."""
    replies = [server.post(BODY), server.post(BODY, "/predict?top_k=x"), server.get("/health"), server.post({})]
    sent = [(reply.request, reply) for reply in replies]
    return [
        (request.method, request.path_url, str(reply.status_code), str(len(reply.content))) for request, reply in sent
    ]


def test_a_file_gets_a_line_for_each_request(start: Callable[..., Server], tmp_path: Path) -> None:
    file = tmp_path / "access.log"
    server = start("--access-log", "access.log")
    expected = ask(server)
    assert [(path, status) for _, path, status, _ in expected] == [
        ("/predict", "200"),
        ("/predict?top_k=x", "400"),
        ("/health", "200"),
        ("/predict", "400"),
    ]
    eventually(lambda: len(read_lines(file)) == 4)
    assert read_lines(file) == expected
    assert "POST" not in server.log.read_text().partition("\n")[2]


def test_a_file_that_was_moved_away_is_made_again_when_the_server_is_told(
    start: Callable[..., Server], tmp_path: Path
) -> None:
    file, old = tmp_path / "access.log", tmp_path / "access.log.1"
    server = start("--access-log", str(file))
    expected = ask(server)
    eventually(lambda: len(read_lines(file)) == 4)
    file.rename(old)
    os.kill(server.process.pid, signal.SIGUSR1)
    eventually(file.exists)
    expected += ask(server)
    eventually(lambda: len(read_lines(old) + read_lines(file)) == 8)
    assert read_lines(old) + read_lines(file) == expected and read_lines(file)


def test_a_dash_is_the_standard_output(start: Callable[..., Server]) -> None:
    server = start("--access-log", "-")
    requests.get(f"{server.url}/health?a=%22", timeout=10)
    eventually(lambda: 'GET /health?a=%22 HTTP/1.1" 200' in server.log.read_text())


def test_by_default_there_is_none(start: Callable[..., Server]) -> None:
    server = start()
    ask(server)
    assert "GET" not in server.log.read_text() and "HTTP/1.1" not in server.log.read_text()
