"""How HTTP/1.1 requests are framed: strict wherever two readers of the same bytes could disagree.

That is what request smuggling lives on, so whatever is ambiguous is refused and the connection closed.
"""

from __future__ import annotations

import json
import re
from io import BytesIO
from typing import Any, NamedTuple
from urllib.parse import unquote_to_bytes

from gunicorn_h1c import InvalidHeader, InvalidHTTPVersion, LimitRequestHeaders, LimitRequestLine

RECEIVE_BYTES = 256 * 2**10  # a usual body at once: each piece costs a turn of the loop
CHUNK_LINE_BYTES = 4096
CHUNK_OVERHEAD_BYTES = 64 * 2**10

_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,16})(?:[ \t]*;[\t\x20-\x7e\x80-\xff]*)?")
_TRAILER = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[\t\x20-\x7e\x80-\xff]*")
_ABSOLUTE_TARGET = re.compile(r"[Hh][Tt][Tt][Pp][Ss]?://([^/?]+)(/[^?]*)?(\?.*)?")
_AUTHORITY = re.compile(r"(?:[A-Za-z0-9\-._~!$&'()*+,;=%]*|\[[0-9A-Fa-f:.]+\])(?::[0-9]*)?")
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


class Refusal(Exception):
    """An answer that the server gives in place of the application: a code of `_ANSWERS`, with details."""

    def __init__(self, code: str, expected: str = "", received: str = "") -> None:
        status, message = _ANSWERS[code]
        super().__init__(f"{code} (expected {expected}, received {received})" if expected else code)
        error = {"code": code, "message": message, "expected": expected or None, "received": received or None}
        self.code = code
        self.status = status
        self.body = json.dumps({"error": error}).encode()


class Limits(NamedTuple):
    """How large the head of a request may be."""

    line_bytes: int
    num_headers: int
    header_bytes: int
    head_bytes: int


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
        self._overhead_left = limit // 32 + CHUNK_OVERHEAD_BYTES
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
                    raise Refusal("bad_request", "chunk lines of a sane length", "a longer line")
                return None
            if end == position or data[end - 1] != 13:
                raise Refusal("bad_request", "CR LF at the end of a chunk line", "LF")
            line = data[position : end - 1]
            position = end + 1
            self._overhead_left -= len(line) + 2
            if self._overhead_left < 0:
                raise Refusal("bad_request", "larger chunks, shorter extensions and trailers")
            if self._take_line(line):
                return data[position:]

    def _take_size(self, line: bytes) -> bool:
        match = _CHUNK_SIZE.fullmatch(line)
        if match is None:
            raise Refusal("bad_request", "a chunk size in hexadecimal digits", repr(line[:20]))
        self._missing = int(match[1], 16)
        if self.file.tell() + self._missing > self._limit:
            raise Refusal("body_too_large", f"at most {self._limit} bytes", "a longer chunked body")
        self._take_line = self._take_end_of_data if self._missing else self._take_trailer
        return False

    def _take_end_of_data(self, line: bytes) -> bool:
        if line:
            raise Refusal("bad_request", "CR LF after the data of a chunk", repr(line[:20]))
        self._take_line = self._take_size
        return False

    def _take_trailer(self, line: bytes) -> bool:
        if line and not _TRAILER.fullmatch(line):
            raise Refusal("bad_request", "a trailer of a name and a value", repr(line[:20]))
        return not line


def explain_parse_error(error: ValueError, data: bytes, limits: Limits) -> Refusal:
    """Returns the answer to what the parser complains about."""
    text = str(error)
    if isinstance(error, LimitRequestLine):
        return Refusal("uri_too_long", f"at most {limits.line_bytes} bytes", "a longer line")
    lines = data.partition(b"\r\n\r\n")[0].count(b"\r\n")  # the parser itself stops at 256 headers
    if isinstance(error, LimitRequestHeaders) or lines > limits.num_headers:
        return head_too_large(limits)
    if isinstance(error, InvalidHTTPVersion):
        return Refusal("http_version_not_supported", "HTTP/1.1", text)
    if isinstance(error, InvalidHeader) and text.startswith(_UNKNOWN_CODINGS):
        return Refusal("not_implemented", "Transfer-Encoding: chunked", "another coding")
    return Refusal("bad_request", "a valid HTTP/1.1 request", text)


def head_too_large(limits: Limits) -> Refusal:
    """Returns the answer to a head that is over a limit."""
    expected = f"at most {limits.num_headers} headers of {limits.header_bytes} bytes, {limits.head_bytes} bytes in all"
    return Refusal("headers_too_large", expected, "more")


def keeps_alive(connection: str, modern: bool) -> bool:
    """Tells whether a request with this Connection header lets its connection go on."""
    options = {option.strip() for option in connection.lower().split(",")}
    return "close" not in options and (modern or "keep-alive" in options)


def check_host(host: str | None, modern: bool) -> None:
    """Checks the Host header, which HTTP/1.1 wants exactly once; several have been joined by commas."""
    valid = not modern if host is None else _AUTHORITY.fullmatch(host) and "," not in host
    if not valid:
        raise Refusal("bad_request", "one valid Host header", repr(host[:40]) if host else "none")


def set_target(environ: dict[str, Any], target: bytes) -> None:
    """Sets what the environ says of the request target (RFC 9112, section 3.2)."""
    if not target.isascii() or b"#" in target:
        raise Refusal("bad_request", "a target of ASCII characters without a fragment", repr(target[:40]))
    text = environ["RAW_URI"] = target.decode("ascii")
    if text[0] != "/" and text != "*":
        if environ["REQUEST_METHOD"] == "CONNECT":
            raise Refusal("not_implemented", "a method other than CONNECT", "CONNECT")
        match = _ABSOLUTE_TARGET.fullmatch(text)
        if match is None or not _AUTHORITY.fullmatch(match[1]):
            raise Refusal("bad_request", "a path or an http URL as target", repr(text[:40]))
        environ["HTTP_HOST"] = match[1]  # goes before what the Host header says
        text = f"{match[2] or '/'}{match[3] or ''}"
    path, _, environ["QUERY_STRING"] = text.partition("?")
    environ["PATH_INFO"] = unquote_to_bytes(path).decode("latin-1") if "%" in path else path


def body_size(environ: dict[str, Any], limit: int) -> int | None:
    """Returns the announced length of the body; None for a chunked one."""
    expect = environ.get("HTTP_EXPECT", "100-continue")
    if expect.lower() != "100-continue":
        raise Refusal("expectation_failed", "100-continue", repr(expect[:40]))
    length = environ.get("CONTENT_LENGTH")
    coding = environ.pop("HTTP_TRANSFER_ENCODING", None)
    if coding is not None:
        # With both, or in HTTP/1.0, a server on the way may have seen the body end elsewhere.
        if length is not None or environ["SERVER_PROTOCOL"] == "HTTP/1.0":
            raise Refusal("bad_request", "either Content-Length or, in HTTP/1.1, Transfer-Encoding")
        if coding.lower() != "chunked":
            raise Refusal("not_implemented", "Transfer-Encoding: chunked", repr(coding[:40]))
        return None
    if length is None:
        return 0
    if not length.isdecimal():
        raise Refusal("bad_request", "a Content-Length of decimal digits", repr(length[:20]))
    if len(length) > 18 or int(length) > limit:  # longer numbers overflow in the parser, unnoticed
        raise Refusal("body_too_large", f"at most {limit} bytes", f"{length[:20]} bytes")
    return int(length)
