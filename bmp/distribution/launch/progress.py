"""What a launcher shows: the chief's lines, its own words, and one line of progress that all ranks share."""

import sys
import time
from collections import defaultdict
from collections.abc import Mapping
from typing import TYPE_CHECKING, Self

from bmp.distribution.heartbeat import Beat
from bmp.pace import Pace, say_duration

if TYPE_CHECKING:
    from rich.live import Live

_PLAIN_INTERVAL_S = 10.0
_PLAIN_CHANGE_S = 1.0
_LIVE_INTERVAL_S = 0.2
_WINDOW_S = 60.0


class Screen:
    """Everything that is shown.

    The chief's lines go to stdout. The launcher's own words and the progress go to stderr, unless stdout is a
    terminal: then all is there, in order. On a terminal the progress is one line that stays below; elsewhere a line
    every ten seconds, and one when a rank begins something else.
    """

    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console(stderr=not sys.stdout.isatty(), highlight=False, markup=False, soft_wrap=True)
        self._live: Live | None = None
        self._pace, self._step = Pace(_WINDOW_S), 0
        self._shown = ("", "")
        self._shown_s = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.clear()

    def show(self, rank: str, line: str) -> None:
        """Shows a line that a rank has printed."""
        text = _name(rank, line)
        if sys.stdout.isatty():
            from rich.text import Text

            self._console.print(Text.from_ansi(text))
        else:
            sys.stdout.write(f"{text}\n")
            sys.stdout.flush()

    def say(self, words: str) -> None:
        """Shows a sentence of the launcher."""
        self._console.print(f"bmp: {words}")

    def quote(self, rank: str, line: str) -> None:
        """Shows a line of a rank's log among the launcher's words."""
        self._console.print(_name(rank, line))

    def update(self, beats: Mapping[str, Beat]) -> None:
        """Shows where the ranks are, if it is time."""
        now_s = time.monotonic()
        self._see(max((beat.step for beat in beats.values()), default=0), now_s)
        where = say_where(beats)
        if self._console.is_terminal:
            interval_s = _LIVE_INTERVAL_S
        else:
            interval_s = _PLAIN_INTERVAL_S if where == self._shown[0] else _PLAIN_CHANGE_S
        if not beats or now_s - self._shown_s < interval_s:
            return
        line = say_progress(beats, self._pace.steps_per_s or 0.0)
        if line != self._shown[1]:
            self._draw(line, beats)
        self._shown, self._shown_s = (where, line), now_s

    def _see(self, step: int, now_s: float) -> None:
        """Takes the step that the ranks are at; fewer than before are those of another stage."""
        if step < self._step:
            self._pace = Pace(_WINDOW_S)
        if step != self._step:
            self._pace.add(step, now_s)
        self._step = step

    def _draw(self, line: str, beats: Mapping[str, Beat]) -> None:
        if not self._console.is_terminal:
            self._console.print(line)
            return
        from rich.live import Live
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        if self._live is None:
            self._live = Live(console=self._console, auto_refresh=False, transient=True)
            self._live.start()
        first = next(iter(beats.values()))
        row = Table.grid(padding=(0, 1))
        row.add_row(ProgressBar(first.total_steps or None, first.step, width=16), Text(line, no_wrap=True))
        self._live.update(row, refresh=True)

    def clear(self) -> None:
        """Takes the line of progress away: the ranks have ended."""
        if self._live is not None:
            self._live.stop()
        self._live = None
        self._pace, self._step = Pace(_WINDOW_S), 0
        self._shown, self._shown_s = ("", ""), 0.0


def say_progress(beats: Mapping[str, Beat], steps_per_s: float) -> str:
    """Returns the line of progress: the first rank's step and figures, the time left, and where every rank is."""
    first = next(iter(beats.values()))
    parts = [_say_step(first)] if first.step or first.total_steps else []
    if "loss" in first.figures:
        parts.append(f"loss {first.figures['loss']:.4g}")
    if "examples_per_s" in first.figures:
        parts.append(f"{first.figures['examples_per_s']:,.0f} examples/s")
    if steps_per_s and first.total_steps > first.step:
        parts.append(f"ETA {say_duration((first.total_steps - first.step) / steps_per_s)}")
    return "  ".join([*parts, say_where(beats)])


def _say_step(beat: Beat) -> str:
    return f"step {beat.step:,}" + (f"/{beat.total_steps:,}" if beat.total_steps else "")


def say_where(beats: Mapping[str, Beat]) -> str:
    """Returns which rank does what, in short: `training: worker 0-2; saving: worker 3`."""
    by_phase: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for name, beat in beats.items():
        job, _, index = name.rpartition(" ")
        by_phase[beat.phase][job].append(int(index))
    return "; ".join(
        f"{phase}: {', '.join(f'{job} {_say_indexes(indexes)}' for job, indexes in jobs.items())}"
        for phase, jobs in by_phase.items()
    )


def _say_indexes(indexes: list[int]) -> str:
    runs: list[list[int]] = []
    for index in sorted(indexes):
        if runs and index == runs[-1][1] + 1:
            runs[-1][1] = index
        else:
            runs.append([index, index])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)


def _name(rank: str, line: str) -> str:
    """Returns the line with the name of its rank in front, which runs of bmp put there themselves."""
    name = f"[{rank}] "
    return line if line.startswith(name) else name + line
