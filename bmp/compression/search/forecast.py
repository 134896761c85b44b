"""Before a search: what it will cost, and whether what is asked for can be had at all."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from rich.console import Console

from bmp.compression.chain import Chain
from bmp.compression.gate import Promise
from bmp.compression.gate.proportions import count_needed
from bmp.compression.search.workbench import Workbench
from bmp.errors import ConfigError, DataError
from bmp.objectives import METRICS, pick_metric
from bmp.pace import say_duration

if TYPE_CHECKING:
    from bmp.data import Dataset

_COUNTED = ("accuracy", "top_5", "exact_match")
"""Metrics that are a share of examples: how many a proof takes at least is known before."""

_EXPORT_S = 1.5
"""An export and its measuring, about."""


def check_budget(
    promise: Promise,
    data: "Dataset",
    accept: Literal["proven", "unproven"],
    time_s: float | None,
) -> None:
    """Looks whether a promise can be proven, and anything be tried, before anything is written.

    Raises:
        UnknownNameError: The objective has no such metric.
        DataError: There is nothing to choose or to test on.
        ConfigError: Not even a candidate that answers as the original could be proven on so few examples, or the time
            is over before anything was tried.
    """
    for name, split in (("validation", data.validation), ("test", data.test)):
        if not len(split):
            raise DataError(
                f"The {name} split is empty: there is nothing to measure on. Give data.split.{name} a share."
            )
    metric = pick_metric(promise.metric, data.signature.objective, data.labels)
    if time_s is not None and time_s < _EXPORT_S:
        raise ConfigError(
            f"A time of {time_s:g} s is over before one candidate is exported and measured, which takes about "
            f"{_EXPORT_S:g} s. Give it more, such as --time 5m.",
            expected=f"at least {_EXPORT_S:g} s",
            received=f"{time_s:g} s",
        )
    if accept == "unproven" or metric not in _COUNTED or METRICS[metric].is_relative:
        return
    count = len(data.test)
    needed = count_needed(0, 0, count, promise.max_drop, promise.confidence) if promise.max_drop else None
    if needed is None or needed > count:
        least = "no number is enough for a drop of 0" if needed is None else f"it takes at least {needed:,}"
        raise ConfigError(
            f"The test split has {count:,} examples, too few to prove a drop of at most {promise.max_drop:.2%}, even "
            f"of a candidate that gives the same answers: {least}. Allow more with --max-drop, test on more examples, "
            "or take what is not proven with --accept unproven.",
            expected="no more than can be proven" if needed is None else f"{needed} test examples",
            received=f"{count} test examples",
        )


def say_forecast(bench: Workbench, chains: Sequence[Chain], time_s: float | None, console: Console) -> None:
    """Times a few steps of training, and says what the chains would take: all of them, and a short try of each."""
    import tf_keras as keras

    from bmp.training.copies import copy_layer
    from bmp.training.timing import time_step

    trainer, epochs = bench.workshop.trainer, bench.workshop.epochs
    trained = [chain for chain in chains if any(step.build().trains for step in chain.steps)]
    if not trained:
        return
    model = bench.original
    if not model._is_graph_network:
        return
    with console.status("timing a few steps"), trainer.strategy.scope():
        copy = keras.models.clone_model(model, clone_function=copy_layer)
        step_s = time_step(trainer, copy)
    bench.epoch_s = step_s * trainer.steps_per_epoch
    whole_s = sum(bench.forecast_s(chain, 1.0) for chain in trained) + len(chains) * _EXPORT_S
    line = (
        f"{len(chains)} chains; a fine-tuning of {epochs} epochs takes about {say_duration(epochs * bench.epoch_s)}, "
    )
    line += f"all chains by themselves about {say_duration(whole_s)}"
    if time_s is not None:
        short_s = max(1, round(epochs / 9)) * bench.epoch_s + _EXPORT_S
        line += f"; {say_duration(time_s)} are enough for about {max(1, int(time_s / short_s)):,} short tries"
        if short_s > time_s:
            line += ": for none that trains, so only ways to store numbers will be tried"
    console.print(line, highlight=False, soft_wrap=True)
