import numpy as np
import pytest
import tf_keras as keras
from hypothesis import given, settings
from hypothesis import strategies as st

from bmp.artifact.graph import find_layers, read_graph
from bmp.artifact.litert import Storage, write_litert
from bmp.errors import ArtifactError
from bmp.signature import Signature, TensorSpec

SIGNATURE = Signature((TensorSpec("image", "float32", (6, 6, 2)),), (TensorSpec("scores", "float32", (3,)),))


def build():
    keras.utils.set_random_seed(0)
    layers = keras.layers
    image = keras.Input((6, 6, 2), name="image")
    x = layers.Conv2D(4, 3, use_bias=False, name="conv")(image)
    x = layers.BatchNormalization(name="norm")(x)
    x = layers.ReLU(name="relu")(x)
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dense(5, activation="relu", name="dense")(x)
    return keras.Model(image, layers.Dense(3, activation="softmax", name="scores")(x), name="dense")  # as its layer


@pytest.fixture(scope="module")
def model():
    return build()


@pytest.fixture(scope="module", params=["float32", "float16", "int8"])
def path(model, request, tmp_path_factory):
    path = tmp_path_factory.mktemp("graph") / "model.tflite"
    images = np.random.default_rng(0).normal(size=(8, 6, 6, 2)).astype(np.float32)
    calibration = {"image": images} if request.param == "int8" else None
    write_litert(model, SIGNATURE, path, storage=Storage(request.param), calibration=calibration)
    return path


def operation(graph, name):
    return [operator for operator in graph.operators if operator.name == name]


def test_operations_stand_in_order_with_their_kernels(path):
    graph = read_graph(path)
    names = [step.name for step in graph.operators if step.name not in ("QUANTIZE", "DEQUANTIZE")]
    assert names == ["CONV_2D", "RESHAPE", "FULLY_CONNECTED", "FULLY_CONNECTED", "SOFTMAX"]
    (conv,), (first, last) = operation(graph, "CONV_2D"), operation(graph, "FULLY_CONNECTED")
    shapes = [[kernel.shape for kernel in graph.kernels_of(step)] for step in (conv, first, last)]
    assert shapes == [[(4, 3, 3, 2)], [(5, 64)], [(3, 5)]]
    assert graph.producer(conv.outputs[0]) is conv


def test_the_layer_of_each_operation_is_found_also_where_the_model_is_called_as_a_layer(path, model):
    graph, layers = read_graph(path), [layer.name for layer in model.layers]
    (conv,), (first, last) = operation(graph, "CONV_2D"), operation(graph, "FULLY_CONNECTED")
    assert {"conv", "relu"} <= set(graph.layers_of(conv, layers)) <= {"conv", "norm", "relu"}
    assert graph.layers_of(first, layers) == ("dense",)
    assert graph.layers_of(last, layers) == ("scores",)
    (softmax,) = operation(graph, "SOFTMAX")
    assert graph.layers_of(softmax, layers) == ("scores",)  # its output has lost its name


def test_constants_are_the_weights(path, model):
    graph = read_graph(path)
    (kernel,) = graph.kernels_of(operation(graph, "FULLY_CONNECTED")[0])
    expected = model.get_layer("dense").kernel.numpy().T
    np.testing.assert_allclose(kernel.to_floats(), expected, atol=0.01)
    assert kernel.data.dtype.name == kernel.dtype


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("net/dense/MatMul", ("dense",)),
        ("net/dense_1/MatMul", ("dense_1",)),
        ("net/relu/Relu;net/conv/Conv2D", ("relu", "conv")),
        ("net/conv/dense/MatMul", ("conv",)),  # a layer inside a layer that happens to have the same name
        ("net/block/dense/MatMul", ("block/dense",)),
        ("StatefulPartitionedCall:0", ()),
        ("arith.constant", ()),
        ("dense", ()),
    ],
)
def test_names_of_tensors_speak_of_layers(name, found):
    assert find_layers([name], ["conv", "dense", "dense_1", "relu", "block/dense"]) == found


@pytest.mark.parametrize("content", [b"", b"TFL3", b"PK\x03\x04 and so on", bytes(100)])
def test_other_files_are_refused(content):
    with pytest.raises(ArtifactError, match="Not a LiteRT model"):
        read_graph(content)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_damaged_file_is_read_or_refused_and_nothing_else(data):
    content = bytearray(damaged_source())
    if data.draw(st.booleans()):
        content = content[: data.draw(st.integers(9, len(content) - 1))]
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(8, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        graph = read_graph(bytes(content))
    except ArtifactError as error:
        assert "\n" not in str(error)
    else:
        assert isinstance(graph.operators, tuple)


_SOURCE = []


def damaged_source():
    import tempfile
    from pathlib import Path

    if not _SOURCE:
        with tempfile.TemporaryDirectory() as directory:
            write_litert(build(), SIGNATURE, Path(directory) / "model.tflite")
            _SOURCE.append((Path(directory) / "model.tflite").read_bytes())
    return _SOURCE[0]
