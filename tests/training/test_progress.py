import io
import re

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from rich.console import Console

from bmp.training.progress import ProgressBar

HIDE_CURSOR, SHOW_CURSOR = "\x1b[?25l", "\x1b[?25h"


class Clock:
    now_s = 0.0

    def __call__(self):
        return self.now_s


class Sleep(keras.callbacks.Callback):
    """Lets so many seconds pass at each execution, and at each validation, without anybody waiting."""

    def __init__(self, clock, execution_s, validation_s=0.0):
        super().__init__()
        self.clock, self.execution_s, self.validation_s = clock, execution_s, validation_s

    def on_train_batch_end(self, batch, logs=None):
        self.clock.now_s += self.execution_s

    def on_test_end(self, logs=None):
        self.clock.now_s += self.validation_s


class Figure:
    """What a device computes: looking at it costs time."""

    looks = 0

    def __float__(self):
        Figure.looks += 1
        return 0.5


def make_bar(console, steps=20, epochs=3, **options):
    return ProgressBar(
        "train",
        console,
        examples_per_step=32,
        total_steps=steps * epochs,
        steps_per_epoch=steps,
        epochs=epochs,
        **options,
    )


def fit(*callbacks, steps=20, epochs=3, at_once=1, **options):
    x = np.linspace(-1, 1, 64, dtype="float32")[:, None]
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse", metrics=["mae"], steps_per_execution=at_once)
    data = tf.data.Dataset.from_tensor_slices((x, x)).batch(32).repeat()
    model.fit(
        data,
        steps_per_epoch=steps,
        epochs=epochs,
        validation_data=(x, x),
        verbose=0,
        callbacks=list(callbacks),
        **options,
    )


def make_console(terminal=False, width=100):
    return Console(file=io.StringIO(), force_terminal=terminal, width=width, color_system=None)


def read(console):
    return console.file.getvalue()


LINE = re.compile(r"train (\d)/3(  (val_)?(loss|mae) \d+\.\d{4}){4}  64 examples/s")


@pytest.mark.parametrize("at_once", [1, 4, 7, 20])
def test_every_epoch_leaves_one_line_of_its_training_alone(at_once):
    console, clock = make_console(), Clock()
    executions = -(-20 // at_once)
    fit(Sleep(clock, 10 / executions, validation_s=1000), make_bar(console, clock=clock), at_once=at_once)
    lines = read(console).splitlines()
    assert [LINE.fullmatch(line)[1] for line in lines] == ["1", "2", "3"]  # 20 steps of 32 in 10 seconds


def test_long_epochs_have_a_plain_line_now_and_then():
    console, clock = make_console(), Clock()
    fit(Sleep(clock, 20, validation_s=5), make_bar(console, clock=clock), at_once=4)
    lines = read(console).splitlines()
    plain = [line for line in lines if " step " in line]
    assert len(lines) == len(plain) + 3 == 9  # 100 seconds an epoch, a line every 40
    assert re.fullmatch(r"train 1/3  step 8/60  loss \S+  mae \S+  6 examples/s  ETA 4 min 20 s", plain[0])
    assert re.fullmatch(r"train 2/3  step 28/60  loss \S+  mae \S+  6 examples/s  ETA 2 min 50 s", plain[2])


def test_goes_on_where_an_earlier_attempt_ended():
    console, clock = make_console(), Clock()
    fit(Sleep(clock, 20), make_bar(console, clock=clock, first_step=40), at_once=4, initial_epoch=2)
    lines = read(console).splitlines()
    assert lines[0].startswith("train 3/3  step 48/60  ") and lines[-1].startswith("train 3/3  loss ")
    assert lines[-1].endswith("  6 examples/s")


def test_the_prefix_is_no_markup_and_stands_before_every_line():
    console, clock = make_console(), Clock()
    bar = make_bar(console, clock=clock, prefix="[worker 1] ")
    fit(Sleep(clock, 20), bar, at_once=4)
    bar.say("[bold] is said as it is")
    lines = read(console).splitlines()
    assert len(lines) == 10 and all(line.startswith("[worker 1] ") for line in lines)
    assert lines[-1] == "[worker 1] [bold] is said as it is"


def test_keras_hands_over_tensors_that_nobody_has_waited_for():
    kinds = []

    class Bar(ProgressBar):
        def on_train_batch_end(self, batch, logs=None):
            kinds.append(type(logs["loss"]))
            super().on_train_batch_end(batch, logs)

    bar = Bar("train", make_console(), examples_per_step=1, total_steps=4, steps_per_epoch=4, epochs=1)
    fit(bar, steps=4, epochs=1)
    assert len(kinds) == 4 and all(issubclass(kind, tf.Tensor) for kind in kinds)


@pytest.mark.parametrize(("terminal", "most"), [(True, 5), (False, 0)])
def test_looks_at_the_figures_a_few_times_a_second(terminal, most):
    console, clock = make_console(terminal), Clock()
    bar = make_bar(console, steps=1000, clock=clock)
    Figure.looks = 0
    bar.on_train_begin()
    try:
        bar.on_epoch_begin(0)
        for batch in range(1000):
            clock.now_s += 0.001
            bar.on_train_batch_end(batch, {"loss": Figure()})
    finally:
        bar.close()
    assert min(most, 1) <= Figure.looks <= most


def test_a_terminal_sees_one_bar_for_the_whole_training():
    console, clock = make_console(terminal=True), Clock()
    bar = make_bar(console, clock=clock, prefix="[worker 1] ")
    bar.on_train_begin()
    bar.on_epoch_begin(0)
    for batch in (3, 7, 11):
        clock.now_s += 2
        bar.on_train_batch_end(batch, {"loss": np.float32(0.25)})
    bar._progress.refresh()
    seen = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", read(console)).splitlines()[-1]
    bar.close()
    assert seen.startswith("[worker 1] train 1/3 ") and "━" in seen
    assert "12/60  ETA 24 s  64 examples/s loss 0.2500" in seen


def test_a_narrow_terminal_loses_the_figures_first():
    console, clock = make_console(terminal=True, width=60), Clock()
    bar = make_bar(console, clock=clock)
    bar.on_train_begin()
    bar.on_epoch_begin(0)
    for batch in (3, 7, 11):
        clock.now_s += 2
        bar.on_train_batch_end(batch, {"loss": 0.25, "accuracy": 0.5})
    bar._progress.refresh()
    seen = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", read(console)).splitlines()[-1]
    bar.close()
    assert "train 1/3" in seen and "12/60  ETA 24 s  64 examples/s" in seen and "accuracy" not in seen


class Fall(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        if batch == 5:
            raise RuntimeError("the cable is out")


def test_gives_the_terminal_back_after_a_fall():
    console = make_console(terminal=True)
    bar = make_bar(console)
    with pytest.raises(RuntimeError, match="the cable is out"):
        try:
            fit(bar, Fall())
        finally:
            bar.close()
    bar.close()
    assert read(console).count(HIDE_CURSOR) == read(console).count(SHOW_CURSOR) == 1
    assert read(console).rindex(SHOW_CURSOR) > read(console).rindex(HIDE_CURSOR)


def test_a_whole_training_on_a_terminal_leaves_the_lines_and_no_bar():
    console = make_console(terminal=True)
    fit(make_bar(console), at_once=7)
    text = read(console)
    assert len(re.findall(r"train [123]/3  loss .* examples/s", text)) == 3
    assert text.index(HIDE_CURSOR) < text.rindex(SHOW_CURSOR)
