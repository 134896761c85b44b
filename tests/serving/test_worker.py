"""The worker as clients meet it: a real gunicorn process, raw sockets, small limits."""

import hashlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial

import pytest
import worker_server
from hypothesis import given
from hypothesis import strategies as st
from worker_server import CONFIG, ROOT, Client, Server, eventually, post

from serving.worker.framing import ChunkedBody, Refusal

MAX_BODY = 100_000

APP = """
import hashlib, json, os, sys, time
from contextvars import ContextVar
from urllib.parse import parse_qs
from wsgiref.validate import validator

made = {"pieces": 0, "closed": 0}

class Endless:
    def __iter__(self):
        return self
    def __next__(self):
        made["pieces"] += 1
        return b"x" * 65536
    def close(self):
        made["closed"] += 1

def answer(start_response, value, status="200 OK", headers=()):
    body = json.dumps(value).encode()
    start_response(status, [("Content-Type", "application/json"), ("Content-Length", str(len(body))), *headers])
    return [body]

def echo(environ, start_response):
    body = environ["wsgi.input"].read()
    text = {key: value for key, value in environ.items() if isinstance(value, (str, bool))}
    return answer(start_response, {"environ": text, "sha": hashlib.sha256(body).hexdigest(), "pid": os.getpid()})

def stream(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    for index in range(3):
        yield b"piece %d;" % index
        time.sleep(0.2)

def late(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    yield b"begun;"
    raise RuntimeError("secret detail")

def writes(environ, start_response):
    write = start_response("200 OK", [("Content-Type", "text/plain")])
    write(b"one;")
    return [b"two;", b"three;"]

owner = ContextVar("owner")

def owned(environ, start_response):
    owner.set(environ["QUERY_STRING"].encode())
    start_response("200 OK", [])
    return (owner.get() * 65536 for _ in range(100))

def valid(environ, start_response):
    environ["wsgi.input"].read(-1)
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "5")])
    return [b"valid"]

def mends(environ, start_response):
    start_response("200 OK", [("X-First", "1")])
    try:
        raise KeyError
    except KeyError:
        start_response("503 Sorry", [("X-Second", "2"), ("Content-Length", "0")], sys.exc_info())
    return []

def twice(environ, start_response):
    start_response("200 OK", [])
    start_response("200 OK", [])

def app(environ, start_response):
    path, query = environ["PATH_INFO"], parse_qs(environ["QUERY_STRING"])
    if path == "/slow":
        time.sleep(float(query["s"][0]))
        return answer(start_response, {"n": query.get("n"), "pid": os.getpid()})
    if path == "/boom":
        raise RuntimeError("secret detail")
    if path == "/exit":
        sys.exit("secret detail")
    if path == "/silent":
        return [b"no start_response"]
    if path == "/inject":
        return answer(start_response, {}, headers=[("X-Bad", "a\\r\\nSet-Cookie: b")])
    if path == "/own-fields":
        return answer(start_response, {}, headers=[("Connection", "x"), ("Server", "mine"), ("Date", "now")])
    if path in ("/204", "/304"):
        start_response(path[1:] + " Nothing", [("X-Kept", "1")])
        return [b"never sent"]
    if path == "/short":
        start_response("200 OK", [("Content-Length", "10")])
        return [b"short"]
    if path == "/long":
        start_response("200 OK", [("Content-Length", "3")])
        return [b"long"]
    if path == "/big":
        body = b"x" * 20_000_000
        start_response("200 OK", [("Content-Length", str(len(body)))])
        return [body]
    if path == "/endless":
        start_response("200 OK", [])
        return Endless()
    if path == "/made":
        return answer(start_response, made)
    routes = {"/stream": stream, "/late": late, "/writes": writes, "/mends": mends, "/twice": twice, "/owned": owned}
    routes["/valid"] = validator(valid)
    return routes.get(path, echo)(environ, start_response)
"""

serving = partial(worker_server.serving, app=APP)


def assert_refused(client: Client, status: int, code: str) -> dict:
    answer = client.read()
    assert answer.status == status, answer.body
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["connection"] == "close"
    error = answer.json()["error"]
    assert error.keys() == {"code", "message", "expected", "received"}
    assert error["code"] == code
    assert client.closed()
    return error


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("worker"), "--access-logfile", "access.txt") as server:
        yield server


