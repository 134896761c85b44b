"""What our worker does with an application that has a fast path: a real gunicorn process, raw sockets."""

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from worker_server import Client, Server, eventually, post, serving

APP = """
import json, time

HEADERS = (("Content-Type", "text/plain"), ("X-Fast", "1"))

class Call:
    def __init__(self, text, reply=None):
        self.text, self.reply = text, reply

class Route:
    def __init__(self, fast_path, environ):
        self.fast_path, self.path, self.query = fast_path, environ["PATH_INFO"], environ["QUERY_STRING"]

    def begin(self, body):
        if self.path == "/boom":
            raise RuntimeError("secret detail")
        if self.path == "/now":
            return Call("", (503, b"now", (*HEADERS, ("Retry-After", "1"))))
        call = Call(self.query or body.decode())
        self.fast_path.waiting.append(call)
        return call

class FastPath:
    def __init__(self):
        self.waiting, self.ran, self.dropped, self.asked, self.settled = [], [], 0, [], 0

    def find(self, environ):
        self.asked.append(environ["RAW_URI"])
        if environ["PATH_INFO"] == "/lost":
            raise RuntimeError("secret detail")
        return Route(self, environ) if environ["PATH_INFO"] in ("/boom", "/now", "/wait", "/big") else None

    def run(self):
        batch, self.waiting = self.waiting[:4], self.waiting[4:]
        if batch[0].text == "alone":
            batch, self.waiting = batch[:1], batch[1:] + self.waiting
        if batch[0].text.startswith(("first", "alone")):
            time.sleep(0.3)
        self.ran.append([call.text for call in batch])
        for call in batch:
            body = b"x" * 20_000_000 if call.text == "big" else call.text.encode()
            call.reply = (200, body, HEADERS)
        return batch

    def settle(self):
        self.settled = len(self.ran)

    def drop(self, call):
        self.waiting.remove(call)
        self.dropped += 1

def application(environ, start_response):
    path = application.fast_path
    seen = {"ran": path.ran, "dropped": path.dropped, "waiting": len(path.waiting), "asked": path.asked}
    seen["settled"] = path.settled
    body = json.dumps(seen).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]

application.fast_path = FastPath()
app = application
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("fast"), "--access-logfile", "access.txt", app=APP) as server:
        yield server


def wait(text: str) -> bytes:
    return post(text.encode(), "/wait")


def connect(server: Server, stack: ExitStack) -> Client:
    """A connection that the server has taken."""
    client = stack.enter_context(server.connect())
    assert client.ask(post(b"", "/now")).status == 503
    return client


def begin(server: Server, stack: ExitStack, text: str) -> Client:
    """Has the server busy with a request, which it takes a while to run."""
    client = stack.enter_context(server.connect())
    client.sock.sendall(wait(text))
    time.sleep(0.1)
    return client


def test_what_came_while_a_batch_ran_is_the_next_batch(server):
    with ExitStack() as stack:
        clients = [connect(server, stack) for _ in range(6)]
        busy = begin(server, stack, "first gather")
        for index, client in enumerate(clients):
            client.sock.sendall(wait(f"gather {index}"))
        assert busy.read().body == b"first gather"
        for index, client in enumerate(clients):
            answer = client.read()
            assert (answer.status, answer.body) == (200, f"gather {index}".encode())
            assert answer.headers["x-fast"] == "1" and "connection" not in answer.headers
        ran = [batch for batch in server.get("/").json()["ran"] if "gather" in batch[0]]
    assert ran[0] == ["first gather"]
    assert [len(batch) for batch in ran] == [1, 4, 2]


def test_who_has_hung_up_is_not_run(server):
    before = server.get("/").json()["dropped"]
    with ExitStack() as stack:
        then, *impatient = [connect(server, stack) for _ in range(6)]
        busy = begin(server, stack, "first hang-up")
        then.sock.sendall(wait("alone"))  # runs next, for long enough that the server sees who has gone
        time.sleep(0.05)
        for client in impatient:
            client.sock.sendall(wait("gone"))
            client.sock.close()
        assert busy.read().body == b"first hang-up"
        assert then.read().body == b"alone"
        state = server.get("/").json()
    assert state["dropped"] == before + 5 and state["waiting"] == 0
    assert ["alone"] in state["ran"] and not any("gone" in batch for batch in state["ran"])


def test_more_requests_of_one_connection_are_answered_in_order(server):
    with ExitStack() as stack:
        busy = begin(server, stack, "first pipeline")
        client = stack.enter_context(server.connect())
        client.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for index in range(4):
            client.sock.sendall(wait(f"pipeline {index}"))
            time.sleep(0.02)
        assert busy.read().body == b"first pipeline"
        assert [client.read().body for _ in range(4)] == [f"pipeline {index}".encode() for index in range(4)]


def test_an_answer_may_come_at_once_and_the_connection_stays(server):
    with server.connect() as client:
        for _ in range(3):
            answer = client.ask(post(b"", "/now"))
            assert (answer.status, answer.body, answer.headers["retry-after"]) == (503, b"now", "1")
            assert "connection" not in answer.headers


def test_the_application_has_the_rest(server):
    with server.connect() as client:
        assert client.ask(wait("mixed")).body == b"mixed"
        assert "ran" in client.ask(post(b"", "/other")).json()
        assert client.ask(wait("mixed")).body == b"mixed"


def test_the_client_decides_whether_the_connection_stays(server):
    with server.connect() as client:
        answer = client.ask(post(b"last", "/wait", b"Connection: close\r\n"))
        assert (answer.body, answer.headers["connection"]) == (b"last", "close")
        assert client.closed()


def test_a_large_answer_arrives_whole(server):
    with server.connect() as client:
        client.sock.sendall(post(b"big", "/big"))
        time.sleep(0.1)
        assert client.read().body == b"x" * 20_000_000
        assert client.ask(wait("after")).body == b"after"


def test_a_fast_path_that_fails_is_a_500_without_details(server):
    for target in ("/boom", "/lost"):
        with server.connect() as client:
            answer = client.ask(post(b"", target))
            assert answer.status == 500 and b"secret" not in answer.body
    assert "secret detail" in server.log.read_text()


def test_a_worker_with_nothing_to_do_has_the_fast_path_settle(server):
    with server.connect() as client:
        client.ask(wait("settle"))
    ran = len(server.get("/").json()["ran"])
    eventually(lambda: server.get("/").json()["settled"] == ran)


def test_equal_heads_are_looked_at_once(server):
    with server.connect() as client:
        for text in ("one", "two", "six"):
            assert client.ask(post(text.encode(), "/wait?")).body == text.encode()
        asked = client.ask(post(b"", "/")).json()["asked"]
    assert asked.count("/wait?") == 1


def test_access_log(server):
    with server.connect() as client:
        client.ask(wait("logged"))
    log = server.log.parent / "access.txt"
    eventually(lambda: '"POST /wait HTTP/1.1" 200 6 ' in log.read_text())


def test_what_waits_is_answered_before_the_worker_stops(tmp_path):
    with ExitStack() as stack:
        server = stack.enter_context(serving(tmp_path, app=APP))
        clients = [begin(server, stack, "first"), *(begin(server, stack, f"{index}") for index in range(2))]
        server.process.terminate()
        assert [client.read().body for client in clients] == [b"first", b"0", b"1"]
        assert server.process.wait(10) == 0


def test_with_threads_there_is_no_fast_path(tmp_path):
    with serving(tmp_path, "--threads", "2", app=APP) as server, server.connect() as client:
        assert client.ask(wait("x")).json()["ran"] == []
