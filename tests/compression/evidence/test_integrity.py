import numpy as np
import pytest
import tf_keras as keras

from bmp.artifact.litert import Storage, write_litert
from bmp.compression.evidence.integrity import check_patterns, count_kernel, count_patterns
from bmp.compression.technique import Pattern
from bmp.compression.weights.kernels import find_kernels
from bmp.errors import ProofError
from bmp.signature import Signature, TensorSpec

RANDOM = np.random.default_rng(0)
OUTPUT = TensorSpec("scores", "float32", (3,))
IMAGE = TensorSpec("image", "float32", (10, 10, 4))
TOKENS = TensorSpec("tokens", "int32", (3,), vocabulary=20)
STORAGES = [Storage("float16"), Storage("dynamic"), Storage("int8"), Storage("int8", per_channel=False)]


def build_image_network():
    layers = keras.layers
    image = keras.Input((10, 10, 4), name="image")
    x = layers.Conv2D(8, 3, use_bias=False, name="conv")(image)
    x = layers.BatchNormalization(name="norm", moving_mean_initializer="ones", gamma_initializer="random_normal")(x)
    x = layers.ReLU(name="relu")(x)
    x = layers.SeparableConv2D(8, 3, name="separable")(x)
    x = layers.Conv2DTranspose(8, 2, 2, name="transposed")(x)
    x = layers.Reshape((-1, 8))(x)
    x = layers.Conv1D(8, 3, name="series")(x)
    x = layers.Flatten()(x)
    x = layers.Dense(16, activation="relu", name="twin")(x)
    x = layers.Dense(16, activation="relu", name="twin_1")(x)
    return keras.Model(image, layers.Dense(3, activation="softmax", name="scores")(x), name="twin")


def build_text_network():
    layers = keras.layers
    tokens = keras.Input((3,), name="tokens", dtype="int32")
    x = layers.Embedding(20, 8, name="embed")(tokens)
    x = layers.MultiHeadAttention(2, 4, name="attention")(x, x)
    x = layers.Bidirectional(layers.LSTM(8, unroll=True), name="both")(x)
    return keras.Model(tokens, layers.Dense(3, activation="softmax", name="scores")(x), name="text")


def change(model, how):
    """Changes every kernel of every layer, and returns the names of the layers that have one."""
    names = []
    for layer in model.layers:
        for kernel in find_kernels(layer):
            values = kernel.read()
            if kernel.inputs_axis is None:
                kernel.variable.assign(how(values.reshape(len(values), -1)).reshape(values.shape))
            else:
                kernel.variable.assign(kernel.from_rows(how(kernel.to_rows(values))))
            names += [layer.name] if layer.name not in names else []
    return names


def prune(rows):
    return rows * (np.abs(rows) > np.quantile(np.abs(rows), 0.6))


def keep_two_of_four(rows):
    if rows.shape[-1] % 4:
        return rows
    groups = rows.reshape(*rows.shape[:-1], -1, 4)
    order = np.abs(groups).argsort(axis=-1).argsort(axis=-1)
    return (groups * (order >= 2)).reshape(rows.shape)


def zero_blocks(rows):
    groups = rows.reshape(*rows.shape[:-1], -1, 4)
    return (groups * (RANDOM.random((*groups.shape[:-1], 1)) < 0.5)).reshape(rows.shape)


def share_values(rows):
    centres = np.quantile(rows, np.linspace(0.05, 0.95, 8))
    return centres[np.abs(rows[..., None] - centres).argmin(axis=-1)].astype(np.float32)


HOW = {"zeros": prune, "two_of_four": keep_two_of_four, "values": share_values}
EXPECTED = {"zeros": 0.59, "two_of_four": 0.0, "values": 8}


@pytest.fixture(
    scope="module", params=[(build_image_network, IMAGE), (build_text_network, TOKENS)], ids=["image", "text"]
)
def network(request):
    keras.utils.set_random_seed(0)
    build, spec = request.param
    return build(), Signature((spec,), (OUTPUT,))


def export(model, signature, path, storage):
    (spec,) = signature.inputs
    shape = (16, *spec.shape)
    if spec.vocabulary:
        inputs = RANDOM.integers(0, spec.vocabulary, shape).astype(np.int32)
    else:
        inputs = RANDOM.normal(size=shape).astype(np.float32)
    calibration = {spec.name: inputs} if storage.is_calibrated else None
    write_litert(model, signature, path, storage=storage, calibration=calibration)
    return path


@pytest.fixture(scope="module")
def plain(network, tmp_path_factory):
    """The file of a network with no pattern in it."""
    return export(*network, tmp_path_factory.mktemp("plain") / "model.tflite", Storage("int8"))


