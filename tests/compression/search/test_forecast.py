"""Before a search: what cannot come to a good end is refused in a sentence, and the cost is told."""

import io
from dataclasses import replace

import pytest
from rich.console import Console

from bmp.compression.chain import read_chains
from bmp.compression.gate import Promise
from bmp.compression.search.forecast import check_budget, say_forecast
from bmp.compression.search.workbench import open_workbench
from bmp.config import load_recipe
from bmp.errors import ConfigError, DataError, UnknownNameError

PROMISE = Promise(0.03)


@pytest.fixture(scope="module")
def bench(tiny_run, tiny_trainer):
    return open_workbench(tiny_run.model, load_recipe(str(tiny_run.directory / "recipe.yaml")), tiny_trainer)


def check(data, promise=PROMISE, accept="proven", time_s=None):
    check_budget(promise, data, accept, time_s)


def first(split, count):
    return split.take(slice(0, count))


def test_what_can_be_had_is_not_refused(tiny_run):
    check(tiny_run.data)
    check(tiny_run.data, time_s=60)
    check(tiny_run.data, Promise(0.03, "f1"))


@pytest.mark.parametrize("split", ["validation", "test"])
def test_an_empty_split_is_refused(tiny_run, split):
    data = replace(tiny_run.data, **{split: first(getattr(tiny_run.data, split), 0)})
    with pytest.raises(DataError, match=rf"The {split} split is empty: .* Give data\.split\.{split} a share\."):
        check(data)


def test_a_metric_that_is_not_measured_is_guessed_at(tiny_run):
    with pytest.raises(UnknownNameError, match=r"no metric of the objective multiclass.*Did you mean 'accuracy'"):
        check(tiny_run.data, Promise(0.03, "acuracy"))


def test_a_time_in_which_nothing_can_be_tried_is_refused(tiny_run):
    with pytest.raises(ConfigError, match=r"A time of 1 s is over before one candidate is exported .* --time 5m"):
        check(tiny_run.data, time_s=1)


def test_a_promise_that_so_few_examples_cannot_prove_is_refused(tiny_run):
    few = replace(tiny_run.data, test=first(tiny_run.data.test, 50))
    with pytest.raises(ConfigError) as caught:
        check(few)
    assert "The test split has 50 examples, too few to prove a drop of at most 3.00%" in caught.value.message
    needed = int(caught.value.expected.partition(" ")[0])
    assert f"it takes at least {needed:,}" in caught.value.message and needed > 50
    check(replace(few, test=first(tiny_run.data.test, needed)))
    with pytest.raises(ConfigError, match="too few to prove"):
        check(replace(few, test=first(tiny_run.data.test, needed - 1)))


def test_no_number_of_examples_proves_that_nothing_is_lost(tiny_run):
    with pytest.raises(ConfigError, match="no number is enough for a drop of 0"):
        check(tiny_run.data, Promise(0.0))


def test_who_takes_what_is_unproven_may_try(tiny_run):
    few = replace(tiny_run.data, test=first(tiny_run.data.test, 50))
    check(few, accept="unproven")
    check(few, Promise(0.0), accept="unproven")


def say(bench, specs, time_s):
    output = io.StringIO()
    say_forecast(bench, read_chains(specs), time_s, Console(file=output, width=400))
    return output.getvalue()


def test_the_cost_is_told_before_it_is_paid(bench):
    bench.epoch_s = None
    said = say(bench, [["prune"], ["prune", "int8"], ["int8"]], None)
    assert said.startswith("3 chains; a fine-tuning of 2 epochs takes about ")
    assert "all chains by themselves about" in said and said.count("\n") == 1
    assert bench.epoch_s > 0
    assert "300 s are enough for about" in say(bench, [["prune"]], 300.0) or "5 min" in say(bench, [["prune"]], 300.0)


def test_it_is_told_where_the_time_is_too_short_to_train(bench):
    assert say(bench, [["prune"]], 0.001).rstrip().endswith("only ways to store numbers will be tried")


def test_nothing_is_timed_where_nothing_is_trained(bench):
    assert say(bench, [["int8"], ["float16"]], 60.0) == ""
