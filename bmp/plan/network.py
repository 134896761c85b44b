"""What it takes to bring the gradients of several replicas together: a model of the network."""

import socket
import statistics
import threading
import time
from dataclasses import dataclass

_ETHERNET_LATENCY_S = 50e-6
_CHUNK_BYTES = 1 << 20
_CHUNKS = 128
_PINGS = 300


@dataclass(frozen=True)
class Network:
    """What connects the replicas.

    Args:
        bandwidth: Bytes a second, in each direction, that a worker can send.
        latency_s: From sending a small message to its arrival.
        is_local: Whether the workers are on this machine and share its cores.
        origin: Where the figures come from, in words.
    """

    bandwidth: float
    latency_s: float
    is_local: bool
    origin: str

    def all_reduce_s(self, replicas: int, size_bytes: float) -> float:
        """Returns the time a ring needs to sum so many bytes of every replica.

        Reference:
            Patarasuk and Yuan: Bandwidth optimal all-reduce algorithms for clusters of workstations, 2009: each
            sends `2 (n - 1) / n` of the bytes, in `2 (n - 1)` messages one after the other.
        """
        return count_sent_bytes(replicas, size_bytes) / self.bandwidth + 2 * (replicas - 1) * self.latency_s


def count_sent_bytes(replicas: int, size_bytes: float) -> float:
    """Returns what each replica sends, and receives, in one all-reduce by a ring."""
    return 2 * (replicas - 1) / replicas * size_bytes


def take_network(bandwidth: float, latency_s: float | None) -> Network:
    """Returns a network as given, between machines like this one."""
    said = "given" if latency_s is not None else "bandwidth given, latency assumed: a usual Ethernet"
    return Network(bandwidth, _ETHERNET_LATENCY_S if latency_s is None else latency_s, False, said)


def measure_loopback() -> Network:
    """Measures plain TCP between two ends in this process, over 127.0.0.1; takes about a tenth of a second."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        near = socket.create_connection(server.getsockname())
        far, _ = server.accept()
    with near, far:
        for end in (near, far):
            end.settimeout(30)
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        echo = threading.Thread(target=_answer, args=(far,))
        echo.start()
        latency_s = statistics.median(_ping(near) for _ in range(_PINGS)) / 2
        bandwidth = _send_much(near)
        echo.join()
    return Network(bandwidth, latency_s, True, "plain TCP measured over loopback; TensorFlow's gRPC reaches less")


def _answer(end: socket.socket) -> None:
    """Sends every ping back, then takes what comes and says that it has come."""
    for _ in range(_PINGS):
        end.sendall(end.recv(1))
    left, buffer = _CHUNKS * _CHUNK_BYTES, bytearray(_CHUNK_BYTES)
    while left:
        left -= end.recv_into(buffer, min(left, _CHUNK_BYTES))
    end.sendall(b".")


def _ping(end: socket.socket) -> float:
    start = time.perf_counter()
    end.sendall(b".")
    end.recv(1)
    return time.perf_counter() - start


def _send_much(end: socket.socket) -> float:
    chunk = bytes(_CHUNK_BYTES)
    start = time.perf_counter()
    for _ in range(_CHUNKS):
        end.sendall(chunk)
    end.recv(1)
    return _CHUNKS * _CHUNK_BYTES / (time.perf_counter() - start)
