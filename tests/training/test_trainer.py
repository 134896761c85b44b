import io
import math
import re

import numpy as np
import pytest
import tf_keras as keras
from rich.console import Console

from bmp.config import DataConfig
from bmp.data import SOURCES, load_data
from bmp.distribution import STRATEGIES
from bmp.distribution.cluster import Cluster
from bmp.errors import TrainingError, UnknownNameError
from bmp.models import MODELS
from bmp.training import OPTIMIZERS, Trainer
from bmp.training.callbacks import KeepBest

HIDE_CURSOR, SHOW_CURSOR = "\x1b[?25l", "\x1b[?25h"


@pytest.fixture(scope="module")
def data():
    return load_data(SOURCES.bind("sklearn", {"name": "iris"}), DataConfig(source="sklearn"), 0)


@pytest.fixture
def make_trainer(data):
    def make(optimizer="adam", batch_size=32, seed=0, console=None):
        return Trainer(
            data,
            STRATEGIES["one_device"](Cluster(), None).strategy,
            build_optimizer=OPTIMIZERS.bind(optimizer, {}),
            batch_size=batch_size,
            seed=seed,
            console=console or Console(file=io.StringIO()),
        )

    return make


def build(trainer, seed=0):
    keras.utils.set_random_seed(seed)
    with trainer.strategy.scope():
        return MODELS["mlp"](trainer.data.signature, hidden=[8])


def fit(trainer, epochs=2, learning_rate=0.01, **options):
    model = build(trainer)
    return model, trainer.fit(model, epochs=epochs, learning_rate=learning_rate, **options)


def test_learns_and_writes_down_every_epoch(make_trainer, data):
    model, history = fit(make_trainer(), epochs=12, learning_rate=0.05)
    assert [(epoch.stage, epoch.epoch) for epoch in history] == [("train", number) for number in range(1, 13)]
    assert history.epochs[-1].metrics["loss"] < history.epochs[0].metrics["loss"] / 2
    assert all(math.isfinite(epoch.metrics["val_loss"]) and epoch.duration_s > 0 for epoch in history)
    assert int(model.optimizer.iterations) == 12 * 4
    held_out = data.validation.load()
    probabilities = model(held_out.inputs["features"]).numpy()
    measured = np.mean(probabilities.argmax(axis=-1) == held_out.targets)
    assert history.epochs[-1].metrics["val_accuracy"] == pytest.approx(measured)
    assert measured > 0.5  # a guess is right once in three times


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimizer_takes_the_learning_rate(make_trainer, optimizer):
    """tests/training/test_optimizers.py sees each of them move the weights."""
    trainer = make_trainer(optimizer)
    model = build(trainer)
    trainer.compile(model, 0.003)
    assert float(model.optimizer.learning_rate) == pytest.approx(0.003)


def test_an_unknown_optimizer_is_guessed():
    with pytest.raises(UnknownNameError, match="Did you mean 'adam'"):
        OPTIMIZERS.bind("adamm", {})


@pytest.mark.parametrize(("batch_size", "steps"), [(1, 104), (32, 4), (52, 2), (104, 1), (500, 1)])
def test_counts_the_last_smaller_step(make_trainer, batch_size, steps):
    assert make_trainer(batch_size=batch_size).steps_per_epoch == steps


def test_the_same_seed_gives_the_same_weights_and_figures_and_another_does_not(make_trainer):
    (first, one), (again, two), (other, _) = (fit(make_trainer(seed=seed)) for seed in (3, 3, 4))
    for weights in zip(first.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(*weights)
    assert [epoch.metrics["loss"] for epoch in one] == [epoch.metrics["loss"] for epoch in two]
    assert any(np.any(a != b) for a, b in zip(first.get_weights(), other.get_weights(), strict=True))


@pytest.mark.parametrize(("optimizer", "learning_rate"), [("sgd", 1e30), ("adam", 1e38)])
def test_a_loss_that_is_not_finite_ends_the_run_and_names_the_batch(make_trainer, optimizer, learning_rate):
    output = io.StringIO()
    console = Console(file=output, force_terminal=True)
    place = r"at step [234] of stage 'train' \(epoch 1, batch [234]: examples \d+, \d+"
    with pytest.raises(TrainingError, match=place):
        fit(make_trainer(optimizer, console=console), epochs=3, learning_rate=learning_rate)
    assert output.getvalue().rfind(SHOW_CURSOR) > output.getvalue().rfind(HIDE_CURSOR) >= 0


def test_without_a_terminal_there_is_one_plain_line_an_epoch(make_trainer, data):
    output = io.StringIO()
    _, history = fit(make_trainer(console=Console(file=output, width=80)), epochs=10, stage="tune")
    assert {epoch.stage for epoch in history} == {"tune"}
    lines = [line for line in output.getvalue().splitlines() if not line.startswith("pace: ")]
    assert len(lines) == 10
    for number, line in enumerate(lines, start=1):
        figures = r"  loss \d+\.\d{4}  accuracy \d\.\d{4}  val_loss \d+\.\d{4}  val_accuracy \d\.\d{4}"
        assert re.fullmatch(rf"tune {number:>2}/10{figures}  [\d,]+ examples/s", line)


def test_a_terminal_shows_a_bar_and_keeps_the_lines(make_trainer):
    output = io.StringIO()
    fit(make_trainer(console=Console(file=output, force_terminal=True, width=100)), epochs=2)
    shown = output.getvalue()
    assert "/8" in shown and "━" in shown
    assert len(re.findall(r"train [12]/2  loss", shown)) == 2


def test_a_callback_of_ones_own_is_called(make_trainer):
    seen = []
    callback = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(epoch))
    fit(make_trainer(), epochs=2, callbacks=[callback])
    assert seen == [0, 1]


@pytest.mark.parametrize("first_epoch", [0, 3])
def test_keep_best_leaves_the_weights_of_the_best_epoch(make_trainer, data, first_epoch):
    model, history = fit(
        make_trainer("sgd"), epochs=8, learning_rate=0.5, callbacks=[KeepBest("accuracy", first_epoch)]
    )  # so fast that the figures jump
    competing = list(history)[first_epoch:]
    best = max(competing, key=lambda epoch: (epoch.metrics["val_accuracy"], -epoch.metrics["val_loss"]))
    held_out = data.validation.load()
    probabilities = model(held_out.inputs["features"]).numpy()
    accuracy = (probabilities.argmax(axis=1) == held_out.targets).mean()
    assert accuracy == pytest.approx(best.metrics["val_accuracy"])
    loss = -np.log(probabilities[np.arange(len(held_out)), held_out.targets]).mean()
    assert loss == pytest.approx(best.metrics["val_loss"], rel=1e-3)


def test_keep_best_keeps_the_last_epoch_where_none_competes(make_trainer):
    plain, _ = fit(make_trainer(), epochs=2)
    kept, _ = fit(make_trainer(), epochs=2, callbacks=[KeepBest("accuracy", 5)])
    for one, other in zip(plain.get_weights(), kept.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
