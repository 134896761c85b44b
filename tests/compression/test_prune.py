import io

import numpy as np
import pytest
import tf_keras as keras
from rich.console import Console

from bmp.artifact.litert import write_litert
from bmp.compression.prune import prune
from bmp.config import DataConfig, PruningConfig
from bmp.data import SOURCES, load_data
from bmp.distribution import STRATEGIES
from bmp.distribution.cluster import Cluster
from bmp.errors import ExportError
from bmp.models import MODELS
from bmp.training import OPTIMIZERS, Trainer


@pytest.fixture(scope="module")
def data():
    return load_data(SOURCES.bind("sklearn", {"name": "digits"}), DataConfig(source="sklearn"), 0)


@pytest.fixture(scope="module")
def make_trainer(data):
    def make(strategy="one_device", batch_size=64):
        return Trainer(
            data,
            STRATEGIES[strategy](Cluster(), None).strategy,
            build_optimizer=OPTIMIZERS["adam"],
            batch_size=batch_size,
            seed=0,
            console=Console(file=io.StringIO()),
        )

    return make


def build(trainer):
    keras.utils.set_random_seed(0)
    with trainer.strategy.scope():
        return MODELS["cnn"](trainer.data.signature, filters=[4], dense=[32], scale=0.0625, dropout=0.2)


def get_kernels(model):
    return [weight for weight in model.get_weights() if weight.ndim > 1]


@pytest.fixture(scope="module")
def pruned(make_trainer):
    """A fitted model, its weights before it was pruned, the pruned model and the history."""
    trainer = make_trainer("mirrored")
    model = build(trainer)
    trainer.fit(model, epochs=2, learning_rate=0.01)
    before = model.get_weights()
    return model, before, *prune(model, PruningConfig(sparsity=0.75, epochs=2), trainer)


def test_the_model_given_is_not_touched(pruned, data, tmp_path):
    model, before, other, _ = pruned
    for weight, old in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, old)
    assert not {id(layer) for layer in model.layers} & {id(layer) for layer in other.layers}
    assert not {id(weight) for weight in model.weights} & {id(weight) for weight in other.weights}
    model.save(tmp_path / "model.keras")
    write_litert(model, data.signature, tmp_path / "model.tflite")


def test_every_kernel_is_as_sparse_as_asked(pruned):
    kernels = get_kernels(pruned[2])
    assert len(kernels) == 3
    for kernel in kernels:
        assert np.mean(kernel == 0) == pytest.approx(0.75, abs=1.5 / kernel.size)


def test_what_is_kept_was_trained_further(pruned):
    _, before, other, _ = pruned
    for weight, old in zip(other.get_weights(), before, strict=True):
        assert np.abs(weight[weight != 0] - old[weight != 0]).max() > 0


def test_comes_back_without_wrappers_and_with_the_same_layers(pruned):
    model, _, other, _ = pruned
    assert [type(layer) for layer in other.layers] == [type(layer) for layer in model.layers]
    assert [layer.get_config() for layer in other.layers] == [layer.get_config() for layer in model.layers]
    assert (other.input_names, other.output_names) == (model.input_names, model.output_names)
    assert [weight.shape for weight in other.get_weights()] == [weight.shape for weight in model.get_weights()]


def test_still_knows_what_it_learned(pruned, data):
    held_out = data.validation.load()
    probabilities = pruned[2](held_out.inputs["image"]).numpy()
    assert np.mean(probabilities.argmax(axis=-1) == held_out.targets) > 0.5  # a guess: 0.1


def test_the_epochs_are_of_the_stage_prune(pruned):
    assert [(epoch.stage, epoch.epoch) for epoch in pruned[3]] == [("prune", 1), ("prune", 2)]


def test_starts_from_the_weights_it_was_given(make_trainer):
    trainer = make_trainer()
    model = build(trainer)
    other, _ = prune(model, PruningConfig(sparsity=0.25, epochs=1, learning_rate=1e-12), trainer)
    for kernel, original in zip(get_kernels(other), get_kernels(model), strict=True):
        np.testing.assert_allclose(kernel[kernel != 0], original[kernel != 0], atol=1e-6)
        assert np.abs(original[kernel == 0]).max() <= np.abs(original[kernel != 0]).min() + 1e-6


def test_too_few_steps_to_get_there_are_told(make_trainer):
    trainer = make_trainer(batch_size=10_000)
    with pytest.raises(ExportError, match=r"came out of pruning with [\d.]+% zeros instead of 99\.0%"):
        prune(build(trainer), PruningConfig(sparsity=0.99, epochs=1), trainer)


def test_a_model_without_kernels_cannot_be_pruned(make_trainer):
    trainer = make_trainer()
    with trainer.strategy.scope():
        inputs = keras.Input((8, 8), name="image")
        x = keras.layers.Reshape((64, 1))(inputs)
        x = keras.layers.LocallyConnected1D(1, 55)(x)
        model = keras.Model(inputs, keras.layers.Softmax(name="probabilities")(keras.layers.Flatten()(x)))
    with pytest.raises(ExportError, match=r"no dense or convolutional layer to prune\. Set compress\.pruning: null"):
        prune(model, PruningConfig(epochs=1), trainer)


@pytest.mark.parametrize(("epochs", "batch_size"), [(1, 64), (2, 50), (3, 37), (7, 200)])
def test_full_sparsity_is_reached_however_the_steps_divide(make_trainer, epochs, batch_size):
    trainer = make_trainer(batch_size=batch_size)
    model, _ = prune(build(trainer), PruningConfig(sparsity=0.8, epochs=epochs), trainer)
    for kernel in get_kernels(model):
        assert np.count_nonzero(kernel == 0) >= int(0.8 * kernel.size) - 1
