"""What a launch was asked for, checked."""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from bmp.distribution.launch.ports import is_local
from bmp.errors import ConfigError

DEFAULT_PORT = 29500
MAX_RANKS = 4096


@dataclass(frozen=True)
class Host:
    """A machine that runs ranks.

    Args:
        address: How the others reach it.
        port: Where its launcher listens, if it is the first.
    """

    address: str
    port: int

    @property
    def in_spec(self) -> str:
        """The address as it stands before `:PORT`."""
        return f"[{self.address}]" if ":" in self.address else self.address


@dataclass(frozen=True)
class Options:
    """What to start, and how; times are in seconds.

    Args:
        command: The script and its arguments, the run directory among them.
        run_dir: The run directory, which all ranks and all restarts share.
        min_workers: Go on with so many, if there cannot be more.
        max_workers: Start with so many.
        ps: Parameter servers; with them there is a chief as well.
        hosts: All of them; this one alone if there is one.
        host_index: Which of them this is.
        max_restarts: How often all ranks are started again, in the whole launch.
        watchdog_s: How long a rank may make no progress while it trains; 0: for ever.
        grace_s: How long a rank may take to write a checkpoint once it is asked to stop.
        start_timeout_s: How long a rank may take to its first sign of life, and the hosts to come together at first.
        peer_timeout_s: How long a host may be silent.
        join_timeout_s: How long a host may take to come back.
    """

    command: tuple[str, ...]
    run_dir: Path
    min_workers: int = 1
    max_workers: int = 1
    ps: int = 0
    hosts: tuple[Host, ...] = (Host("127.0.0.1", 0),)
    host_index: int = 0
    max_restarts: int = 3
    watchdog_s: float = 300
    grace_s: float = 30
    start_timeout_s: float = 600
    peer_timeout_s: float = 10
    join_timeout_s: float = 30

    def __post_init__(self) -> None:
        hosts = len(self.hosts)
        if self.max_workers < hosts:
            raise ConfigError(
                f"{hosts} hosts share {self.max_workers} worker{'s' * (self.max_workers > 1)}; "
                "give each one at least with --workers, or name fewer hosts."
            )
        if self.max_workers + self.ps > MAX_RANKS:
            raise ConfigError(f"{self.max_workers + self.ps:,} ranks are too many; the most is {MAX_RANKS:,}.")

    @property
    def address(self) -> str:
        """The address of this host."""
        return self.hosts[self.host_index].address

    @property
    def token(self) -> str:
        """What the launchers of one run have in common: the run directory's name and a digest of the command."""
        hosts = [[host.address, host.port] for host in self.hosts]
        asked = [self.command, hosts, self.min_workers, self.max_workers, self.ps]
        digest = hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:32]
        return f"{self.run_dir.name}-{digest}"[-200:]


def parse_workers(text: str) -> tuple[int, int]:
    """Returns the least and the greatest number of workers, from `N` or `MIN:MAX`.

    Raises:
        ConfigError: It is neither.
    """
    found = re.fullmatch(r"(\d{1,6})(?::(\d{1,6}))?", text.strip())
    if found is None or int(found[1]) < 1:
        raise ConfigError(f"--workers is '{text[:40]}'; expected a number from 1, or MIN:MAX such as 2:4.")
    least, most = int(found[1]), int(found[2] or found[1])
    if least > most:
        raise ConfigError(f"--workers is '{text}': the least is above the most. Did you mean {most}:{least}?")
    return least, most


def parse_hosts(text: str) -> tuple[Host, ...]:
    """Returns the hosts in a text such as `10.0.0.1:29500,10.0.0.2:29500`; a port left out is 29500.

    Raises:
        ConfigError: It is no such text.
    """
    hosts = tuple(_parse_host(item.strip()) for item in text.split(","))
    twice = next((host for host in hosts if hosts.count(host) > 1), None)
    if twice:
        raise ConfigError(f"--hosts names {twice.in_spec}:{twice.port} twice; name each host once.")
    return hosts


def _parse_host(item: str) -> Host:
    found = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._-]+))(?::(\d{1,5}))?", item)
    port = int(found[3] or DEFAULT_PORT) if found else 0
    if found is None or not 1 <= port <= 65535:
        raise ConfigError(
            f"'{item[:60]}' in --hosts is no ADDRESS:PORT; expected for example 10.0.0.1:{DEFAULT_PORT}, "
            "and a comma between two.",
            expected="ADDRESS:PORT",
            received=item[:60],
        )
    return Host(found[1] or found[2], port)


def find_host_index(hosts: Sequence[Host], given: int | None) -> int:
    """Returns which of the hosts this machine is.

    Raises:
        ConfigError: It is none of them, or could be several.
    """
    if given is not None and not 0 <= given < len(hosts):
        raise ConfigError(f"--host-index is {given}; with {len(hosts)} hosts it is 0 to {len(hosts) - 1}.")
    local = [index for index, host in enumerate(hosts) if is_local(host.address)]
    if given is not None:
        if given not in local:
            raise ConfigError(f"--host-index {given} is {hosts[given].address}, which is no address of this machine.")
        return given
    if len(local) != 1:
        found = "none" if not local else f"{len(local)}"
        raise ConfigError(
            f"Which host is this? Of the addresses in --hosts {found} belong{'s' * (not local)} to this machine. "
            "Say it with --host-index, counted from 0."
        )
    return local[0]


def choose_run_dir(arguments: Sequence[str], given: str | None) -> tuple[Path, tuple[str, ...]]:
    """Returns the run directory and the command with it: the launcher's, the script's own, or else a new one.

    Raises:
        ConfigError: Both were given, and differ.
    """
    own = find_option(arguments, "--run-dir")
    if own and given and own != given:
        raise ConfigError(f"--run-dir is {given} for the launcher but {own} for the script; give it once.")
    if own:
        return Path(own), tuple(arguments)
    chosen = given or f"runs/{_name_run(arguments)}-{datetime.now():%Y%m%d-%H%M%S}"
    return Path(chosen), (*arguments, "--run-dir", chosen)


def find_option(arguments: Sequence[str], name: str) -> str | None:
    """Returns the value of an option among the arguments of a script; the last one counts."""
    value = None
    for index, argument in enumerate(arguments):
        if argument.startswith(f"{name}="):
            value = argument.partition("=")[2]
        elif argument == name and index + 1 < len(arguments):
            value = arguments[index + 1]
    return value


def _name_run(arguments: Sequence[str]) -> str:
    """After the recipe, as `bmp run` does, or after the script."""
    recipe = arguments[1] if len(arguments) > 1 and not arguments[1].startswith("-") else arguments[0]
    return Path(recipe).stem
