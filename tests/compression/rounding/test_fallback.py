import numpy as np
import pytest
import tf_keras as keras

from bmp.artifact.conversion import calibrate
from bmp.artifact.litert import LiteRTRunner, Storage, write_litert
from bmp.compression.rounding.fallback import FAR_OUT, find_fallback, measure_layer_errors
from bmp.signature import Signature, TensorSpec

SIGNATURE = Signature((TensorSpec("image", "float32", (8, 8, 1)),), (TensorSpec("scores", "float32", (5,)),))
IMAGES = {"image": np.random.default_rng(0).uniform(size=(80, 8, 8, 1)).astype(np.float32)}


def build():
    keras.utils.set_random_seed(0)
    image = keras.Input((8, 8, 1), name="image")
    x = keras.layers.Conv2D(8, 3, name="conv")(image)
    x = keras.layers.BatchNormalization(name="norm")(x)
    x = keras.layers.ReLU(name="relu")(x)
    x = keras.layers.Flatten(name="flatten")(x)
    x = keras.layers.Dense(16, activation="relu", name="hidden")(x)
    return keras.Model(image, keras.layers.Dense(5, activation="softmax", name="scores")(x), name="net")


@pytest.fixture(scope="module")
def model():
    return build()


@pytest.fixture(scope="module")
def lopsided():
    """A network with one channel so large that int8 has no step left for the others, on which all depends."""
    model = build()
    norm, hidden = model.get_layer("norm"), model.get_layer("hidden")
    gamma, beta, *rest = norm.get_weights()
    gamma[0], beta[0] = 400, 200
    norm.set_weights([gamma, beta, *rest])
    kernel, bias = hidden.get_weights()
    kernel = kernel.reshape(6, 6, 8, 16) * 5
    kernel[:, :, 0] *= 1e-3
    hidden.set_weights([kernel.reshape(-1, 16), bias])
    return model


def measure_error(model, path, float_layers):
    storage = Storage("int8", float_layers=float_layers)
    write_litert(model, SIGNATURE, path, storage=storage, calibration=IMAGES)
    return np.abs(LiteRTRunner(path, SIGNATURE).run(IMAGES)["scores"] - model(IMAGES["image"]).numpy()).max()


def test_layers_that_int8_spoils_stay_float_and_the_file_is_right_again(lopsided, tmp_path):
    found = find_fallback(lopsided, SIGNATURE, IMAGES)
    assert set(found.float_layers) == {"conv", "hidden"}
    before = measure_error(lopsided, tmp_path / "int8.tflite", ())
    after = measure_error(lopsided, tmp_path / "mixed.tflite", found.float_layers)
    assert after < before / 10
    assert len(found.notes) == 3 and all(
        f"layer '{name}' stays float32" in "".join(found.notes) for name in ("conv", "hidden")
    )


def test_a_network_that_int8_suits_keeps_no_layer_float(model):
    found = find_fallback(model, SIGNATURE, IMAGES)
    assert found.float_layers == ()
    assert found.notes == ("int8: no layer stays float32; none would gain much by it.",)


def test_errors_are_those_of_each_layer_by_itself(model, lopsided):
    mild, wild = (
        measure_layer_errors(calibrate(m, SIGNATURE, IMAGES), SIGNATURE, IMAGES, m) for m in (model, lopsided)
    )
    assert list(mild) == list(wild) == ["conv", "flatten", "hidden", "scores"]  # a fused layer is that of its kernel
    assert all(0 <= error < FAR_OUT for error in mild.values())
    assert wild["conv"] > FAR_OUT and wild["hidden"] > FAR_OUT
