"""A real gunicorn process with our worker, an application of the test's own, and clients that speak raw HTTP."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

CONFIG = """
worker_class = "serving.worker.BufferedWorker"
wsgi_app = "app:app"
control_socket_disable = True
keepalive = 1
graceful_timeout = 10

def post_fork(server, worker):
    worker.max_body_bytes = 100_000
    worker.header_timeout_s = 1.5
    worker.body_timeout_s = 3
    worker.body_grace_s = 1
    worker.write_timeout_s = 1
    worker.sweep_interval_s = 0.1
"""


class Server:
    """A gunicorn process and what a test wants of it."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, log: Path) -> None:
        self.process, self.port, self.log = process, port, log

    def connect(self) -> "Client":
        return Client(socket.create_connection(("127.0.0.1", self.port), timeout=10))

    def get(self, target: str) -> "Answer":
        with self.connect() as client:
            return client.ask(f"GET {target} HTTP/1.1\r\nHost: a\r\n\r\n".encode())


class Answer:
    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status, self.headers, self.body = status, headers, body

    def json(self) -> dict:
        return json.loads(self.body)


class Client:
    """A socket with just enough HTTP to read answers, one at a time."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock, self.buffer = sock, b""

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def ask(self, request: bytes, method: str = "GET") -> Answer:
        self.sock.sendall(request)
        return self.read(method)

    def read(self, method: str = "GET") -> Answer:
        head = self._until(b"\r\n\r\n").decode("latin-1").split("\r\n")
        status = int(head[0].split()[1])
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:])}
        if method == "HEAD" or status in (100, 204, 304):
            return Answer(status, headers, b"")
        if headers.get("transfer-encoding") == "chunked":
            body = b""
            while size := int(self._until(b"\r\n"), 16):
                body += self._exactly(size)
                assert self._exactly(2) == b"\r\n"
            assert self._exactly(2) == b"\r\n"
            return Answer(status, headers, body)
        if "content-length" in headers:
            return Answer(status, headers, self._exactly(int(headers["content-length"])))
        return Answer(status, headers, self.rest())

    def rest(self) -> bytes:
        """All that comes until the server closes."""
        parts = [self.buffer]
        while data := self.sock.recv(2**20):
            parts.append(data)
        self.buffer = b""
        return b"".join(parts)

    def closed(self) -> bool:
        return self.rest() == b""

    def _more(self) -> None:
        data = self.sock.recv(65536)
        if not data:
            raise EOFError(self.buffer)
        self.buffer += data

    def _until(self, end: bytes) -> bytes:
        while end not in self.buffer:
            self._more()
        data, _, self.buffer = self.buffer.partition(end)
        return data

    def _exactly(self, size: int) -> bytes:
        missing = size - len(self.buffer)
        while missing > 0:
            data = self.sock.recv(min(missing, 2**20), socket.MSG_WAITALL)
            if not data:
                raise EOFError(self.buffer)
            self.buffer += data
            missing -= len(data)
        data, self.buffer = self.buffer[:size], self.buffer[size:]
        return data


@contextmanager
def serving(folder: Path, *options: str, app: str, config: str = CONFIG) -> Iterator[Server]:
    (folder / "app.py").write_text(app)
    (folder / "conf.py").write_text(config)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = folder / "log.txt"
    command = [sys.executable, "-m", "gunicorn", "-c", "conf.py", "-b", f"127.0.0.1:{port}", *options]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=folder, stdout=output, stderr=output, env={**os.environ, "PYTHONPATH": str(ROOT)}
        )
    server = Server(process, port, log)
    try:
        eventually(lambda: server.get("/").status == 200)
        yield server
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(5)


def eventually(check: Callable[[], object], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            if check():
                return
        except (OSError, EOFError):
            pass
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.05)


def post(body: bytes, target: str = "/", extra: bytes = b"") -> bytes:
    return b"POST %b HTTP/1.1\r\nHost: a\r\n%bContent-Length: %d\r\n\r\n%b" % (target.encode(), extra, len(body), body)
