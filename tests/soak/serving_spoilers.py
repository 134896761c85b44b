"""How a good request is spoiled so that it stays a request of HTTP: in its JSON, its bytes, its words."""

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from tests.soak.serving_questions import HEADER_LENGTH, JSON, Question

MAX_BODY_BYTES = 300_000
"""What the server is told to take; some requests are longer."""

_TOKENS = (
    "NaN",
    "-Infinity",
    "1e999",
    "-0",
    "1" + "0" * 400,
    "0x10",
    "01",
    ".5",
    "1e-400",
    "'",
    "\\ud800",
    "\x00",
    "/**/",
    "[" * 3000 + "]" * 3000,
    '{"x":' * 3000 + "1" + "}" * 3000,
)
_VALUES: tuple[Any, ...] = (
    None,
    True,
    0,
    -1,
    1.5,
    2**31,
    2**63,
    2**64,
    -(2**63) - 1,
    1e308,
    1e39,
    "",
    "x",
    "nan",
    "é" * 300,
    "\ud800",
    "\x00",
    [],
    {},
    [[]],
    [None],
    [{}],
    {"b64": "!"},
    {"b64": ""},
    {"x": []},
    [[[[[[[[1]]]]]]]],
    [10**9, 10**9],
    [2**62, 2],
    [-1],
    [0],
    [1] * 40,
)
_KEYS = (
    "model",
    "version",
    "alias",
    "top_k",
    "instances",
    "inputs",
    "outputs",
    "parameters",
    "shape",
    "datatype",
    "data",
    "é",
)
_DATATYPES = ("FP32", "FP16", "FP64", "BF16", "INT8", "UINT64", "BOOL", "BYTES", "fp32", "")
_TYPES = (
    JSON,
    "application/json; charset=latin-1",
    "application/x-npy",
    "application/octet-stream",
    "image/png",
    "image/jpeg",
    "audio/wav",
    "text/plain",
    "text/plain; charset=utf-7",
    "multipart/form-data; boundary=x",
    "application/x-www-form-urlencoded",
    "/",
    "",
)
_HEADERS: tuple[tuple[str, tuple[str, ...]], ...] = (
    (HEADER_LENGTH, ("0", "-1", "1", "40", "99999999999", "x", "1 1", "٣")),
    ("X-Request-Timeout", ("0", "0.000001", "-1", "nan", "inf", "1e400", "x", "", "9" * 40)),
    ("Content-Encoding", ("gzip", "deflate", "br", "identity", "")),
    ("Accept", ("text/html", "*/*;q=0", "application/octet-stream")),
    ("Expect", ("100-continue", "200-ok")),
    ("Transfer-Encoding", ("identity",)),
    ("Range", ("bytes=0-1", "x")),
    ("If-None-Match", ("*", '"x"')),
    ("Cookie", ("a=b; " * 50, "\x80")),
    ("X-Forwarded-For", ("127.0.0.1, ::1", "' or 1=1")),
    ("Host", ("soak:5000", "[::1]", "é")),
    ("Triton-Enable", ("x" * 3000,)),
)
_PARTS = (
    "%00",
    "%ff%fe",
    "%2e%2e/",
    "..",
    "//",
    "%",
    "%zz",
    ";",
    "é",
    "\x80",
    "flags",
    "versions",
    "99",
    "-1",
    "9" * 30,
    "a" * 300,
)
_QUERIES = (
    "top_k=0",
    "top_k=-1",
    "top_k=1e3",
    "top_k=" + "9" * 30,
    "version=0",
    "version=99",
    "model=",
    "model=x",
    "model=%ff",
)


def spoil_json(question: Question, rng: random.Random) -> Question:
    """Changes some values, keys or lengths of a body in JSON."""
    content = question.parse()
    if content is None:
        return spoil_bytes(question, rng)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        content = _spoil_node(content, rng)
    text = json.dumps(content, ensure_ascii=rng.random() < 0.5)
    if rng.random() < 0.15:
        position = rng.randrange(len(text))
        text = text[:position] + rng.choice(_TOKENS) + text[position + 1 :]
    return replace(question, body=text.encode("utf-8", "surrogatepass"))


