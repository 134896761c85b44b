"""The port of the gRPC doors, which all workers listen on; the arbiter holds it, and knows no gRPC."""

import socket

from bmp.errors import ConfigError


def reserve_port(host: str, port: int, *, shared: bool = False) -> socket.socket:
    """Returns a socket that holds a port without listening; workers listen there as well, each for itself.

    Args:
        host: Address.
        port: 0 for any free one.
        shared: Whether somebody else may hold it: a server that this one is about to replace.

    Raises:
        ConfigError: It is taken, or cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        if port and not shared:
            with socket.socket(family) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((host, port))
        held = socket.socket(family)
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        held.bind((host, port))
    except OSError as error:
        raise ConfigError(
            f"Cannot listen for gRPC on {host}:{port}: {error.strerror or error}. Choose another with --grpc-port or "
            "BMP_GRPC_PORT.",
            expected="a free port",
            received=str(port),
        ) from error
    return held


def to_address(held: socket.socket) -> str:
    """Returns where a socket is, as gRPC writes it."""
    host, port = held.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