@pytest.mark.parametrize("kind", HOW)
def test_what_was_reached_is_found_in_every_file_and_in_no_other(network, plain, kind, tmp_path):
    model, signature = network
    before = model.get_weights()
    names = change(model, HOW[kind])
    patterns = [Pattern(kind, name, EXPECTED[kind]) for name in names if has_pattern(model, name, kind)]
    assert len(patterns) >= (2 if kind == "two_of_four" else 3)
    try:
        for storage in STORAGES if kind == "values" else STORAGES[::2]:
            path = export(model, signature, tmp_path / "model.tflite", storage)
            check_patterns(path, patterns, model)
        for pattern in patterns:
            with pytest.raises(ProofError, match=f"'{pattern.layer}' should have|not to be found"):
                check_patterns(plain, [pattern], model)
    finally:
        model.set_weights(before)


def has_pattern(model, name, kind):
    kernels = find_kernels(model.get_layer(name))
    return kind != "two_of_four" or any(kernel.has_groups() for kernel in kernels)


def test_blocks_are_counted_along_the_inputs(tmp_path):
    inputs = keras.Input((8,), name="x")
    model = keras.Model(inputs, keras.layers.Dense(3, name="scores")(inputs), name="net")
    signature = Signature((TensorSpec("x", "float32", (8,)),), (OUTPUT,))
    rows = RANDOM.uniform(1, 2, (3, 8))
    rows[0, :4] = rows[2, 4:] = 0
    rows[1, ::2] = 0  # as many zeros as a block, and none
    model.layers[1].kernel.assign(rows.T)
    path = export(model, signature, tmp_path / "model.tflite", Storage("int8"))
    (count,) = count_patterns(path).values()
    assert (count.zeros, count.block_zeros, count.shape) == (0.5, pytest.approx(1 / 3), (3, 8))
    check_patterns(path, [Pattern("blocks", "scores", 1 / 3), Pattern("zeros", "scores", 0.5)], model)
    with pytest.raises(ProofError, match=r"'scores' should have 50.0% zeros in runs of four and has 33.3%"):
        check_patterns(path, [Pattern("blocks", "scores", 0.5)], model)


@pytest.mark.parametrize("network", [(build_image_network, IMAGE)], ids=["image"], indirect=True)
def test_values_of_a_folded_norm_are_counted_by_channel(network, tmp_path):
    model, signature = network
    before = model.get_weights()
    change(model, share_values)
    path = export(model, signature, tmp_path / "model.tflite", Storage())
    folded = next(count for name, count in count_patterns(path).items() if "conv/Conv2D" in name)
    assert folded.values_per_channel <= 8 < folded.values
    check_patterns(path, [Pattern("values", "conv", 8)], model)
    model.set_weights(before)


def test_a_tail_that_is_no_group_counts_for_itself():
    count = count_kernel(np.array([[1, 2, 0, 0, 5, 0], [0, 0, 0, 0, 0, 0]], np.float32))
    assert count.two_of_four and count.block_zeros == 0.5 and count.values == 4 and count.values_per_channel == 4
    assert not count_kernel(np.array([[1, 2, 3, 0]], np.int8)).two_of_four


def test_a_kernel_that_is_not_in_the_file_is_no_pass(network, tmp_path):
    model, signature = network
    path = export(model, signature, tmp_path / "model.tflite", Storage())
    before = model.get_weights()
    model.set_weights([RANDOM.normal(size=weight.shape) for weight in before])
    try:
        with pytest.raises(ProofError, match="of layer 'scores' is not to be found in the exported file"):
            check_patterns(path, [Pattern("zeros", "scores", 0.0)], model)
    finally:
        model.set_weights(before)
    with pytest.raises(ProofError, match=r"has no layer 'score' with a kernel .* Did you mean 'scores'"):
        check_patterns(path, [Pattern("zeros", "score", 0.0)], model)


@pytest.mark.parametrize("spoils", [False, True])
def test_training_with_rounding_is_looked_through(spoils, tmp_path):
    import tensorflow_model_optimization as tfmot

    inputs = keras.Input((8, 8, 1), name="image")
    x = keras.layers.Dense(16, activation="relu", name="hidden")(keras.layers.Flatten()(inputs))
    model = keras.Model(inputs, keras.layers.Dense(3, activation="softmax", name="scores")(x))
    change(model, prune)
    scheme = tfmot.experimental.combine.Default8BitPrunePreserveQuantizeScheme()
    annotated = tfmot.quantization.keras.quantize_annotate_model(model)
    trained = tfmot.quantization.keras.quantize_apply(annotated, *([] if spoils else [scheme]))
    trained.compile(keras.optimizers.SGD(0.5), "sparse_categorical_crossentropy")
    trained.fit(RANDOM.normal(size=(64, 8, 8, 1)), np.arange(64) % 3, epochs=2, verbose=0)
    signature = Signature((TensorSpec("image", "float32", (8, 8, 1)),), (OUTPUT,))
    path = export(trained, signature, tmp_path / "trained.tflite", Storage("int8", is_trained=True))
    patterns = [Pattern("zeros", "hidden", 0.6), Pattern("zeros", "scores", 0.59)]
    if spoils:
        with pytest.raises(ProofError, match=r"layer 'hidden' should have 60.0% zeros and has .*: a later step has"):
            check_patterns(path, patterns, trained)
    else:
        check_patterns(path, patterns, trained)
