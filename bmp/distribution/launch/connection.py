"""Messages over TCP: nothing here waits for the other side."""

import socket
import time

from bmp.distribution.launch.messages import MAX_FIRST_BYTES, MAX_MESSAGE_BYTES, Alive, Message, parse
from bmp.errors import RequestError

ALIVE_INTERVAL_S = 1.0
_MAX_WAITING_BYTES = 16 << 20
_MAX_BLOCKS = 64


class Connection:
    """One end of a connection between two launchers.

    Args:
        sock: A connected socket.
        peer: Who is at the other end, in words.
    """

    def __init__(self, sock: socket.socket, peer: str) -> None:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.peer = peer
        self.lost: str | None = None
        self.heard_s = time.monotonic()
        self.max_bytes = MAX_FIRST_BYTES
        self._socket = sock
        self._incoming = b""
        self._outgoing = b""
        self._alive_s = 0.0

    def trust(self) -> None:
        """Lets the other side say more at a time: it has said who it is."""
        self.max_bytes = MAX_MESSAGE_BYTES

    def send(self, message: Message) -> None:
        """Says something, now or as soon as the other side takes it."""
        self._outgoing += message.model_dump_json().encode() + b"\n"
        if len(self._outgoing) > _MAX_WAITING_BYTES:
            self._lose("does not take what it is sent")
        self._flush()

    def say_alive(self, message: Alive) -> None:
        """Gives a sign of life, if it is time for one."""
        if time.monotonic() - self._alive_s >= ALIVE_INTERVAL_S:
            self._alive_s = time.monotonic()
            self.send(message)

    def receive(self) -> list[Message]:
        """Returns what has been said since the last call; whatever makes no sense ends the connection."""
        self._flush()
        self._read()
        *lines, self._incoming = self._incoming.split(b"\n")
        if any(len(line) > self.max_bytes for line in (*lines, self._incoming)):
            self._lose("sent too much at a time")
            return []
        try:
            return [parse(line) for line in lines]
        except RequestError as error:
            self._lose(f"does not speak as a launcher: {error}")
            return []

    def check_silence(self, timeout_s: float) -> None:
        """Ends the connection if nothing has been heard for so long."""
        if self.lost is None and time.monotonic() - self.heard_s > timeout_s:
            self._lose(f"was not heard for {timeout_s:g} s")

    def close(self, linger_s: float = 0) -> None:
        """Ends the connection, after what is still to be sent if that takes no longer than this."""
        deadline_s = time.monotonic() + linger_s
        while self.lost is None and self._outgoing and time.monotonic() < deadline_s:
            self._flush()
            time.sleep(0.01)
        self._socket.close()

    def _read(self) -> None:
        for _ in range(_MAX_BLOCKS if self.lost is None else 0):
            try:
                block = self._socket.recv(1 << 16)
            except BlockingIOError:
                return
            except OSError as error:
                self._lose(f"is gone ({error.strerror or error})")
                return
            if not block:
                self._lose("has closed the connection")
                return
            self.heard_s = time.monotonic()
            self._incoming += block
            if len(self._incoming) > self.max_bytes:
                return

    def _flush(self) -> None:
        while self.lost is None and self._outgoing:
            try:
                sent = self._socket.send(self._outgoing)
            except BlockingIOError:
                return
            except OSError as error:
                self._lose(f"is gone ({error.strerror or error})")
                return
            self._outgoing = self._outgoing[sent:]

    def _lose(self, why: str) -> None:
        if self.lost is None:
            self.lost = why
            self._socket.close()


def listen(address: str, port: int) -> socket.socket:
    """Returns a socket that takes connections at this address and no other."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        listener.listen(64)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener
