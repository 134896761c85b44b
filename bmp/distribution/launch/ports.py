"""Ports that nobody uses, for ranks that will open them in a moment."""

import random
import socket
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path

from bmp.errors import TrainingError

_RANGE_FILE = Path("/proc/sys/net/ipv4/ip_local_port_range")
_LOWEST = 10_000


def choose_ports(address: str, count: int, avoid: Iterable[int] = ()) -> list[int]:
    """Returns free ports of an address.

    They are taken from below the range from which the kernel serves outgoing connections, so that none of those can
    take a port between now and the start of the rank.

    Args:
        address: The address that the ranks will listen on.
        count: How many.
        avoid: Ports not to return, whether free or not.

    Raises:
        TrainingError: There are not so many.
    """
    candidates = sorted(set(_candidates()) - set(avoid))
    random.SystemRandom().shuffle(candidates)
    chosen: list[int] = []
    with ExitStack() as held:
        for port in candidates:
            if len(chosen) == count:
                return chosen
            if _hold(address, port, held):
                chosen.append(port)
    if len(chosen) < count:
        raise TrainingError(f"{address} has only {len(chosen)} free ports for {count} ranks; stop what uses them.")
    return chosen


def _candidates() -> range:
    first = int(_RANGE_FILE.read_text().split()[0]) if _RANGE_FILE.exists() else 32_768
    return range(_LOWEST, first) if first > _LOWEST + 1000 else range(_LOWEST, 65_536)


def _hold(address: str, port: int, held: ExitStack) -> bool:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    probe = held.enter_context(socket.socket(family))
    try:
        probe.bind((address, port))
    except OSError as error:
        if not is_local(address):
            raise TrainingError(f"{address} is no address of this machine ({error.strerror}).") from error
        return False
    return True


def is_local(address: str) -> bool:
    """Returns whether this machine can listen on an address."""
    try:
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as probe:
            probe.bind((address, 0))
    except OSError:
        return False
    return True
