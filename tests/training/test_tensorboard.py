import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from bmp.training.tensorboard import TensorBoardWriter, read_learning_rate


def build(learning_rate=0.1):
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(learning_rate), "mse", metrics=["mae"], steps_per_execution=2)
    return model


def fit(writer, *, epochs=2, initial_epoch=0, learning_rate=0.1):
    x = np.linspace(-1, 1, 64, dtype="float32")[:, None]
    data = tf.data.Dataset.from_tensor_slices((x, x)).batch(32).repeat()
    return build(learning_rate).fit(
        data,
        steps_per_epoch=10,
        epochs=epochs,
        initial_epoch=initial_epoch,
        validation_data=(x, x),
        verbose=0,
        callbacks=[writer],
    )


def make_writer(directory, stage="train", **options):
    return TensorBoardWriter(directory, stage, steps_per_epoch=10, examples_per_step=32, **options)


def read_events(run):
    """All events of a run, file by file in the order of names, as TensorBoard reads them."""
    files = sorted(map(str, run.iterdir()))
    assert all("tfevents" in file for file in files)
    return [tf.compat.v1.Event.FromString(record) for file in files for record in _records(file)]


def _records(file):
    return [record.numpy() for record in tf.data.TFRecordDataset(file)]


def read_curves(run):
    """What TensorBoard shows: a start forgets its own step and all later ones."""
    curves = {}
    for event in read_events(run):
        if event.HasField("session_log") and event.session_log.status == event.session_log.START:
            for points in curves.values():
                for step in [step for step in points if step >= event.step]:
                    del points[step]
        for value in event.summary.value:
            curves.setdefault(value.tag, {})[event.step] = value.simple_value
    return curves


def test_epochs_are_two_runs_over_the_steps(tmp_path):
    history = fit(make_writer(tmp_path)).history
    train, validation = read_curves(tmp_path / "train"), read_curves(tmp_path / "validation")
    assert set(train) == {"epoch/loss", "epoch/mae", "epoch/learning_rate"}
    assert set(validation) == {"epoch/loss", "epoch/mae"}
    assert {path.name for path in tmp_path.iterdir()} == {"train", "validation"}
    for curves, prefix in ((train, ""), (validation, "val_")):
        for name in ("loss", "mae"):
            assert list(curves[f"epoch/{name}"]) == [10, 20]
            assert list(curves[f"epoch/{name}"].values()) == pytest.approx(history[prefix + name])
    assert list(train["epoch/learning_rate"].values()) == pytest.approx([0.1, 0.1])
    assert read_events(tmp_path / "train")[0].file_version == "brain.Event:2"


def test_steps_in_between_have_loss_rate_and_speed(tmp_path):
    schedule = keras.optimizers.schedules.PolynomialDecay(1.0, 20, end_learning_rate=0.0)
    fit(make_writer(tmp_path, every_s=0.0), learning_rate=schedule)
    curves = read_curves(tmp_path / "train")
    assert list(curves["step/loss"]) == list(curves["step/mae"]) == list(range(2, 21, 2))
    rates = curves["step/learning_rate"]
    assert list(rates.values()) == pytest.approx([1 - (step - 1) / 20 for step in rates])
    assert list(curves["step/examples_per_s"]) == list(range(4, 21, 2))
    assert all(rate > 0 for rate in curves["step/examples_per_s"].values())


def test_steps_are_some_seconds_apart(tmp_path):
    seconds = iter(range(10_000))
    fit(make_writer(tmp_path, every_s=10, clock=lambda: float(next(seconds))))
    steps = list(read_curves(tmp_path / "train")["step/loss"])
    assert 1 <= len(steps) <= 2  # ten executions and two epochs are a dozen looks at this clock


def test_a_resumed_run_takes_back_what_no_longer_counts(tmp_path):
    fit(make_writer(tmp_path, every_s=0.0), epochs=3)
    before = read_curves(tmp_path / "train")
    fit(make_writer(tmp_path, first_step=20), epochs=3, initial_epoch=2)  # its checkpoint was of step 20
    train, validation = read_curves(tmp_path / "train"), read_curves(tmp_path / "validation")
    assert list(train["step/loss"]) == list(range(2, 21, 2))  # those of the third epoch are gone
    assert list(train["epoch/loss"]) == list(validation["epoch/loss"]) == [10, 20, 30]
    assert train["epoch/loss"][20] == before["epoch/loss"][20]
    assert train["epoch/loss"][30] != before["epoch/loss"][30]
    assert len(list((tmp_path / "train").iterdir())) == 2


def test_a_later_stage_has_runs_of_its_own(tmp_path):
    fit(make_writer(tmp_path))
    fit(make_writer(tmp_path, "prune"), epochs=1)
    assert list(read_curves(tmp_path / "train")["epoch/loss"]) == [10, 20]
    assert list(read_curves(tmp_path / "prune" / "train")["epoch/loss"]) == [10]
    assert list(read_curves(tmp_path / "prune" / "validation")["epoch/loss"]) == [10]


def test_a_fall_keeps_what_was_written(tmp_path):
    writer = make_writer(tmp_path)

    class Fall(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            assert epoch == 0, "fell"

    x = np.zeros((320, 1), "float32")
    with pytest.raises(AssertionError, match="fell"):
        build().fit(x, x, batch_size=32, epochs=2, verbose=0, callbacks=[writer, Fall()])
    assert list(read_curves(tmp_path / "train")["epoch/loss"]) == [10]  # flushed, though nobody closed it
    writer.close()
    writer.close()


def test_training_goes_on_where_the_files_cannot_be_written(tmp_path):
    (tmp_path / "train").write_text("in the way")
    said = []
    history = fit(make_writer(tmp_path, every_s=0.0, say=said.append)).history
    assert len(history["loss"]) == 2
    assert len(said) == 1 and said[0].startswith("The curves for TensorBoard are no longer written: ")


def test_the_learning_rate_is_read_from_every_kind_of_optimizer():
    schedule = keras.optimizers.schedules.PolynomialDecay(1.0, 10, end_learning_rate=0.0)
    for optimizer in (keras.optimizers.Adam(0.25), keras.optimizers.legacy.Adam(0.25)):
        assert read_learning_rate(optimizer) == pytest.approx(0.25)
    assert read_learning_rate(keras.optimizers.Adam(schedule)) == pytest.approx(1.0)
    scaled = keras.mixed_precision.LossScaleOptimizer(keras.optimizers.Adam(0.25))
    assert read_learning_rate(scaled) == pytest.approx(0.25)