# The request as the application sees it.


def test_environ(server):
    request = (
        b"POST /a%20b/%C3%A9?x=%20&y HTTP/1.1\r\nHost: example.org:8\r\nContent-Type: text/x\r\nX-Two: 1\r\n"
        b"x-two: 2\r\nCookie: a=1\r\nCookie: b=2\r\nX_Under: no\r\nContent_Length: 99\r\nProxy: no\r\n"
        b"Content-Length: 5\r\n\r\nhello"
    )
    with server.connect() as client:
        answer = client.ask(request)
        own_port = client.sock.getsockname()[1]
    environ = answer.json()["environ"]
    assert answer.json()["sha"] == hashlib.sha256(b"hello").hexdigest()
    expected = {
        "REQUEST_METHOD": "POST",
        "SCRIPT_NAME": "",
        "PATH_INFO": "/a b/\u00c3\u00a9",
        "QUERY_STRING": "x=%20&y",
        "RAW_URI": "/a%20b/%C3%A9?x=%20&y",
        "CONTENT_TYPE": "text/x",
        "CONTENT_LENGTH": "5",
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": str(server.port),
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "127.0.0.1",
        "REMOTE_PORT": str(own_port),
        "HTTP_HOST": "example.org:8",
        "HTTP_X_TWO": "1, 2",
        "HTTP_COOKIE": "a=1; b=2",
        "wsgi.url_scheme": "http",
        "wsgi.multithread": False,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
        "wsgi.input_terminated": True,
    }
    assert {key: environ.get(key) for key in expected} == expected
    assert not {"HTTP_X_UNDER", "HTTP_CONTENT_LENGTH", "HTTP_PROXY"} & environ.keys()
    assert answer.headers["server"] == "bmp"
    assert "GMT" in answer.headers["date"]


def test_environ_is_valid_by_pep_3333(server):
    assert server.get("/valid").body == b"valid"


@pytest.mark.parametrize(
    ("line", "path", "query", "host"),
    [
        ("GET http://other:81/x?y HTTP/1.1", "/x", "y", "other:81"),
        ("GET http://other HTTP/1.1", "/", "", "other"),
        ("GET http://[::1]?q HTTP/1.1", "/", "q", "[::1]"),
        ("GET //evil/x HTTP/1.1", "//evil/x", "", "a"),
        ("OPTIONS * HTTP/1.1", "*", "", "a"),
    ],
)
def test_forms_of_the_target(server, line, path, query, host):
    with server.connect() as client:
        environ = client.ask(f"{line}\r\nHost: a\r\n\r\n".encode()).json()["environ"]
    assert (environ["PATH_INFO"], environ["QUERY_STRING"], environ["HTTP_HOST"]) == (path, query, host)


# Connections that stay.


def test_pipelined_requests_are_answered_in_order(server):
    bodies = [b"x" * (index * 700) for index in range(40)]
    with server.connect() as client:
        client.sock.sendall(b"\r\n".join(post(body) for body in bodies))  # with the stray CR LF of old clients
        for body in bodies:
            assert client.read().json()["sha"] == hashlib.sha256(body).hexdigest()


def test_slow_sender_is_served_and_blocks_nobody(server):
    def send_slowly(client: Client) -> None:
        for byte in post(b"slow"):
            client.sock.sendall(bytes([byte]))
            time.sleep(0.008)

    with server.connect() as slow, server.connect() as quick:
        thread = threading.Thread(target=send_slowly, args=(slow,))
        thread.start()
        served = 0
        while thread.is_alive():
            assert quick.ask(post(b"quick")).status == 200
            served += 1
        thread.join()
        assert slow.read().json()["sha"] == hashlib.sha256(b"slow").hexdigest()
        assert served > 20


def test_http_1_0_closes_unless_asked_to_stay(server):
    with server.connect() as client:
        answer = client.ask(b"GET / HTTP/1.0\r\n\r\n")
        assert (answer.status, answer.headers["connection"]) == (200, "close")
        assert client.closed()
    with server.connect() as client:
        for _ in range(2):
            answer = client.ask(b"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n")
            assert (answer.status, answer.headers["connection"]) == (200, "keep-alive")


