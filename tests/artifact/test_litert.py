import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from bmp.artifact.h5 import KerasRunner
from bmp.artifact.litert import LiteRTRunner, read_kernels, write_litert
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
    write_litert(model, SIGNATURE, path, calibration=make_batch(32))
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
