import io
from dataclasses import replace

import numpy as np
import pytest
import tf_keras as keras
from rich.console import Console

from bmp.compression.channels.groups import find_groups
from bmp.compression.channels.saliency import keep_best_units, weigh_by_magnitude
from bmp.compression.channels.shrink import shrink
from bmp.compression.sensitivity import measure_sensitivity, plot_sensitivity
from bmp.config import DataConfig, TrainConfig
from bmp.data import SOURCES, load_data
from bmp.distribution import STRATEGIES
from bmp.distribution.cluster import Cluster
from bmp.errors import ConfigError, DataError, ExportError, UnknownNameError
from bmp.models import MODELS
from bmp.training import OPTIMIZERS, Trainer

LEVELS = {"prune": (0.5, 0.95), "cluster": (16, 2), "int8": (8,), "channels": (0.25, 0.5)}


@pytest.fixture(scope="module")
def data():
    return load_data(SOURCES.bind("sklearn", {"name": "digits"}), DataConfig(source="sklearn"), 0)


@pytest.fixture(scope="module")
def model(data):
    trainer = Trainer(
        data,
        STRATEGIES["one_device"](Cluster(), None).strategy,
        build_optimizer=OPTIMIZERS["adam"],
        batch_size=64,
        seed=0,
        console=Console(file=io.StringIO()),
        config=TrainConfig(jit=False, steps_per_execution=4),
    )
    keras.utils.set_random_seed(0)
    with trainer.strategy.scope():
        model = MODELS["resnet"](data.signature, blocks=1, stages=2, filters=8, scale=0.0625)
    trainer.fit(model, epochs=4, learning_rate=0.01)
    return model


@pytest.fixture(scope="module")
def found(model, data):
    before, told = model.get_weights(), []
    found = measure_sensitivity(model, data, LEVELS, examples=200, report=lambda *done: told.append(done))
    for weight, old in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, old)
    assert told == [(done, len(found.rows)) for done in range(len(found.rows) + 1)]
    return found


def score(model, data, examples):
    """Accuracy and loss of a model on the examples that seed 0 chooses, by Keras."""
    index = np.sort(np.random.default_rng(0).permutation(len(data.validation))[:examples])
    batch = data.validation.take(index).load()
    outputs = model.predict(batch.inputs["image"], verbose=0)
    truth = outputs[np.arange(len(outputs)), batch.targets]
    return np.mean(outputs.argmax(axis=1) == batch.targets), -np.log(truth.clip(1e-30)).mean()


def test_the_model_as_it_is_is_measured_on_part_of_the_validation_split(found, model, data):
    assert (found.metric, found.examples) == ("accuracy", 200)
    assert (found.score, found.loss) == pytest.approx(score(model, data, 200), rel=1e-4)


def test_every_target_has_a_row_for_every_level(found, model):
    kernels = [layer.name for layer in model.layers if hasattr(layer, "kernel")]
    for technique in ("prune", "cluster", "int8"):
        rows = found.of(technique)
        assert sorted(rows) == sorted(kernels)
        assert all(sorted(row.level for row in rows[name]) == sorted(LEVELS[technique]) for name in kernels)
    assert list(found.of("channels")) == ["stem_conv", "block_1_1_1_conv", "block_2_1_1_conv", "block_2_1_2_conv"]


def test_a_group_of_channels_costs_what_taking_it_out_costs(found, model, data):
    channels = find_groups(model)
    scores = weigh_by_magnitude(model, channels)
    for rows in found.of("channels").values():
        for row in rows:
            (group,) = (group for group in channels.free if group.name == row.target)
            counts = {group.name: round(len(group.units) * (1 - row.level))}
            small = shrink(model, channels, keep_best_units(channels, scores, counts))
            assert (row.score, row.loss) == pytest.approx(score(small, data, 200), rel=1e-3)
            assert 0 < row.saving < 1
            assert 0 < row.macs_saving < 1
            assert row.macs > row.weights
    assert found.drop(found.of("channels")["stem_conv"][-1]) > 0.02  # the residual stream is not free


def test_compressing_more_costs_more(found):
    for technique in ("prune", "cluster", "channels"):
        rises = [[row.loss - found.loss for row in rows] for rows in found.of(technique).values()]
        mild, strong = np.array(rises).mean(axis=0)
        assert mild < strong


def test_eight_bits_cost_something_and_next_to_nothing(found):
    rises = [row.loss - found.loss for (row,) in found.of("int8").values()]
    assert all(rise != 0 for rise in rises)
    assert np.abs(rises).max() < 0.02


def test_the_self_test_holds_the_sum_against_all_at_once(found):
    joints = {joint.technique: joint for joint in found.joints}
    assert list(joints) == list(LEVELS)
    assert joints["prune"].levels == dict.fromkeys(found.of("prune"), 0.5)
    for joint in joints.values():
        rows = [row for row in found.rows if row.technique == joint.technique and row.level == joint.levels[row.target]]
        assert joint.predicted_rise == pytest.approx(sum(row.loss - found.loss for row in rows))
    assert joints["int8"].rise == pytest.approx(joints["int8"].predicted_rise, abs=0.02)


def test_the_picture_is_drawn(found, tmp_path):
    plot_sensitivity(found, tmp_path / "sensitivity.png")
    from PIL import Image

    with Image.open(tmp_path / "sensitivity.png") as image:
        assert image.width > image.height > 300
        assert len(image.convert("RGB").getcolors(2**20)) > 50


@pytest.mark.parametrize(
    ("levels", "error", "message"),
    [
        ({"prun": (0.5,)}, UnknownNameError, "Did you mean 'prune'"),
        ({"prune": (1.0,)}, ConfigError, "give a share between 0 and 1"),
        ({"cluster": (2.5,)}, ConfigError, "give a whole number from 2"),
        ({"int8": (4,)}, ConfigError, "give 8 bits"),
    ],
)
def test_wrong_levels_are_refused(model, data, levels, error, message):
    with pytest.raises(error, match=message):
        measure_sensitivity(model, data, levels)


def test_there_must_be_something_to_measure_and_to_measure_on(model, data):
    with pytest.raises(DataError, match="The validation split is empty"):
        measure_sensitivity(model, replace(data, validation=data.validation.take(slice(0, 0))))
    x = keras.Input((8, 8))
    with pytest.raises(ExportError, match="no dense or convolutional layer to measure"):
        measure_sensitivity(keras.Model(x, keras.layers.Softmax()(keras.layers.Flatten()(x))), data)