def test_client_may_close(server):
    with server.connect() as client:
        assert client.ask(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: x, Close\r\n\r\n").headers["connection"] == "close"
        assert client.closed()
    with server.connect() as client:  # one that only stops sending still gets its answer
        client.sock.sendall(post(b"half"))
        client.sock.shutdown(socket.SHUT_WR)
        assert client.read().status == 200


def test_idle_connection_closes_silently(server):
    with server.connect() as client:
        assert client.ask(post(b"")).status == 200
        assert client.closed()


# Bodies.


def test_chunked_body_split_anywhere(server):
    request = (
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n"
        b'5;ext="a;b"\r\nhello\r\nA\r\n, chunked!\r\n0\r\nX-Trailer: t\r\n\r\n'
    )
    with server.connect() as client:
        client.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for position in range(1, len(request)):
            client.sock.sendall(request[:position])
            time.sleep(0.001)
            value = client.ask(request[position:]).json()
            assert value["sha"] == hashlib.sha256(b"hello, chunked!").hexdigest()
            assert value["environ"]["CONTENT_LENGTH"] == "15"
            assert "HTTP_TRANSFER_ENCODING" not in value["environ"]


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=6), st.lists(st.integers(1, 9), min_size=1), st.binary())
def test_chunked_decoder_gives_the_body_and_what_follows(chunks, steps, rest):
    stream = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n" + rest
    body, position = ChunkedBody(MAX_BODY), 0
    while True:
        step = steps[position % len(steps)]
        left = body.feed(stream[position : position + step])
        position += step
        if left is not None:
            break
    assert body.file.getvalue() == b"".join(chunks)
    assert left + stream[position:] == rest


@pytest.mark.parametrize("stream", [b"1\r\na\r\n" * 20_000, b"1;" + b"x" * 5_000, b"0\r\n" + b"a: b\r\n" * 20_000])
def test_chunked_decoder_bounds_what_is_not_data(stream):
    with pytest.raises(Refusal):
        ChunkedBody(MAX_BODY).feed(stream)


def test_body_of_the_largest_size(server):
    body = os.urandom(MAX_BODY)
    with server.connect() as client:
        assert client.ask(post(body)).json()["sha"] == hashlib.sha256(body).hexdigest()


@pytest.mark.parametrize("chunked", [False, True])
def test_too_large_body_is_refused_and_the_answer_arrives(server, chunked):
    body = b"x" * 3_000_000
    request = post(body)
    if chunked:
        head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        request = head + (b"10000\r\n" + body[:65536] + b"\r\n") * 45
    with server.connect() as client:
        client.sock.sendall(request)  # a client that sends all before it reads
        assert_refused(client, 413, "body_too_large")


def test_expect_continue(server):
    head = b"POST / HTTP/1.1\r\nHost: a\r\nExpect: %b\r\nContent-Length: %d\r\n\r\n"
    with server.connect() as client:
        assert client.ask(head % (b"100-Continue", 2)).status == 100
        assert client.ask(b"ok").json()["sha"] == hashlib.sha256(b"ok").hexdigest()
        client.sock.sendall(head % (b"100-continue", MAX_BODY + 1))
        assert_refused(client, 413, "body_too_large")
    with server.connect() as client:
        client.sock.sendall(head % (b"200-ok", 2))
        assert_refused(client, 417, "expectation_failed")


# What is not HTTP, or means different things to different readers.

