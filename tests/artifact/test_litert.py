import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from ai_edge_litert.interpreter import Interpreter

from bmp.artifact.h5 import KerasRunner
from bmp.artifact.litert import LiteRTRunner, Storage, read_kernels, write_litert
from bmp.errors import ArtifactError, ExportError
from bmp.models import MODELS
from bmp.signature import Signature, TensorSpec

IMAGE, PROBABILITIES = TensorSpec("image", "float32", (8, 8)), TensorSpec("probabilities", "float32", (10,))
SIGNATURE = Signature((IMAGE,), (PROBABILITIES,))


def make_batch(size, seed=0):
    return {"image": np.random.default_rng(seed).uniform(0, 16, (size, 8, 8)).astype(np.float32)}


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    return MODELS["cnn"](SIGNATURE, filters=[8], dense=[64], scale=0.0625)


@pytest.fixture(scope="module")
def float_path(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("litert") / "float.tflite"
    write_litert(model, SIGNATURE, path)
    return path


@pytest.fixture(scope="module")
def int8_path(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("litert") / "int8.tflite"
    write_litert(model, SIGNATURE, path, storage=Storage("int8"), calibration=make_batch(32))
    return path


def test_int8_is_smaller_and_still_takes_and_returns_floats(model, float_path, int8_path):
    assert int8_path.stat().st_size < float_path.stat().st_size / 2
    outputs = LiteRTRunner(int8_path, SIGNATURE).run(make_batch(32))["probabilities"]
    assert outputs.dtype == np.float32
    expected = KerasRunner(model, SIGNATURE).run(make_batch(32))["probabilities"]
    np.testing.assert_allclose(outputs, expected, atol=0.05)


@pytest.mark.parametrize("path", ["float_path", "int8_path"])
def test_more_batch_sizes_than_it_keeps_plans_for(path, request):
    path = request.getfixturevalue(path)
    runner = LiteRTRunner(path, SIGNATURE)
    for size in [*range(1, 10), 3, 1, 9, *range(10, 0, -1)]:
        outputs = runner.run(make_batch(size, seed=size))["probabilities"]
        fresh = LiteRTRunner(path, SIGNATURE).run(make_batch(size, seed=size))["probabilities"]
        np.testing.assert_allclose(outputs, fresh, atol=1e-6)


def test_a_file_for_one_example_is_run_once_for_each(model, float_path, tmp_path):
    from tensorflow.lite.tools import flatbuffer_utils

    fixed = flatbuffer_utils.read_model(str(float_path))
    for tensor in fixed.subgraphs[0].tensors:
        tensor.shapeSignature = None  # the shape that is written is that of one example, for good
    flatbuffer_utils.write_model(fixed, str(tmp_path / "fixed.tflite"))
    runner = LiteRTRunner(tmp_path / "fixed.tflite", SIGNATURE)
    expected = LiteRTRunner(float_path, SIGNATURE)
    for size in (1, 5):
        outputs = runner.run(make_batch(size))["probabilities"]
        np.testing.assert_allclose(outputs, expected.run(make_batch(size))["probabilities"], atol=1e-6)


def test_an_answer_is_not_changed_by_a_later_run(float_path):
    runner = LiteRTRunner(float_path, SIGNATURE)
    answers = [runner.run(make_batch(4, seed))["probabilities"] for seed in range(8)]
    assert all(answer.flags.owndata and answer.flags.writeable for answer in answers)
    for seed, answer in enumerate(answers):
        np.testing.assert_array_equal(answer, runner.run(make_batch(4, seed))["probabilities"])


def test_examples_in_a_batch_do_not_touch_each_other(float_path):
    runner = LiteRTRunner(float_path, SIGNATURE)
    together = runner.run(make_batch(5))["probabilities"]
    for number in range(5):
        alone = runner.run({"image": make_batch(5)["image"][number : number + 1]})["probabilities"]
        np.testing.assert_allclose(alone[0], together[number], atol=1e-5)


def test_an_array_that_is_not_contiguous_counts_as_its_values(float_path):
    runner = LiteRTRunner(float_path, SIGNATURE)
    images = make_batch(6)["image"]
    turned = images.transpose(0, 2, 1)
    np.testing.assert_array_equal(
        runner.run({"image": turned})["probabilities"], runner.run({"image": turned.copy()})["probabilities"]
    )


def test_a_file_runs_from_its_bytes(float_path):
    outputs = [LiteRTRunner(source, SIGNATURE).run(make_batch(2)) for source in (float_path, float_path.read_bytes())]
    np.testing.assert_array_equal(outputs[0]["probabilities"], outputs[1]["probabilities"])


def test_threads_change_nothing_but_the_time(float_path):
    one, two = (LiteRTRunner(float_path, SIGNATURE, threads=threads).run(make_batch(9)) for threads in (1, 2))
    np.testing.assert_allclose(one["probabilities"], two["probabilities"], atol=1e-6)


@pytest.mark.parametrize("content", [b"", b"x", b"not a tflite file" * 100])
def test_bytes_that_are_no_model_are_refused(content):
    with pytest.raises(ArtifactError, match="Not a LiteRT model"):
        LiteRTRunner(content, SIGNATURE)


@pytest.mark.parametrize("keep", [0.1, 0.9])
def test_a_file_cut_short_is_refused(float_path, keep):
    content = float_path.read_bytes()
    with pytest.raises(ArtifactError):
        LiteRTRunner(content[: int(len(content) * keep)], SIGNATURE)


def test_a_file_without_the_signature_is_refused():
    @tf.function(input_signature=[tf.TensorSpec((None, 8, 8), tf.float32)])
    def negate(image):
        return -image

    converter = tf.lite.TFLiteConverter.from_concrete_functions([negate.get_concrete_function()])
    with pytest.raises(ArtifactError):
        LiteRTRunner(converter.convert(), SIGNATURE)


@pytest.mark.parametrize(
    "signature",
    [
        Signature((TensorSpec("picture", "float32", (8, 8)),), (PROBABILITIES,)),
        Signature((TensorSpec("image", "int64", (8, 8)),), (PROBABILITIES,)),
        Signature((TensorSpec("image", "float32", (8, 8, 1)),), (PROBABILITIES,)),
        Signature((TensorSpec("image", "float32", (8, 9)),), (PROBABILITIES,)),
        Signature((IMAGE, TensorSpec("mask", "float32", (8, 8))), (PROBABILITIES,)),
        Signature((), (PROBABILITIES,)),
        Signature((IMAGE,), (TensorSpec("scores", "float32", (10,)),)),
        Signature((IMAGE,), (TensorSpec("probabilities", "float32", (3,)),)),
        Signature((IMAGE,), ()),
    ],
    ids=["name", "dtype", "rank", "width", "extra", "none", "output-name", "output-width", "output-none"],
)
def test_a_file_of_another_signature_is_refused(float_path, signature):
    with pytest.raises(ArtifactError, match="not those of the signature") as caught:
        LiteRTRunner(float_path, signature)
    assert caught.value.expected != caught.value.received


STORAGES = [
    Storage("float16"),
    Storage("dynamic"),
    Storage("int8"),
    Storage("int8", integer_io=True),
    Storage("int8", float_layers=("probabilities",)),
    Storage("int8", integer_io=True, float_layers=("conv_1",)),
    Storage("int16x8"),
]


@pytest.fixture(scope="module", params=STORAGES, ids=lambda s: "-".join([s.kind, "io" * s.integer_io, *s.float_layers]))
def stored(model, request, tmp_path_factory):
    path = tmp_path_factory.mktemp("stored") / "model.tflite"
    calibration = make_batch(32) if request.param.is_calibrated else None
    write_litert(model, SIGNATURE, path, storage=request.param, calibration=calibration)
    return request.param, path


def test_every_storage_is_smaller_and_near_the_model_at_any_batch_size(model, float_path, stored):
    _, path = stored
    assert path.stat().st_size < 0.7 * float_path.stat().st_size
    runner = LiteRTRunner(path, SIGNATURE)
    for size in (1, 7, 32):
        expected = KerasRunner(model, SIGNATURE).run(make_batch(size))["probabilities"]
        outputs = runner.run(make_batch(size))["probabilities"]
        assert outputs.dtype == np.float32 and outputs.flags.owndata
        np.testing.assert_allclose(outputs, expected, atol=0.05)


def test_kernels_are_of_the_type_that_was_asked_for(stored):
    storage, path = stored
    dtypes = {kernel.dtype.name for kernel in read_kernels(path).values()}
    wanted = {"float16": {"float16"}, "dynamic": {"int8", "float32"}, "int8": {"int8"}, "int16x8": {"int8"}}
    assert dtypes == (wanted[storage.kind] | ({"float32"} if storage.float_layers else set()))


def test_int8_inputs_and_outputs_are_in_the_file(stored):
    storage, path = stored
    details = Interpreter(model_path=str(path)).get_signature_runner("serving_default").get_input_details()
    assert details["image"]["dtype"] is (np.int8 if storage.integer_io else np.float32)


def test_numbers_beyond_the_range_of_a_file_with_int8_inputs_count_as_its_ends(model, tmp_path):
    path = tmp_path / "int8.tflite"
    write_litert(model, SIGNATURE, path, storage=Storage("int8", integer_io=True), calibration=make_batch(32))
    runner = LiteRTRunner(path, SIGNATURE)
    far, end = (runner.run({"image": np.full((1, 8, 8), value, np.float32)})["probabilities"] for value in (1e9, 16))
    np.testing.assert_array_equal(far, end)
    for value in (np.nan, np.inf, -np.inf):
        assert np.isfinite(runner.run({"image": np.full((1, 8, 8), value, np.float32)})["probabilities"]).all()


def test_a_model_trained_with_rounding_keeps_its_ranges(model, tmp_path):
    import tensorflow_model_optimization as tfmot

    inputs = keras.Input((8, 8), name="image")
    hidden = keras.layers.Dense(32, activation="relu", name="hidden")(keras.layers.Flatten()(inputs))
    outputs = keras.layers.Dense(10, activation="softmax", name="probabilities")(hidden)
    trained = tfmot.quantization.keras.quantize_model(keras.Model(inputs, outputs))
    trained.compile("sgd", "sparse_categorical_crossentropy")
    trained.fit(make_batch(64)["image"], np.arange(64) % 10, epochs=2, verbose=0)
    expected = trained(make_batch(9)["image"]).numpy()
    for integer_io in (False, True):
        path = tmp_path / f"{integer_io}.tflite"
        write_litert(trained, SIGNATURE, path, storage=Storage("int8", integer_io=integer_io, is_trained=True))
        outputs = LiteRTRunner(path, SIGNATURE).run(make_batch(9))["probabilities"]
        np.testing.assert_allclose(outputs, expected, atol=0.02)
        assert {kernel.dtype.name for kernel in read_kernels(path).values()} == {"int8"}


def convert_function(function, tmp_path, storage, width=4):
    inputs = keras.Input((width,), name="x")
    model = keras.Model(inputs, keras.layers.Lambda(function, name="y")(inputs), name="net")
    signature = Signature((TensorSpec("x", "float32", (width,)),), (TensorSpec("y", "float32", (width,)),))
    x = {"x": np.random.default_rng(0).normal(1, 3, (50, width)).astype(np.float32)}
    write_litert(model, signature, tmp_path / "model.tflite", storage=storage, calibration=x)
    return LiteRTRunner(tmp_path / "model.tflite", signature).run(x)["y"], function(x["x"]).numpy()


def test_the_larger_of_two_is_right_in_int8(tmp_path):
    # The converter compares the int8 numbers of two tensors with different scales.
    found, expected = convert_function(lambda x: tf.maximum(tf.tanh(x), x * 0.5), tmp_path, Storage("int8"))
    np.testing.assert_allclose(found, expected, atol=0.05)


def test_what_has_no_16_bit_form_is_refused_before_the_converter_ends_the_process(tmp_path):
    with pytest.raises(ExportError, match="no sound int16x8 form of SQUARED_DIFFERENCE, which the model 'net'"):
        convert_function(lambda x: tf.math.squared_difference(x, tf.tanh(x)), tmp_path, Storage("int16x8"))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("storage", "calibrates", "message"),
    [
        (Storage("int8"), False, "The storage int8 takes ranges from examples, and none are given"),
        (Storage("int16x8"), False, "The storage int16x8 takes ranges"),
        (Storage("dynamic", integer_io=True), False, "Only int8 has integer_io and float_layers"),
        (Storage("float32", float_layers=("dense",)), False, "Only int8 has integer_io and float_layers"),
        (Storage("int8", float_layers=("dense",), is_trained=True), False, "keeps no layer float afterwards"),
        (Storage("int8", float_layers=("probabilites",)), True, "Did you mean 'probabilities'"),
        (Storage("float16"), True, "The storage float16 takes no ranges from examples"),
    ],
)
def test_a_storage_that_does_not_fit_is_refused_and_nothing_is_written(model, tmp_path, storage, calibrates, message):
    calibration = make_batch(4) if calibrates else None
    with pytest.raises(ExportError, match=message):
        write_litert(model, SIGNATURE, tmp_path / "model.tflite", storage=storage, calibration=calibration)
    assert not list(tmp_path.iterdir())


def test_reads_the_kernels_back(tmp_path):
    model = MODELS["cnn"](SIGNATURE, filters=[8], dense=[32])
    write_litert(model, SIGNATURE, tmp_path / "model.tflite")
    stored = sorted(read_kernels(tmp_path / "model.tflite").values(), key=np.size)
    kernels = sorted((weight for weight in model.get_weights() if weight.ndim > 1), key=np.size)
    for mine, theirs in zip(stored, kernels, strict=True):  # LiteRT lays them out in another order
        np.testing.assert_array_equal(np.sort(mine, axis=None), np.sort(theirs, axis=None))


def test_reads_quantized_kernels_as_they_are_stored(float_path, int8_path):
    kernels = read_kernels(int8_path).values()
    assert {kernel.dtype for kernel in kernels} == {np.dtype(np.int8)}
    assert sorted(k.size for k in kernels) == sorted(k.size for k in read_kernels(float_path).values())


def test_a_model_that_has_no_litert_form_is_refused_and_nothing_is_written(tmp_path):
    inputs = keras.Input((8, 8), name="image")
    outputs = keras.layers.Lambda(lambda x: tf.linalg.det(x)[:, None] * tf.ones((1, 10)), name="probabilities")(inputs)
    with pytest.raises(ExportError, match="LiteRT cannot convert the model 'strange'") as caught:
        write_litert(keras.Model(inputs, outputs, name="strange"), SIGNATURE, tmp_path / "strange.tflite")
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())
