import numpy as np
import pytest
import tf_keras as keras
from conftest import make_split

from bmp.artifact.artifact import export_variant, write_uncompressed
from bmp.artifact.h5 import KerasRunner
from bmp.artifact.litert import Storage
from bmp.artifact.proof import (
    PARITY_TOLERANCE,
    check_parity,
    compare,
    evaluate,
    max_abs_diff,
    measure_latency,
    measure_sparsity,
)
from bmp.artifact.saved_model import SavedModelRunner
from bmp.errors import ProofError
from bmp.models import MODELS
from bmp.signature import Signature, TensorSpec

SIGNATURE = Signature((TensorSpec("image", "float32", (8, 8)),), (TensorSpec("probabilities", "float32", (10,)),))


def make_images(size, seed=0):
    random = np.random.default_rng(seed)
    images = random.uniform(0, 1, (size, 8, 8)).astype(np.float32)
    return make_split({"image": images}, random.integers(10, size=size), tuple("0123456789"))


VALIDATION, TEST = make_images(300), make_images(40, seed=1)


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    return MODELS["cnn"](SIGNATURE, filters=[8], dense=[64])


def copy_model(model, change):
    copy = keras.models.clone_model(model)
    copy.set_weights([change(weight) if weight.ndim > 1 else weight for weight in model.get_weights()])
    return copy


def zero_the_smallest(weight, share=0.8):
    return weight * (np.abs(weight) > np.quantile(np.abs(weight), share))


@pytest.fixture(scope="module")
def exports(model, tmp_path_factory):
    directory = tmp_path_factory.mktemp("proof")
    pruned = copy_model(model, zero_the_smallest)
    calibration = make_images(32, seed=2).load().inputs
    return {
        "float32": export_variant("float32", model, SIGNATURE, directory),
        "pruned": export_variant("pruned", pruned, SIGNATURE, directory),
        "pruned_int8": export_variant("pruned_int8", pruned, SIGNATURE, directory, Storage("int8"), calibration),
    }


def test_a_float_file_does_what_its_model_does(exports):
    for name in ("float32", "pruned"):
        keras_model = KerasRunner(exports[name].model, SIGNATURE)
        assert 0 < compare(exports[name].load(), keras_model, VALIDATION) <= PARITY_TOLERANCE


def test_a_quantized_file_may_differ(exports, model):
    found = compare(exports["pruned_int8"].load(), KerasRunner(exports["pruned_int8"].model, SIGNATURE), VALIDATION)
    assert PARITY_TOLERANCE < found < 0.2


def test_a_file_of_another_model_is_caught(exports, model):
    difference = compare(exports["pruned"].load(), KerasRunner(model, SIGNATURE), VALIDATION)
    with pytest.raises(ProofError, match=r"pruned\.tflite differs from the Keras model by up to .* Nothing was"):
        check_parity("pruned.tflite", difference)


def test_sparsity_is_read_from_the_file(exports):
    assert measure_sparsity(exports["float32"]) < 0.01
    assert measure_sparsity(exports["pruned"]) == pytest.approx(0.8, abs=0.01)
    assert measure_sparsity(exports["pruned_int8"]) == pytest.approx(0.8, abs=0.03)


def test_a_saved_model_is_loaded_by_tensorflow_and_is_all_its_files(tmp_path, model):
    export, notes = write_uncompressed(model, SIGNATURE, tmp_path, VALIDATION)
    assert notes == [] and not export.is_litert
    assert isinstance(export.load(), SavedModelRunner)
    assert compare(export.load(), KerasRunner(model, SIGNATURE), VALIDATION) <= PARITY_TOLERANCE
    names = {path.name for path in export.files()}
    assert {"saved_model.pb", "variables.index"} < names and measure_sparsity(export) < 0.01


class Doubler:
    """A runner that remembers the sizes of its batches."""

    signature = SIGNATURE

    def __init__(self):
        self.sizes = []

    def run(self, arrays):
        self.sizes.append(len(arrays["image"]))
        return {"probabilities": arrays["image"] * 2}


@pytest.mark.parametrize("size", [1, 255, 256, 257, 600])
def test_batches_are_bounded_and_none_is_left_out(size):
    targets = np.arange(size) % 3
    image = np.eye(3, dtype=np.float32)[targets]
    image[-1] = image[-1][::-1] + np.eye(3)[0] * 3  # the very last one is wrong: class 0
    targets[-1] = 2
    split, runner = make_split({"image": image}, targets, ("a", "b", "c")), Doubler()
    assert evaluate(runner, split).result()["accuracy"] == pytest.approx((size - 1) / size)
    assert compare(runner, Doubler(), split) == 0
    assert max(runner.sizes) <= 256 and sum(runner.sizes) == 2 * size


@pytest.mark.parametrize("batch_size", [1, 32])
def test_latency_is_measured_for_each_runner_in_turn(batch_size):
    runners = {"a": Doubler(), "b": Doubler()}
    found = measure_latency(runners, {"image": np.zeros((5, 8, 8))}, batch_size, turns=2, runs=3)
    assert list(found) == ["a", "b"] and all(0 < took.p50_ms <= took.p95_ms for took in found.values())
    assert all(runner.sizes == [batch_size] * 7 for runner in runners.values())  # the first one allocates


def test_a_slow_model_has_fewer_and_shorter_turns():
    runners = {"a": Doubler(), "b": Doubler()}
    measure_latency(runners, {"image": np.zeros((5, 8, 8))}, 1, turns=10, runs=30, limit_s=0)
    assert all(len(runner.sizes) == 1 + 3 for runner in runners.values())


NAN, INF = np.nan, np.inf


@pytest.mark.parametrize(
    ("expected", "outputs", "difference"),
    [
        ({"a": [1.0, 2.0]}, {"a": [1.0, 2.0]}, 0.0),
        ({"a": [1.0, 2.0]}, {"a": [1.5, 1.0]}, 1.0),
        ({"a": [0.0], "b": [0.0]}, {"a": [0.1], "b": [-0.3]}, 0.3),
        ({"a": [1.0, 2.0]}, {"a": [1.0, NAN]}, INF),
        ({"a": [1.0, NAN]}, {"a": [1.0, NAN]}, INF),
        ({"a": [1.0]}, {"a": [INF]}, INF),
        ({"a": [INF]}, {"a": [INF]}, INF),
        ({"a": [0.0], "b": [0.0]}, {"a": [NAN], "b": [0.0]}, INF),
        ({"a": [0.0], "b": [0.0]}, {"a": [0.0], "b": [NAN]}, INF),
    ],
)
def test_the_largest_difference_is_over_all_outputs_and_never_hides_a_nan(expected, outputs, difference):
    arrays = [{name: np.array(values) for name, values in named.items()} for named in (expected, outputs)]
    assert max_abs_diff(*arrays) == pytest.approx(difference)


@pytest.mark.parametrize("difference", [0.0, 1e-7, PARITY_TOLERANCE])
def test_parity_holds_up_to_the_tolerance(difference):
    check_parity("x", difference)


@pytest.mark.parametrize("difference", [PARITY_TOLERANCE * 1.01, 0.5, INF])
def test_parity_is_broken_above_it(difference):
    with pytest.raises(ProofError, match="x differs from the Keras model") as caught:
        check_parity("x", difference)
    assert caught.value.received == f"{difference:.3g}"
