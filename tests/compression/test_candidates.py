import io

import numpy as np
import pytest
import tf_keras as keras
from conftest import make_split
from rich.console import Console

from bmp.compression import make_candidates
from bmp.compression.quantize import pick_calibration
from bmp.config import CompressConfig, DataConfig, PruningConfig, QuantizationConfig
from bmp.data import load_data
from bmp.distribution import STRATEGIES
from bmp.distribution.cluster import Cluster
from bmp.models import MODELS
from bmp.training import OPTIMIZERS, Trainer

PRUNE, QUANTIZE = PruningConfig(sparsity=0.5, epochs=1), QuantizationConfig(calibration_examples=20)


@pytest.fixture(scope="module")
def data():
    """Every example is a row of its own number: one can be told from all others."""
    rows = np.repeat(np.arange(200, dtype=np.float32)[:, None], 2, axis=1) / 200
    source = make_split({"row": rows}, np.arange(200) % 2, ("even", "odd")).source
    return load_data(lambda: source, DataConfig(source="any", objective="multiclass"), 0)


@pytest.fixture(scope="module")
def trainer(data):
    return Trainer(
        data,
        STRATEGIES["one_device"](Cluster(), None).strategy,
        build_optimizer=OPTIMIZERS["adam"],
        batch_size=32,
        seed=0,
        console=Console(file=io.StringIO()),
    )


@pytest.fixture(scope="module")
def model(trainer):
    keras.utils.set_random_seed(0)
    with trainer.strategy.scope():
        return MODELS["mlp"](trainer.data.signature, hidden=[8])


def get_rows(arrays):
    return set(arrays["row"][:, 0].tolist())


@pytest.mark.parametrize(
    ("pruning", "quantization", "names"),
    [
        (None, None, ["float32"]),
        (None, QUANTIZE, ["float32", "int8"]),
        (PRUNE, None, ["float32", "pruned"]),
        (PRUNE, QUANTIZE, ["float32", "pruned", "int8", "pruned_int8"]),
    ],
    ids=["none", "quantization", "pruning", "both"],
)
def test_makes_what_is_asked_for(model, trainer, pruning, quantization, names):
    candidates, history, notes = make_candidates(
        model, CompressConfig(pruning=pruning, quantization=quantization), trainer, seed=0
    )
    by_name = {candidate.name: candidate for candidate in candidates}
    assert list(by_name) == names and notes == []
    assert [epoch.stage for epoch in history] == (["prune"] if pruning else [])
    for name, candidate in by_name.items():
        assert (candidate.calibration is not None) == name.endswith("int8")
        assert (candidate.model is model) == (name in ("float32", "int8"))
    if pruning and quantization:
        assert by_name["pruned_int8"].model is by_name["pruned"].model
        assert by_name["pruned_int8"].calibration is by_name["int8"].calibration


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("wanted", "given"), [(1, 1), (20, 20), (140, 140), (1000, 140)])
def test_calibrates_on_the_training_split_only(data, seed, wanted, given):
    calibration = pick_calibration(data.train, QuantizationConfig(calibration_examples=wanted), seed)
    rows = get_rows(calibration)
    assert len(rows) == len(calibration["row"]) == given
    assert rows <= get_rows(data.train.load().inputs)
    assert not rows & (get_rows(data.validation.load().inputs) | get_rows(data.test.load().inputs))


def test_the_candidates_carry_that_calibration(model, trainer, data):
    candidates, _, _ = make_candidates(model, CompressConfig(pruning=None, quantization=QUANTIZE), trainer, seed=5)
    np.testing.assert_array_equal(candidates[1].calibration["row"], pick_calibration(data.train, QUANTIZE, 5)["row"])
    assert get_rows(candidates[1].calibration) <= get_rows(data.train.load().inputs)


def test_the_seed_picks_the_calibration(data):
    first, again, other = (get_rows(pick_calibration(data.train, QUANTIZE, seed)) for seed in (1, 1, 2))
    assert first == again != other


def test_what_cannot_be_pruned_is_told_and_the_rest_is_made(trainer):
    class Net(keras.Model):
        def __init__(self):
            super().__init__(name="own")
            self.head = keras.layers.Dense(2, activation="softmax")

        def call(self, inputs):
            return self.head(inputs)

    model = Net()
    model(np.zeros((1, 2), np.float32))
    candidates, history, notes = make_candidates(
        model, CompressConfig(pruning=PRUNE, quantization=QUANTIZE), trainer, seed=0
    )
    assert [candidate.name for candidate in candidates] == ["float32", "int8"] and len(history) == 0
    assert notes == [
        "The model 'own' is subclassed; pruning needs a functional or sequential one. No pruned variant is made."
    ]
