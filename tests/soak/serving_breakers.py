"""How a good request is spoiled where one request ends and the next begins.

After its bytes nobody knows what the connection holds.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import replace

from tests.soak.serving_questions import Question
from tests.soak.serving_spoilers import spoil_slice

Frame = Callable[[Question, random.Random], bytes]
_VERSIONS = ("HTTP/1.0", "HTTP/0.9", "HTTP/2.0", "HTTP/9.9", "http/1.1", "HTTP/1.1 x", "HTTP/1.", "")
_LENGTHS = ("-1", "+5", "0x10", "5, 5", "5 5", "9" * 25, "1e3", "", "١")
_CHUNKS = (
    b"g\r\n",
    b"-1\r\nab\r\n",
    b"5\r\nab\r\n",
    b"ffffffffffffffffff\r\n",
    b"1\na\n",
    b"2;" + b"x" * 9000 + b"\r\nab\r\n",
    b"3\r\nabcd\r\n",
)
_HELLOS = (
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x11" * 64,
    b"\x05\x01\x00",
    b"SSH-2.0-x\r\n",
    b"GET\r\n\r\n",
    b"\r\n" * 50,
    b"\x00" * 4000,
)


def break_head(question: Question, rng: random.Random) -> bytes:
    """Flips and cuts bytes of the head."""
    head, separator, body = question.write().partition(b"\r\n\r\n")
    broken = bytearray(head)
    for _ in range(rng.choice((1, 1, 2, 4))):
        broken = spoil_slice(broken, rng)
    return bytes(broken) + separator + body


def break_length(question: Question, rng: random.Random) -> bytes:
    """Says a wrong Content-Length, two of them, or none."""
    size = len(question.body)
    said = rng.choice((*_LENGTHS, str(size + rng.choice((1, 9, 1000))), str(max(0, size - rng.choice((1, 9))))))
    extra = f"\r\nContent-Length: {said}".encode()
    data = question.write()
    way = rng.random()
    if way < 0.3:
        return data.replace(b"\r\n\r\n", extra + b"\r\n\r\n", 1)
    if way < 0.4:
        return data.replace(b"\r\n\r\n", b"\r\nTransfer-Encoding: chunked\r\n\r\n", 1)
    return data.replace(b"\r\nContent-Length: %d" % size, b"" if way < 0.5 else extra, 1)


def break_chunks(question: Question, rng: random.Random) -> bytes:
    """Sends the body in chunks, most of the time with something wrong about them."""
    head, _, _ = (
        replace(question, headers={**question.headers, "Transfer-Encoding": "chunked"}).write().partition(b"\r\n\r\n")
    )
    head = head.replace(b"\r\nContent-Length: %d" % len(question.body), b"", 1)
    chunks, start = [], 0
    while start < len(question.body):
        size = rng.choice((1, 3, 50, 4000))
        piece = question.body[start : start + size]
        chunks.append(b"%x\r\n%s\r\n" % (len(piece), piece))
        start += size
    if rng.random() < 0.7:
        chunks.insert(rng.randrange(len(chunks) + 1), rng.choice(_CHUNKS))
    trailer = rng.choice(
        (b"", b"", b"X-Late: 1\r\n", b"no colon\r\n", b"Content-Length: 5\r\n", b"x: " + b"y" * 9000 + b"\r\n")
    )
    return head + b"\r\n\r\n" + b"".join(chunks) + b"0\r\n" + trailer + b"\r\n"


def break_fields(question: Question, rng: random.Random) -> bytes:
    """Adds header lines that are none, or too many, or too long."""
    lines = rng.choice(
        (
            b"X-Many: 1\r\n" * rng.choice((90, 150, 3000)),
            b"X-Long: " + b"x" * rng.choice((9_000, 70_000, 200_000)) + b"\r\n",
            b" folded\r\n",
            b"no colon\r\n",
            b": no name\r\n",
            b"Bad Name: 1\r\n",
            b"X-Null: \x00\r\n",
            b"X-Bare: a\rb\r\n",
            b"Host: other\r\n",
            b"Transfer-Encoding: gzip, chunked\r\n",
            b"Transfer-Encoding: chunked, chunked\r\n",
            b"Connection: close, keep-alive, Upgrade\r\nUpgrade: websocket\r\n",
        )
    )
    return question.write().replace(b"\r\n", b"\r\n" + lines, 1)


def break_line(question: Question, rng: random.Random) -> bytes:
    """Spoils the request line."""
    data = question.write()
    way = rng.randrange(4)
    if way == 0:
        return data.replace(b"HTTP/1.1", rng.choice(_VERSIONS).encode(), 1)
    if way == 1:
        return data.replace(
            b" /", b" " + rng.choice((b"http://a/", b"//", b"*", b"a:80", b"/" + b"x" * 70_000, b"", b"  /")), 1
        )
    if way == 2:
        return rng.choice((b"GET ", b"\x00", b"POST", b"\r\n\r\n", b" ")) + data
    return rng.choice(_HELLOS)


def cut_short(question: Question, rng: random.Random) -> bytes:
    """Leaves before the end."""
    data = question.write()
    return data[: rng.randrange(1, len(data))]


def break_bytes(question: Question, rng: random.Random) -> bytes:
    """Flips and cuts bytes anywhere."""
    data = bytearray(question.write())
    for _ in range(rng.choice((1, 2, 5))):
        data = spoil_slice(data, rng)
    return bytes(data)


BROKEN: Sequence[tuple[int, Frame]] = (
    (3, break_head),
    (3, break_length),
    (4, break_chunks),
    (2, break_fields),
    (2, break_line),
    (2, cut_short),
    (2, break_bytes),
)
"""Weight of each."""