GET = b"GET / HTTP/1.1\r\nHost: a\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
MALFORMED = {
    "length and coding": (POST + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "coding and length": (POST + b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n", 400),
    "length and odd coding": (POST + b"Content-Length: 4\r\nTransfer-Encoding: identity\r\n\r\nGET ", 400),
    "length and empty coding": (POST + b"Content-Length: 4\r\nTransfer-Encoding:\r\n\r\nGET ", 400),
    "two lengths": (POST + b"Content-Length: 4\r\nContent-Length: 5\r\n\r\nhello", 400),
    "same length twice": (POST + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello", 400),
    "list of lengths": (POST + b"Content-Length: 5, 5\r\n\r\nhello", 400),
    "negative length": (POST + b"Content-Length: -5\r\n\r\nhello", 400),
    "signed length": (POST + b"Content-Length: +5\r\n\r\nhello", 400),
    "hexadecimal length": (POST + b"Content-Length: 0x5\r\n\r\nhello", 400),
    "length with underscore": (POST + b"Content-Length: 1_0\r\n\r\nhello", 400),
    "length in other digits": (POST + b"Content-Length: \xb2\r\n\r\nhello", 400),
    "empty length": (POST + b"Content-Length:\r\n\r\nhello", 400),
    "length that overflows": (POST + b"Content-Length: 18446744073709551621\r\n\r\nhello", 413),
    "endless length": (POST + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\nhello", 400),
    "other coding": (POST + b"Transfer-Encoding: gzip\r\n\r\n", 501),
    "unknown coding": (POST + b"Transfer-Encoding: xchunked\r\n\r\n", 501),
    "list of codings": (POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n", 501),
    "chunked in a list": (POST + b"Transfer-Encoding: ,chunked\r\n\r\n0\r\n\r\n", 501),
    "identity": (POST + b"Transfer-Encoding: identity\r\n\r\n", 501),
    "chunked twice": (POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", 501),
    "chunked in HTTP/1.0": (b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "coding after a tab": (POST + b"Transfer-Encoding\t: chunked\r\n\r\n", 400),
    "coding with control": (POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n", 400),
    "chunk size": (CHUNKED + b"xyz\r\n", 400),
    "signed chunk size": (CHUNKED + b"+5\r\nhello\r\n0\r\n\r\n", 400),
    "prefixed chunk size": (CHUNKED + b"0x5\r\nhello\r\n0\r\n\r\n", 400),
    "empty chunk size": (CHUNKED + b"\r\nhello\r\n0\r\n\r\n", 400),
    "chunk size that overflows": (CHUNKED + b"10000000000000005\r\nhello\r\n0\r\n\r\n", 400),
    "huge chunk size": (CHUNKED + b"ffffffffffffffff\r\nhello", 413),
    "space before chunk size": (CHUNKED + b" 5\r\nhello\r\n0\r\n\r\n", 400),
    "chunk too long": (CHUNKED + b"5\r\nhello!\r\n0\r\n\r\n", 400),
    "chunk without end": (CHUNKED + b"5\r\nhello0\r\n\r\n", 400),
    "bare LF after chunk size": (CHUNKED + b"5\nhello\r\n0\r\n\r\n", 400),
    "bare LF after chunk": (CHUNKED + b"5\r\nhello\n0\r\n\r\n", 400),
    "bare LF in extension": (CHUNKED + b"5;a\nb\r\nhello\r\n0\r\n\r\n", 400),
    "bare CR in extension": (CHUNKED + b"5;a\rb\r\nhello\r\n0\r\n\r\n", 400),
    "trailer without colon": (CHUNKED + b"0\r\ntrailer\r\n\r\n", 400),
    "folded trailer": (CHUNKED + b"0\r\na: b\r\n c\r\n\r\n", 400),
    "bare LF everywhere": (b"GET / HTTP/1.1\nHost: a\n\n", 400),
    "bare LF after a header": (b"GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n", 400),
    "bare LF at the end": (GET + b"\n", 400),
    "bare LF, then silence": (b"GET / HTTP/1.1\n", 400),
    "bare CR in a header": (GET + b"X: a\rb\r\n\r\n", 400),
    "folded header": (GET + b"X: a\r\n b\r\n\r\n", 400),
    "folded first header": (b"GET / HTTP/1.1\r\n Host: a\r\n\r\n", 400),
    "NUL": (GET + b"X: a\0b\r\n\r\n", 400),
    "control character": (GET + b"X: a\x01b\r\n\r\n", 400),
    "DEL": (GET + b"X: a\x7fb\r\n\r\n", 400),
    "space before the colon": (GET + b"X : a\r\n\r\n", 400),
    "no colon": (GET + b"X\r\n\r\n", 400),
    "no name": (GET + b": a\r\n\r\n", 400),
    "odd name": (GET + b"X(y): a\r\n\r\n", 400),
    "no host": (b"GET / HTTP/1.1\r\n\r\n", 400),
    "two hosts": (GET + b"Host: b\r\n\r\n", 400),
    "odd host": (b"GET / HTTP/1.1\r\nHost: a/b@c\r\n\r\n", 400),
    "no host for an URL": (b"GET http://a/ HTTP/1.1\r\n\r\n", 400),
    "HTTP/0.9": (b"GET /\r\n\r\n", 400),
    "HTTP/2.0": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    "HTTP/1.2": (b"GET / HTTP/1.2\r\nHost: a\r\n\r\n", 505),
    "HTTP/1.10": (b"GET / HTTP/1.10\r\nHost: a\r\n\r\n", 400),
    "other protocol": (b"GET / ICY/1.1\r\nHost: a\r\n\r\n", 505),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
    "two spaces": (b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "two spaces before the version": (b"GET /  HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "tab": (b"GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "space after the version": (b"GET / HTTP/1.1 \r\nHost: a\r\n\r\n", 400),
    "lower-case method": (b"get / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "raw bytes in the target": (b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "fragment": (b"GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "relative target": (b"GET a HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "odd URL": (b"GET a/b://c HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "URL with a user": (b"GET http://me@a/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "tunnel": (b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n", 501),
    "star": (b"GET * HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "long line": (b"GET /" + b"a" * 5000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
    "line without end": (b"GET /" + b"a" * 5000, 414),
    "long header": (GET + b"X: " + b"a" * 9000 + b"\r\n\r\n", 431),
    "many headers": (GET + b"".join(b"X%d: a\r\n" % index for index in range(101)) + b"\r\n", 431),
    "more headers than the parser takes": (GET + b"X: a\r\n" * 300 + b"\r\n", 431),
    "headers without end": (GET + b"X: aaaaaaaaaaaaa\r\n" * 4000, 431),
}
CODES = {
    400: "bad_request",
    413: "body_too_large",
    414: "uri_too_long",
    431: "headers_too_large",
    501: "not_implemented",
    505: "http_version_not_supported",
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_request_is_refused(server, name):
    request, status = MALFORMED[name]
    with server.connect() as client:
        client.sock.sendall(request)
        error = assert_refused(client, status, CODES[status])
    assert len(json.dumps(error)) < 500
    assert server.get("/").status == 200


# Answers.


@pytest.mark.parametrize(
    ("method", "target", "status"),
    [("GET", "/204", 204), ("GET", "/304", 304), ("HEAD", "/", 200), ("HEAD", "/304", 304), ("HEAD", "/stream", 200)],
)
def test_answers_without_a_body(server, method, target, status):
    with server.connect() as client:
        for _ in range(2):
            answer = client.ask(f"{method} {target} HTTP/1.1\r\nHost: a\r\n\r\n".encode(), method)
            assert answer.status == status
            assert "transfer-encoding" not in answer.headers
            assert ("content-length" in answer.headers) == (target == "/")


def test_streamed_answer_comes_piece_by_piece(server):
    with server.connect() as client:
        client.sock.sendall(b"GET /stream HTTP/1.1\r\nHost: a\r\n\r\n")
        assert b"piece 2" not in client.sock.recv(65536, socket.MSG_PEEK)  # what is there first is not all
        answer = client.read()
        assert answer.headers["transfer-encoding"] == "chunked"
        assert answer.body == b"piece 0;piece 1;piece 2;"
        assert client.ask(post(b"")).status == 200
    with server.connect() as client:
        answer = client.ask(b"GET /stream HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        assert (answer.body, answer.headers["connection"]) == (b"piece 0;piece 1;piece 2;", "close")


def test_start_response(server):
    assert server.get("/writes").body == b"one;two;three;"
    answer = server.get("/mends")
    assert (answer.status, answer.headers.get("x-first"), answer.headers["x-second"]) == (503, None, "2")
    answer = server.get("/own-fields")
    assert (answer.headers["server"], answer.headers.get("connection")) == ("bmp", None)


@pytest.mark.parametrize("target", ["/boom", "/inject", "/silent", "/twice", "/long"])
def test_failing_application_answers_500_without_details(server, target):
    with server.connect() as client:
        client.sock.sendall(f"GET {target} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        error = assert_refused(client, 500, "internal_error")
    assert "secret" not in json.dumps(error)
    assert "Error" not in json.dumps(error)
    assert server.get("/").status == 200


@pytest.mark.parametrize("target", ["/late", "/short", "/exit"])
def test_answer_that_breaks_off_is_seen_as_such(server, target):
    with pytest.raises(EOFError):
        server.get(target)
    pid = server.get("/").json()["pid"]
    assert "secret detail" in server.log.read_text() or target == "/short"
    assert server.get("/").json()["pid"] == pid


def test_reader_that_stalls_is_dropped(server):
    with server.connect() as client, server.connect() as other:
        client.sock.sendall(b"GET /big HTTP/1.1\r\nHost: a\r\n\r\n")
        time.sleep(1.5)
        assert other.ask(post(b"")).status == 200
        with pytest.raises((EOFError, ConnectionResetError)):
            client.read()


def test_slow_but_steady_reader_gets_everything(server):
    with server.connect() as client:
        client.sock.sendall(b"GET /big HTTP/1.1\r\nHost: a\r\n\r\n")
        time.sleep(0.5)
        assert len(client.read().body) == 20_000_000


def test_endless_answer_is_not_collected_in_memory(server):
    before = server.get("/made").json()
    with server.connect() as client:
        client.sock.sendall(b"GET /endless HTTP/1.1\r\nHost: a\r\n\r\n")
        client.sock.recv(65536)
        time.sleep(0.3)
        pieces = server.get("/made").json()["pieces"] - before["pieces"]
        assert pieces * 65536 < 20 * 2**20  # the system's buffers and one of ours
    eventually(lambda: server.get("/made").json()["closed"] == before["closed"] + 1)


def test_paused_answers_keep_their_own_context(server):
    with server.connect() as one, server.connect() as two:
        for client, name in ((one, b"1"), (two, b"2")):
            client.sock.sendall(b"GET /owned?%b HTTP/1.0\r\n\r\n" % name)
        time.sleep(0.2)
        assert two.read().body == b"2" * 6_553_600
        assert one.read().body == b"1" * 6_553_600


def test_access_log(server):
    server.get("/logged?yes")
    log = server.log.parent / "access.txt"
    eventually(lambda: '"GET /logged?yes HTTP/1.1" 200' in log.read_text())


# Time.


@pytest.mark.parametrize(
    "part", [b"G", b"GET / HTTP/1.1\r\nHost:", POST + b"Content-Length: 9\r\n\r\nabc", CHUNKED + b"5\r\n"]
)
def test_request_that_stops_half_way_times_out(server, part):
    with server.connect() as client:
        client.sock.sendall(part)
        assert_refused(client, 408, "request_timeout")


def test_connection_that_says_nothing_is_closed(server):
    with server.connect() as client:
        assert client.closed()


# The process.


def test_stopping_worker_finishes_what_it_began(tmp_path):
    with serving(tmp_path) as server, server.connect() as idle, server.connect() as slow, server.connect() as partial:
        assert idle.ask(post(b"")).status == 200
        partial.sock.sendall(post(b"partial")[:-3])
        slow.sock.sendall(b"GET /slow?s=1 HTTP/1.1\r\nHost: a\r\n\r\n")
        time.sleep(0.3)
        server.process.send_signal(signal.SIGTERM)
        answer = slow.read()
        assert (answer.status, answer.headers["connection"]) == (200, "close")
        answer = partial.ask(b"ial")
        assert (answer.status, answer.headers["connection"]) == (200, "close")
        assert answer.json()["sha"] == hashlib.sha256(b"partial").hexdigest()
        assert idle.closed()
        assert server.process.wait(10) == 0


def test_threads_run_requests_side_by_side(tmp_path):
    with serving(tmp_path, "--threads", "4") as server:
        clients = [server.connect() for _ in range(3)]
        for client in clients:
            client.sock.sendall(b"GET /slow?s=1 HTTP/1.1\r\nHost: a\r\n\r\n")
        assert server.get("/").json()["environ"]["wsgi.multithread"] is True
        assert select.select([client.sock for client in clients], [], [], 0)[0] == []  # all three still run
        began = time.monotonic()
        assert [client.read().status for client in clients] == [200] * 3
        assert time.monotonic() - began < 2
        requests = [(index, 0.2 if index == 0 else 0) for index in range(8)]
        for index, seconds in requests:
            clients[0].sock.sendall(f"GET /slow?s={seconds}&n={index} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        assert [clients[0].read().json()["n"] for _ in requests] == [[str(index)] for index, _ in requests]
        for path in ("/exit", "/exit", "/exit", "/exit"):
            with pytest.raises(EOFError):
                server.get(path)
        assert server.get("/stream").body == b"piece 0;piece 1;piece 2;"
        clients[1].sock.sendall(b"GET /slow?s=1 HTTP/1.1\r\nHost: a\r\n\r\n")
        time.sleep(0.2)
        server.process.terminate()
        assert clients[1].read().headers["connection"] == "close"
        assert server.process.wait(10) == 0
        for client in clients:
            client.sock.close()


@pytest.mark.parametrize("threads", ["1", "2"])
def test_worker_that_hangs_is_replaced(tmp_path, threads):
    with serving(tmp_path, "--threads", threads, "--timeout", "1") as server, server.connect() as client:
        pid = server.get("/").json()["pid"]
        client.sock.sendall(b"GET /slow?s=60 HTTP/1.1\r\nHost: a\r\n\r\n")
        eventually(lambda: server.get("/").json()["pid"] != pid)


def test_killed_worker_is_replaced(tmp_path):
    with serving(tmp_path) as server:
        pid = server.get("/").json()["pid"]
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: server.get("/").json()["pid"] != pid)


def test_worker_is_replaced_after_max_requests_and_nobody_notices(tmp_path):
    with serving(tmp_path, "--max-requests", "5", "--workers", "2") as server:
        pids = {server.get("/").json()["pid"] for _ in range(30)}
        assert len(pids) > 2


def test_too_many_connections_are_turned_away(tmp_path):
    with serving(tmp_path, "--worker-connections", "2") as server:
        with server.connect() as one, server.connect() as two:
            assert (one.ask(post(b"")).status, two.ask(post(b"")).status) == (200, 200)
            with server.connect() as three:
                three.sock.sendall(post(b"x" * 50_000))
                answer = three.read()
                assert (answer.status, answer.headers["retry-after"]) == (503, "1")
                assert answer.json()["error"]["code"] == "overloaded"
        eventually(lambda: server.get("/").status == 200)


def test_workers_share_connections(tmp_path):
    with serving(tmp_path, "--workers", "2") as server:
        eventually(lambda: server.log.read_text().count("Booting worker") == 2)
        time.sleep(0.5)
        clients = [server.connect() for _ in range(16)]
        pids = [client.ask(post(b"")).json()["pid"] for client in clients]
        for client in clients:
            client.sock.close()
        assert sorted(pids.count(pid) for pid in set(pids)) == pytest.approx([8, 8], abs=4)


STARTING_APP = """
import os
from pathlib import Path

class App:
    def __call__(self, environ, start_response):
        body = str(os.getpid()).encode()
        start_response("200 OK", [("Content-Length", str(len(body)))])
        return [body]

    def is_started(self):
        return Path("all").exists() or Path(f"started-{os.getpid()}").exists()

app = App()
"""


def test_workers_that_are_still_starting_leave_connections_to_those_that_are_not(tmp_path):
    def ask() -> bytes:
        return server.get("/").body

    # A worker that is not seen for two sweeps counts as gone: on a busy machine that must not happen here.
    config = CONFIG.replace("sweep_interval_s = 0.1", "sweep_interval_s = 2")
    with serving(tmp_path, "--workers", "2", app=STARTING_APP, config=config) as server:
        eventually(lambda: len({ask() for _ in range(10)}) == 2)  # nobody has started: both answer
        first = ask()
        (tmp_path / f"started-{first.decode()}").touch()
        time.sleep(0.5)
        assert {ask() for _ in range(50)} == {first}
        (tmp_path / "all").touch()
        eventually(lambda: len({ask() for _ in range(10)}) == 2)


def test_unix_socket_beside_tcp(tmp_path):
    path = tmp_path / "s"
    with serving(tmp_path, "--bind", f"unix:{path}") as server, socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(10)
        sock.connect(str(path))
        environ = Client(sock).ask(post(b"")).json()["environ"]
        assert (environ["SERVER_NAME"], environ["SERVER_PORT"], environ["REMOTE_ADDR"]) == ("localhost", "80", "")
        assert server.get("/").status == 200


@pytest.mark.parametrize(
    ("option", "value"), [("--certfile", "app.py"), ("--proxy-protocol", "v1"), ("--header-map", "dangerous")]
)
def test_settings_without_effect_are_refused(tmp_path, option, value):
    (tmp_path / "app.py").write_text(APP)
    (tmp_path / "conf.py").write_text(CONFIG)
    command = [sys.executable, "-m", "gunicorn", "-c", "conf.py", "-b", "127.0.0.1:0", option, value]
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    result = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=20)
    assert result.returncode == 1
    assert "BufferedWorker does not support" in result.stderr
