"""The head of a request: everything before its body, read once for all requests that start with the same bytes."""

from __future__ import annotations

from typing import Any

from gunicorn_h1c._parser_fast import IncompleteError, parse_request

from serving.worker.framing import (
    Limits,
    Refusal,
    body_size,
    check_host,
    explain_parse_error,
    head_too_large,
    keeps_alive,
    set_target,
)

_END = b"\r\n\r\n"
_KNOWN_FIELDS = 1024
_KNOWN_HEADS, _KNOWN_BYTES = 256, 2048
UNDECIDED = object()


class Head:
    """What a head says; it is shared, and so nobody's to change.

    Args:
        environ: What the environ of such a request holds, besides what its connection and its body say.
        length: Of the head itself, in bytes.

    Attributes:
        method: Of HTTP.
        is_modern: Whether it is HTTP/1.1.
        keeps_alive: Whether its connection goes on.
        awaits_go: Whether the client waits to be told to send the body.
        size: Of the body, as announced; None for a chunked one.
        route: What the application's fast path makes of it; UNDECIDED until it was asked.
    """

    __slots__ = ("awaits_go", "environ", "is_modern", "keeps_alive", "length", "method", "route", "size")

    def __init__(self, environ: dict[str, Any], length: int, max_body_bytes: int) -> None:
        self.environ = environ
        self.length = length
        self.method: str = environ["REQUEST_METHOD"]
        self.is_modern = environ["SERVER_PROTOCOL"] == "HTTP/1.1"
        options = environ.get("HTTP_CONNECTION")
        self.keeps_alive = self.is_modern if options is None else keeps_alive(options, self.is_modern)
        self.size = body_size(environ, max_body_bytes)
        self.awaits_go = self.is_modern and "HTTP_EXPECT" in environ
        self.route: Any = UNDECIDED


class HeadReader:
    """Reads heads, and knows again what it has read: a client that keeps its connection mostly sends the same one.

    Args:
        limits: Of a head.
        max_body_bytes: That may be announced.
    """

    def __init__(self, limits: Limits, max_body_bytes: int) -> None:
        self.limits = limits
        self._max_body_bytes = max_body_bytes
        self._known: dict[bytes, Head] = {}
        self._environ_keys: dict[bytes, str] = {}

    def read(self, data: bytes, scanned: int) -> Head | None:
        """Returns the head that bytes start with, or None where it is not complete.

        Args:
            data: As received.
            scanned: How much of it is known to hold no complete head.

        Raises:
            Refusal: It is no good head, and will not become one.
        """
        end = data.find(_END, scanned - 3 if scanned > 3 else 0)
        text = data[: end + 4] if 0 < end < _KNOWN_BYTES else b""
        head = self._known.get(text)
        if head is None:
            head = self._parse(data, scanned)
            if head is not None and text:
                self._remember(text, head)
        return head

    def _remember(self, text: bytes, head: Head) -> None:
        if len(self._known) >= _KNOWN_HEADS:  # of clients that send another one each time: nothing is lost but time
            self._known.clear()
        self._known[text] = head

    def _parse(self, data: bytes, scanned: int) -> Head | None:
        limits = self.limits
        try:
            request = parse_request(data, scanned, *limits[:3])
        except IncompleteError:
            self._check_part(data, scanned)
            return None
        except ValueError as error:
            raise explain_parse_error(error, data, limits) from None
        if request.consumed > limits.head_bytes:
            raise head_too_large(limits)
        return Head(self._make_environ(request, data), request.consumed, self._max_body_bytes)

    def _check_part(self, data: bytes, scanned: int) -> None:
        """Raises where no head will come of a part of one."""
        limits = self.limits
        if data.count(b"\n", scanned) != data.count(b"\r\n", max(scanned - 1, 0)):
            raise Refusal("bad_request", "CR LF at the end of a line", "LF")
        if len(data) > limits.line_bytes + 2 and data.find(b"\r\n", 0, limits.line_bytes + 2) < 0:
            raise Refusal("uri_too_long", f"at most {limits.line_bytes} bytes", "a longer line")
        if len(data) > limits.head_bytes:
            raise head_too_large(limits)

    def _make_environ(self, request: Any, data: bytes) -> dict[str, Any]:
        method, target, end = request.method, request.path, request.consumed
        # The parser lets several spaces and bare line feeds pass.
        if not data.startswith(b" HTTP/1.", len(method) + 1 + len(target)):
            raise Refusal("bad_request", "single spaces between the parts of the request line")
        if data.count(b"\n", 0, end) != data.count(b"\r\n", 0, end):
            raise Refusal("bad_request", "CR LF at the end of a line", "LF")
        environ: dict[str, Any] = {}
        for name, value in request.headers:
            key = self._environ_key(name)
            if key in environ:
                environ[key] += ("; " if key == "HTTP_COOKIE" else ", ") + value.decode("latin-1")
            elif key:
                environ[key] = value.decode("latin-1")
        is_modern = request.minor_version == 1
        environ["REQUEST_METHOD"] = method.decode("ascii")
        environ["SERVER_PROTOCOL"] = "HTTP/1.1" if is_modern else "HTTP/1.0"
        check_host(environ.get("HTTP_HOST"), is_modern)
        set_target(environ, target)
        return environ

    def _environ_key(self, name: bytes) -> str:
        """Returns the environ key of a header; "" for one that is dropped."""
        key = self._environ_keys.get(name)
        if key is None:
            if not name:
                raise Refusal("bad_request", "one line per header", "a folded line")
            key = name.decode("ascii").upper().replace("-", "_")
            if b"_" in name or key == "PROXY":
                key = ""  # could pass for another header, or for the proxy setting of HTTP clients
            elif key not in ("CONTENT_TYPE", "CONTENT_LENGTH"):
                key = f"HTTP_{key}"
            if len(self._environ_keys) < _KNOWN_FIELDS and len(name) < 64:
                self._environ_keys[name] = key
        return key
