"""Requests of many clients, run together where that pays, and one after the other where it does not."""

from serving.batching.batcher import Batcher, too_many
from serving.batching.lines import Lines
from serving.batching.plan import Plan, make_plan
from serving.batching.policy import Policy, Ran
from serving.batching.together import Together, run_together
from serving.batching.work import Work

__all__ = ["Batcher", "Lines", "Plan", "Policy", "Ran", "Together", "Work", "make_plan", "run_together", "too_many"]
