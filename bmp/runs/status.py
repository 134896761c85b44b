"""How a run stands, and whether its process is still there."""

import os
import socket
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

State = Literal["running", "finished", "stopped", "failed"]


class Status(BaseModel):
    """How a run stands. Values never change: `change` returns a new one."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, ser_json_inf_nan="strings")

    name: str
    """Of the model."""
    state: State = "running"
    stage: str = "start"
    """What is being done: `train`, `prune`, `export` …"""
    step: int = Field(0, ge=0)
    """Steps of the stage done."""
    total_steps: int = Field(0, ge=0)
    """Steps of the stage; 0 for one that has none."""
    started: datetime
    """The first attempt."""
    updated: datetime
    attempt: int = Field(1, ge=1)
    """Counts how often the run was started, the first time included."""
    host: str
    pid: int
    """Of the process that writes this, on `host`."""
    pid_started: int
    """When that process started, in clock ticks since the machine did: tells it from a later one of the same number."""
    train_s: float = Field(0.0, ge=0)
    """Seconds trained, over all attempts."""
    score: str | None = None
    """The metric that choices are made on, such as accuracy."""
    figures: dict[str, float] = {}
    """The last metrics by name; those of the validation split begin with `val_`."""
    published: str | None = None
    """`name/version`."""
    error: str | None = None
    """Why the run failed or was stopped, in a sentence."""

    def change(self, **changes: Any) -> "Status":
        """Returns the status with other values, updated now."""
        return Status.model_validate(self.model_dump() | {"updated": datetime.now(UTC)} | changes)


def begin_status(name: str, previous: Status | None = None) -> Status:
    """Returns the status of a run that this process begins, or goes on with.

    Args:
        name: Of the model.
        previous: How an earlier attempt left the run.
    """
    now, pid = datetime.now(UTC), os.getpid()
    me = {"host": socket.gethostname(), "pid": pid, "pid_started": _find_start(pid) or 0}
    if previous is None:
        return Status(name=name, started=now, updated=now, **me)
    return previous.change(name=name, state="running", attempt=previous.attempt + 1, error=None, **me)


def find_state(status: Status) -> str:
    """Returns the state, `died` for a run that would be running if its process were still there.

    Of a process on another machine only its own word is known.
    """
    here = status.host == socket.gethostname()
    if status.state == "running" and here and _find_start(status.pid) != status.pid_started:
        return "died"
    return status.state


def _find_start(pid: int) -> int | None:
    """Returns when a process started, in clock ticks since the machine did; None if it has ended."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    state, *fields = text.rpartition(")")[2].split()  # the name before it may hold anything
    return None if state in "ZX" else int(fields[18])
