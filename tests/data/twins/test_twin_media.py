"""Image and sound files: odd ones, and those that no side takes."""

import io

import numpy as np
import pytest
import soundfile
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow
from transform_cases import CASES, make_image, make_wav, to_column
from twin_tools import Twin, assert_equal

from bmp.data.twins.audio import resample as resample_by_tensorflow
from bmp.data.twins.image import resize as resize_by_tensorflow
from bmp.errors import DataError
from bmp.transforms.resample import resample
from bmp.transforms.resize import resize

RANDOM = np.random.default_rng(0)
PHOTO = CASES["image"]["colour"].fit()
SOUND = CASES["log_mel"]["resampled"].fit()


@pytest.fixture(scope="module")
def photo_twin():
    return Twin(PHOTO)


@pytest.fixture(scope="module")
def sound_twin():
    return Twin(SOUND)


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (2, 3), (12, 9), (11, 10), (1000, 700)])
@pytest.mark.parametrize("form", ["PNG", "JPEG"])
def test_images_of_any_size_agree(photo_twin, size, form):
    file = io.BytesIO()
    Pillow.fromarray(RANDOM.integers(0, 256, (*size, 3)).astype(np.uint8)).save(file, form)
    columns = {"photo": to_column([file.getvalue()])}
    assert_equal(PHOTO.run(columns), photo_twin.run(columns), 1e-5)


def save(image, form, **options):
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


GRADIENT = Pillow.fromarray(np.arange(40 * 30 * 3).reshape(40, 30, 3).astype(np.uint8))
BROKEN_IMAGES = {
    "nothing": b"",
    "short": b"\xff",
    "text": b"no image at all",
    "gif": save(GRADIENT, "GIF"),
    "bmp": save(GRADIENT, "BMP"),
    "cmyk": save(GRADIENT.convert("CMYK"), "JPEG"),
    "half a JPEG": save(GRADIENT, "JPEG")[:800],
    "half a PNG": save(GRADIENT, "PNG")[:100],
    "a PNG without its end": save(GRADIENT, "PNG")[:-12],
}


@pytest.mark.parametrize("name", BROKEN_IMAGES)
def test_both_sides_refuse_the_same_images(photo_twin, name):
    columns = {"photo": to_column([make_image(RANDOM), BROKEN_IMAGES[name]])}
    with pytest.raises(DataError, match="'photo' of example 1"):
        PHOTO.run(columns)
    with pytest.raises(tf.errors.InvalidArgumentError):
        photo_twin.run(columns)


@settings(max_examples=25, deadline=None)
@given(form=st.sampled_from(["JPEG", "PNG"]), position=st.floats(0, 0.999), change=st.integers(1, 255))
def test_a_damaged_image_that_serving_takes_gives_the_same_in_training(photo_twin, form, position, change):
    data = bytearray(save(GRADIENT, form))
    data[int(len(data) * position)] ^= change
    columns = {"photo": to_column([bytes(data)])}
    try:
        served = PHOTO.run(columns)
    except DataError:
        return
    assert_equal(served, photo_twin.run(columns), 1e-5)


SIZES = st.integers(1, 90)


@pytest.fixture(scope="module")
def resize_in_a_graph():
    @tf.function(input_signature=[tf.TensorSpec((None, None, 2)), tf.TensorSpec((), tf.int32)], autograph=False)
    def run(image, which):
        targets = [(1, 1), (7, 30), (64, 5)]
        return tf.switch_case(which, [lambda to=to: resize_by_tensorflow(image, *to) for to in targets])

    return run


@settings(max_examples=50, deadline=None)
@given(height=SIZES, width=SIZES, which=st.integers(0, 2), seed=st.integers(0, 99))
def test_resizing_agrees_to_a_millionth(resize_in_a_graph, height, width, which, seed):
    image = np.random.default_rng(seed).random((height, width, 2), np.float32)
    served = resize(image, *[(1, 1), (7, 30), (64, 5)][which])
    np.testing.assert_allclose(resize_in_a_graph(image, which).numpy(), served, rtol=0, atol=1e-6)


@pytest.fixture(scope="module")
def resample_in_a_graph():
    signature = [tf.TensorSpec((None,), tf.float64), tf.TensorSpec((), tf.int64)]
    return tf.function(
        lambda samples, rate: resample_by_tensorflow(samples, rate, 8000, 10_000),
        input_signature=signature,
        autograph=False,
    )


@settings(max_examples=12, deadline=None)
@given(rate=st.sampled_from([1000, 4000, 7999, 8000, 11_025, 44_100, 44_101, 192_000]), count=st.integers(1, 9000))
def test_resampling_agrees(resample_in_a_graph, rate, count):
    samples = np.random.default_rng(count).normal(size=count)
    served = resample(samples, rate, 8000, 10_000)
    np.testing.assert_allclose(resample_in_a_graph(samples, rate).numpy(), served, rtol=0, atol=1e-12)


@pytest.mark.parametrize("rate", [1000, 8000, 44_100, 96_000, 192_000])
@pytest.mark.parametrize("samples", [1, 2, 1599, 1600, 1601, 50_000])
def test_sounds_of_any_rate_and_length_agree(sound_twin, rate, samples):
    columns = {"sound": to_column([make_wav(RANDOM, rate=rate, samples=samples)])}
    assert_equal(SOUND.run(columns), sound_twin.run(columns), 1e-5)


def make_flac() -> bytes:
    file = io.BytesIO()
    soundfile.write(file, np.zeros(100), 8000, format="FLAC")
    return file.getvalue()


def make_float_wav(value) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, np.array([0.0, value]), 8000, format="WAV", subtype="FLOAT")
    return file.getvalue()


BROKEN_SOUNDS = {
    "nothing": b"",
    "text": b"no sound at all, but long enough",
    "flac": make_flac(),
    "header alone": make_wav(RANDOM, rate=8000, samples=100)[:20],
    "empty": make_wav(RANDOM, rate=8000, samples=0),
    "slow": make_wav(RANDOM, rate=999, samples=10),
    "nan": make_float_wav(np.nan),
    "infinite": make_float_wav(np.inf),
}


@pytest.mark.parametrize("name", BROKEN_SOUNDS)
def test_both_sides_refuse_the_same_sounds(sound_twin, name):
    columns = {"sound": to_column([make_wav(RANDOM), BROKEN_SOUNDS[name]])}
    with pytest.raises(DataError, match="'sound' of example 1"):
        SOUND.run(columns)
    with pytest.raises(tf.errors.OpError, match="DataError"):
        sound_twin.run(columns)


def test_mel_bands_are_those_of_tensorflow():
    step = SOUND.steps[0]
    theirs = tf.signal.linear_to_mel_weight_matrix(
        step.bands, step.fft_size // 2 + 1, step.sample_rate, step.low_hz, step.sample_rate / 2, tf.float64
    )
    np.testing.assert_allclose(step.mel_weights, theirs, rtol=0, atol=1e-9)
