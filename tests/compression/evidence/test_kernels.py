import numpy as np
import pytest
import tf_keras as keras

from bmp.artifact.litert import Storage, write_litert
from bmp.compression.evidence.kernels import report_kernels
from bmp.errors import ArtifactError
from bmp.signature import Signature, TensorSpec

SIGNATURE = Signature((TensorSpec("image", "float32", (12, 12, 3)),), (TensorSpec("scores", "float32", (3,)),))
IMAGES = {"image": np.random.default_rng(0).normal(size=(16, 12, 12, 3)).astype(np.float32)}


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    image = keras.Input((12, 12, 3), name="image")
    x = keras.layers.Conv2D(8, 3, activation="relu", name="conv")(image)
    x = keras.layers.Dense(16, activation="relu", name="hidden")(keras.layers.Flatten()(x))
    model = keras.Model(image, keras.layers.Dense(3, activation="softmax", name="scores")(x), name="net")
    hidden = model.get_layer("hidden").kernel
    hidden.assign(np.where(np.random.default_rng(0).random(hidden.shape) < 0.41, 0, hidden.numpy()))
    return model


def report(model, tmp_path, storage):
    path = tmp_path / "model.tflite"
    write_litert(model, SIGNATURE, path, storage=storage, calibration=IMAGES if storage.is_calibrated else None)
    found = report_kernels(path)
    return {row.operator + str(row.shape): row for row in found.rows}, found.summary


CONV, HIDDEN, LAST, SOFTMAX = (
    "CONV_2D(1, 10, 10, 8)",
    "FULLY_CONNECTED(1, 16)",
    "FULLY_CONNECTED(1, 3)",
    "SOFTMAX(1, 3)",
)


@pytest.mark.parametrize(
    ("storage", "conv", "hidden"),
    [
        (Storage(), "XNNPACK float32", "XNNPACK float32"),
        (Storage("float16"), *["XNNPACK float32 (weights unpacked from float16)"] * 2),
        (Storage("dynamic"), "XNNPACK float32", "XNNPACK dynamic int8"),
        (Storage("int8"), "XNNPACK int8", "XNNPACK int8"),
        (Storage("int8", float_layers=("conv",)), "XNNPACK float32", "XNNPACK int8"),
        (Storage("int16x8"), "LiteRT builtin int16", "LiteRT builtin int16"),
    ],
    ids=str,
)
def test_says_what_runs(model, tmp_path, storage, conv, hidden):
    rows, summary = report(model, tmp_path, storage)
    assert (rows[CONV].kernel, rows[HIDDEN].kernel) == (conv, hidden)
    assert f"{hidden} runs" in summary and summary.endswith("sparsity saves bytes here, not time.")
    assert (rows[CONV].weights, rows[HIDDEN].weights, rows[SOFTMAX].weights) == (3 * 3 * 3 * 8, 800 * 16, 0)
    assert not any(row.operator == "DEQUANTIZE" and row.weights for row in rows.values())


@pytest.mark.parametrize(
    ("storage", "operation", "remark"),
    [
        (Storage(), CONV, "float32 weights: int8 kernels need a storage of int8 or dynamic"),
        (Storage(), HIDDEN, "41% zeros: sparsity saves bytes here, not time"),
        (Storage("int8"), HIDDEN, "41% zeros: sparsity saves bytes here, not time"),
        (Storage("float16"), CONV, "float16 saves bytes here, not time"),
        (Storage("dynamic"), CONV, "216 weights: LiteRT leaves kernels under 1,024 float32"),
        (Storage("int8", float_layers=("conv",)), CONV, "float32 in an int8 file"),
        (Storage("int8"), CONV, ""),
        (Storage("int8"), SOFTMAX, "XNNPACK does not take SOFTMAX on int8 here"),
        (Storage("int16x8"), CONV, "XNNPACK has no int16 kernels"),
    ],
    ids=str,
)
def test_says_why_nothing_faster_runs(model, tmp_path, storage, operation, remark):
    rows, _ = report(model, tmp_path, storage)
    assert remark in rows[operation].remark and bool(remark) == bool(rows[operation].remark)


def test_few_values_are_no_faster_either(model, tmp_path):
    copy = keras.models.clone_model(model)
    copy.get_layer("hidden").kernel.assign(np.sign(model.get_layer("hidden").kernel) * 0.1)
    rows, _ = report(copy, tmp_path, Storage())
    assert "3 values: sharing saves bytes here, not time" in rows[HIDDEN].remark


def test_another_file_is_refused(tmp_path):
    (tmp_path / "model.tflite").write_bytes(b"no model at all")
    with pytest.raises(ArtifactError, match="Not a LiteRT model"):
        report_kernels(tmp_path / "model.tflite")