def _spoil_node(content: Any, rng: random.Random) -> Any:
    """Returns the same with one node changed, somewhere in it."""
    if not isinstance(content, (dict, list)) or not content or rng.random() < 0.15:
        return _spoil_value(content, rng)
    key = rng.choice(list(content)) if isinstance(content, dict) else rng.randrange(len(content))
    changed: Any = dict(content) if isinstance(content, dict) else list(content)
    change = rng.random()
    if change < 0.08:
        del changed[key]
    elif change < 0.16 and isinstance(changed, dict):
        changed[rng.choice((*_KEYS, str(key) + "s", str(key).upper()))] = changed.pop(key)
    elif change < 0.16:
        changed += [changed[key]] * rng.choice((1, 5, 5000))
    else:
        changed[key] = _spoil_node(changed[key], rng)
    return changed


def _spoil_value(value: Any, rng: random.Random) -> Any:
    way = rng.random()
    if way < 0.06:
        return _nest(value, rng.choice((1, 2, 40, 200)))
    if way < 0.12:
        return [value] * rng.choice((2, 70, 3000))
    if way < 0.2 and isinstance(value, str):
        return rng.choice((*_DATATYPES, value * 2, value[:-1], value.swapcase()))
    return rng.choice(_VALUES)


def _nest(value: Any, depth: int) -> Any:
    for _ in range(depth):
        value = [value]
    return value


def spoil_bytes(question: Question, rng: random.Random) -> Question:
    """Flips, cuts, doubles or fills in bytes of a body."""
    body = bytearray(question.body or b"{}")
    for _ in range(rng.choice((1, 1, 2, 5, 30))):
        body = spoil_slice(body, rng)
    return replace(question, body=bytes(body))


def spoil_slice(body: bytearray, rng: random.Random) -> bytearray:
    """Flips, cuts, doubles or fills in one stretch of bytes."""
    start = rng.randrange(len(body) + 1)
    end = min(len(body), start + rng.choice((1, 1, 2, 4, 16, 200)))
    way = rng.randrange(6)
    if way == 0:
        body[start:end] = b""
    elif way == 1:
        body[start:start] = body[start:end]
    elif way == 2:
        body[start:end] = rng.randbytes(end - start)
    elif way == 3:
        body[start:] = b""
    elif way == 4:
        body[start:start] = rng.choice((b"\xff", b"\x00" * 4, b"[" * 1000, b'"', b"{", b",", b"1" * 5000))
    elif start < len(body):
        body[start] ^= 1 << rng.randrange(8)
    return body if body else bytearray(b"\x00")


def spoil_length(question: Question, rng: random.Random) -> Question:
    """Makes a body empty, or too long."""
    filling = rng.choice((b" ", b"0", b"[", b"\x00"))
    size = rng.choice((0, 1, MAX_BODY_BYTES - len(question.body), MAX_BODY_BYTES + 1 - len(question.body)))
    return replace(question, body=question.body + filling * size if size else b"")


def spoil_type(question: Question, rng: random.Random) -> Question:
    """Says that the body is something else."""
    return replace(question, content_type=rng.choice(_TYPES))


def spoil_header(question: Question, rng: random.Random) -> Question:
    """Adds a header that is wrong, odd, or of no use here."""
    name, values = rng.choice(_HEADERS)
    return replace(question, headers={**question.headers, name: rng.choice(values)})


def spoil_target(question: Question, rng: random.Random) -> Question:
    """Changes the path or the query."""
    path, _, query = question.target.partition("?")
    if rng.random() < 0.4:
        more = rng.choice((*_QUERIES, rng.choice(_PARTS), rng.choice(_PARTS) + "=" + rng.choice(_PARTS)))
        return replace(question, target=f"{path}?{query}&{more}" if query else f"{path}?{more}")
    parts = path.split("/")
    parts[rng.randrange(len(parts))] = rng.choice(_PARTS)
    target = "/".join(parts) + (f"?{query}" if query else "")
    return replace(question, target=target if target.startswith("/") else f"/{target}")


def spoil_method(question: Question, rng: random.Random) -> Question:
    """Asks by another method."""
    return replace(question, method=rng.choice(("GET", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "POST", "BREW")))


def swap_bodies(question: Question, other: Question, rng: random.Random) -> Question:
    """Asks one thing at the place of another."""
    headers = other.headers if rng.random() < 0.5 else question.headers
    return replace(question, body=other.body, content_type=other.content_type, headers=headers, method="POST")


FRAMED: Sequence[tuple[int, Callable[[Question, random.Random], Question]]] = (
    (40, spoil_json),
    (20, spoil_bytes),
    (1, spoil_length),
    (6, spoil_type),
    (8, spoil_header),
    (10, spoil_target),
    (3, spoil_method),
)
"""Weight of each."""
