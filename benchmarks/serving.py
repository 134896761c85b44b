"""`bmp serve` against the servers that people take instead, side by side in one run (`make bench`).

Every server runs the same LiteRT file on the same cores with the same number of processes, is asked the same by the
same client, and is checked against LiteRT before it is timed. The servers take turns, so that a busy machine slows all
of them: absolute numbers mean little, the ratios are the result. The peers are installed into environments of their
own (`.venv-peers`), each written as its documentation says (`benchmarks/peers`); one that cannot be is left out.
"""

import argparse
import json
import re
import shutil
import statistics
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from serving_environments import install, read_pins
from serving_loads import LOADS, WARM_S, answer_by_litert, check, run_grpc, run_wrk
from serving_models import Published, publish
from serving_parts import GRPC, PARTS, Figures, Row
from serving_servers import SERVERS, WORKERS, Running, running
from serving_storms import STORM_ROWS, STORMS

Asks = dict[str, list[str]]
"""The loads of each server."""
Turns = dict[tuple[str, str], list[dict[str, float]]]
"""What each turn measured, by server and load."""
OVERLOAD_S, RELOADS = 30, 200


class Bench:
    """The networks, the environments, and what has been measured.

    Args:
        options: Of the command.
        directory: For everything that is made.
    """

    def __init__(self, options: argparse.Namespace, directory: Path) -> None:
        self.options, self.directory = options, directory
        self.asks = _collect_asks(options.parts)
        self.storms = {part: STORMS[part] for part in options.parts if part in STORMS}
        names = [*self.asks, *(server for server, _ in self.storms.values())]
        peers = dict.fromkeys(SERVERS[name].peer for name in names if SERVERS[name].peer)
        self.pythons = {"": Path(sys.executable), **install(peers)}
        networks = dict.fromkeys(SERVERS[name].network for name in names)
        print(f"training and publishing for a moment: {', '.join(networks)}", flush=True)
        self.networks = publish(networks, directory)
        self.turns: Turns = defaultdict(list)

    def run(self) -> dict[str, list[tuple[Row, float | None]]]:
        """Measures; returns the rows of each part, with None where a peer is missing."""
        self._take_turns()
        figures = {key: _take_medians(turns) for key, turns in self.turns.items()}
        rows = {part: _compute(PARTS[part].rows, figures) for part in self.options.parts if part in PARTS}
        return rows | {part: self._storm(part) for part in self.storms}

    def _take_turns(self) -> None:
        for turn in range(self.options.rounds):
            for name, loads in self.asks.items():
                if SERVERS[name].peer in self.pythons:
                    print(f"round {turn + 1}/{self.options.rounds}: {name}, {', '.join(loads)}", flush=True)
                    self._take_turn(name, loads)

    def _take_turn(self, name: str, loads: list[str]) -> None:
        network = self.networks[SERVERS[name].network]
        with self._running(name) as server:
            for load in loads:
                figures = self._ask(server, load, network)
                figures["memory_mb"] = server.memory_bytes() / 2**20
                self.turns[name, load].append(figures)

    def _running(self, name: str) -> Any:
        server = SERVERS[name]
        return running(name, self.pythons[server.peer], self.networks[server.network], self.directory)

    def _ask(self, server: Running, name: str, network: Published) -> dict[str, float]:
        seconds = self.options.seconds
        if name == GRPC:
            figures = run_grpc(server, network, answer_by_litert(network, 1), seconds, self.directory)
            return {**figures, "examples": 1}
        load = LOADS[name]
        body_bytes = check(server, load, network, answer_by_litert(network, load.examples))
        run_wrk(server, load, network, min(WARM_S, seconds), self.directory)
        figures = run_wrk(server, load, network, seconds, self.directory)
        return {**figures, "examples": load.examples, "body_bytes": body_bytes}

    def _storm(self, part: str) -> list[tuple[Row, float | None]]:
        name, raise_storm = self.storms[part]
        times = self.options.overload_seconds if part == "overload" else self.options.reloads
        print(f"{part}: {name}", flush=True)
        with self._running(name) as server:
            network = SERVERS[name].network
            found = dict(raise_storm(server, self.networks[network], self.directory / network, times))
        self.turns[name, part].append(found)
        return [(row, row.compute({("storm", ""): found})) for row in STORM_ROWS[part]]


