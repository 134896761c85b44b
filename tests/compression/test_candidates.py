import io

import numpy as np
import pytest
import tf_keras as keras
from rich.console import Console

from bmp.compression import make_candidates
from bmp.compression.quantize import pick_calibration
from bmp.config import CompressConfig, DataConfig, PruningConfig, QuantizationConfig
from bmp.data import Examples, load_data
from bmp.distribution import STRATEGIES
from bmp.models import MODELS
from bmp.signature import Signature, TensorSpec
from bmp.training import OPTIMIZERS, Trainer

PRUNE, QUANTIZE = PruningConfig(sparsity=0.5, epochs=1), QuantizationConfig(calibration_examples=20)


@pytest.fixture(scope="module")
def data():
    """Every example is a row of its own number: one can be told from all others."""
    signature = Signature((TensorSpec("row", "float32", (2,)),), (TensorSpec("out", "float32", (2,)),))
    rows = np.repeat(np.arange(200, dtype=np.float32)[:, None], 2, axis=1) / 200
    examples = Examples({"row": rows}, np.arange(200) % 2, signature, ("even", "odd"))
    return load_data(lambda: examples, DataConfig(source="any"), 0)


@pytest.fixture(scope="module")
def trainer(data):
    return Trainer(
        data,
        STRATEGIES["one_device"](),
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
    candidates, history = make_candidates(
        model, CompressConfig(pruning=pruning, quantization=quantization), trainer, seed=0
    )
    by_name = {candidate.name: candidate for candidate in candidates}
    assert list(by_name) == names
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
    assert rows <= get_rows(data.train.inputs)
    assert not rows & (get_rows(data.validation.inputs) | get_rows(data.test.inputs))


def test_the_candidates_carry_that_calibration(model, trainer, data):
    candidates, _ = make_candidates(model, CompressConfig(pruning=None, quantization=QUANTIZE), trainer, seed=5)
    np.testing.assert_array_equal(candidates[1].calibration["row"], pick_calibration(data.train, QUANTIZE, 5)["row"])
    assert get_rows(candidates[1].calibration) <= get_rows(data.train.inputs)


def test_the_seed_picks_the_calibration(data):
    first, again, other = (get_rows(pick_calibration(data.train, QUANTIZE, seed)) for seed in (1, 1, 2))
    assert first == again != other
