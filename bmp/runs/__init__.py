"""Runs: the directory of each, how it stands, and all there are; no TensorFlow."""

from bmp.runs.directory import RunDirectory
from bmp.runs.listing import ListedRun, find_run, list_runs
from bmp.runs.status import Status, begin_status, find_state

__all__ = ["ListedRun", "RunDirectory", "Status", "begin_status", "find_run", "find_state", "list_runs"]