def _collect_asks(parts: list[str]) -> Asks:
    """Returns what each server is asked, each load once whatever number of parts wants it."""
    asks: Asks = {}
    for part in parts:
        for server, load in PARTS[part].asks if part in PARTS else ():
            loads = asks.setdefault(server, [])
            if load not in loads:
                loads.append(load)
    return asks


def _take_medians(turns: list[dict[str, float]]) -> dict[str, float]:
    return {key: statistics.median(turn[key] for turn in turns) for key in turns[0]}


def _compute(rows: tuple[Row, ...], figures: Figures) -> list[tuple[Row, float | None]]:
    found: list[tuple[Row, float | None]] = []
    for row in rows:
        try:
            found.append((row, row.compute(figures)))
        except KeyError:  # of a server that could not be installed
            found.append((row, None))
    return found


# === Telling ===


def show(bench: Bench, rows: dict[str, list[tuple[Row, float | None]]]) -> None:
    """Prints what each server did, and the figures beside their aims."""
    options, console = bench.options, Console()
    raw = Table(title=f"medians of {options.rounds} turns of {options.seconds:g} s, {WORKERS} processes each")
    for column in ("server", "asked", "requests/s", "p50 ms", "p99 ms", "MB"):
        raw.add_column(column, justify="left" if column in ("server", "asked") else "right")
    for (server, load), turns in bench.turns.items():
        if "requests_per_s" in turns[0]:
            found = _take_medians(turns)
            cells = (found["requests_per_s"], found["p50_ms"], found["p99_ms"], found["memory_mb"])
            raw.add_row(server, load, *(f"{cell:,.2f}" if cell < 100 else f"{cell:,.0f}" for cell in cells))
    if raw.row_count:
        console.print(raw)
    table = Table("", "figure", "aim", "", title="bmp serve")
    for part in rows.values():
        for row, figure in part:
            table.add_row(row.what, *_tell(row, figure))
        table.add_section()
    console.print(table)


def _tell(row: Row, figure: float | None) -> tuple[str, str, str]:
    if figure is None:
        return "not installed", row.words(), ""
    verdict = "" if row.aim is None else "reached" if row.is_met(figure) else "MISSED"
    return row.text.format(figure), row.words(), verdict


def write(bench: Bench, rows: dict[str, list[tuple[Row, float | None]]], output: Path) -> None:
    """Writes everything that was measured."""
    content = {
        "settings": {key: str(value) for key, value in vars(bench.options).items()} | {"workers": WORKERS},
        "peers": {peer: [line for line in pins if "==" in line] for peer, pins in read_pins().items()},
        "missing": sorted({server.peer for server in SERVERS.values()} - bench.pythons.keys()),
        "figures": [
            {"part": part, "what": row.what, "figure": figure, "aim": row.words()}
            for part, found in rows.items()
            for row, figure in found
        ],
        "turns": {f"{server}: {load}": turns for (server, load), turns in bench.turns.items()},
    }
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    print(f"written to {output}")


def read_parts(text: str) -> list[str]:
    """Reads `json1,grpc`; nothing means all.

    Raises:
        ArgumentTypeError: A part is unknown.
    """
    known = [*PARTS, *STORMS]
    parts = [part for part in re.split(r"[,\s]+", text) if part] or known
    for part in parts:
        if part not in known:
            raise argparse.ArgumentTypeError(f"no part is named '{part}'; there are {', '.join(known)}")
    return parts


def check_tools(parts: list[str]) -> None:
    """Ends the program where a load generator is missing that a part needs."""
    for tool, package, needed in (
        ("wrk", "wrk", any(part in PARTS and part != "grpc" for part in parts)),
        ("h2load", "nghttp2-client", "grpc" in parts),
    ):
        if needed and shutil.which(tool) is None:
            sys.exit(f"This needs {tool}, a load generator: apt-get install {package}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", type=read_parts, default=read_parts(""), help="some of them, separated by commas")
    parser.add_argument("--rounds", type=int, default=3, help="turns that each server takes")
    parser.add_argument("--seconds", type=float, default=5, help="of each measurement")
    parser.add_argument("--overload-seconds", type=int, default=OVERLOAD_S)
    parser.add_argument("--reloads", type=int, default=RELOADS)
    parser.add_argument("--output", type=Path, default=Path("results/serving.json"))
    options = parser.parse_args()
    check_tools(options.parts)
    with tempfile.TemporaryDirectory(prefix="bmp-bench-") as name:
        bench = Bench(options, Path(name))
        rows = bench.run()
    show(bench, rows)
    write(bench, rows, options.output)


if __name__ == "__main__":
    main()
