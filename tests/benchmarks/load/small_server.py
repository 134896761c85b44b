"""A server of a few lines for what loads servers: a thread for each connection, and answers as the test wants them."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

Respond = Callable[[int], list[bytes] | None]
"""From the number of a request, by when it came, to its answer in pieces; None closes the connection."""


def write_answer(body: bytes, status: bytes = b"200 OK", fields: bytes = b"") -> bytes:
    return b"HTTP/1.1 %b\r\n%bContent-Length: %d\r\n\r\n%b" % (status, fields, len(body), body)


class SmallServer:
    """Takes requests of one size.

    Args:
        request: That comes again and again.
        respond: What to answer.
    """

    def __init__(self, request: bytes, respond: Respond) -> None:
        self._request, self._respond = request, respond
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._lock = threading.Lock()
        self._links: list[socket.socket] = []
        self.address: tuple[str, int] = self._listener.getsockname()
        self.asked = 0
        self.connected = 0

    def accept(self) -> None:
        """Takes connections until it is closed."""
        while True:
            try:
                link, _ = self._listener.accept()
            except OSError:
                return
            link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._links.append(link)
            self.connected += 1
            threading.Thread(target=self._serve, args=(link,), daemon=True).start()

    def _serve(self, link: socket.socket) -> None:
        with suppress(OSError), link:
            while self._read(link):
                with self._lock:
                    number, self.asked = self.asked, self.asked + 1
                pieces = self._respond(number)
                if pieces is None:
                    return
                for piece in pieces:
                    link.sendall(piece)

    def _read(self, link: socket.socket) -> bool:
        data = link.recv(len(self._request), socket.MSG_WAITALL)
        assert data in (self._request, b"")
        return bool(data)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for link in self._links:
            link.close()


@contextmanager
def serve_small(request: bytes, respond: Respond) -> Iterator[SmallServer]:
    """Starts a server, and closes it at the end."""
    server = SmallServer(request, respond)
    thread = threading.Thread(target=server.accept)
    thread.start()
    try:
        yield server
    finally:
        server.close()
        thread.join(5)
