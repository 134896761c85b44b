"""Images and sounds, against what is known of them from elsewhere."""

import io
import struct
import zlib
from contextlib import suppress

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow
from transform_cases import make_orientation, make_wav, to_column

from bmp.errors import DataError
from bmp.transforms import Field, Preprocessing, build_steps
from bmp.transforms import image as image_step
from bmp.transforms.audio import decode_wav
from bmp.transforms.image import decode_image
from bmp.transforms.resample import resample
from bmp.transforms.resize import resize

RANDOM = np.random.default_rng(0)
PIXELS = RANDOM.integers(0, 256, (20, 30, 3)).astype(np.uint8)


def save(image, form="PNG", **options):
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


@settings(max_examples=30, deadline=None)
@given(height=st.integers(1, 80), width=st.integers(1, 80), to=st.tuples(st.integers(1, 60), st.integers(1, 60)))
def test_resizing_is_pillows_of_floats(height, width, to):
    image = RANDOM.random((height, width), np.float32)
    theirs = np.asarray(Pillow.fromarray(image).resize((to[1], to[0]), Pillow.Resampling.BILINEAR))
    np.testing.assert_allclose(resize(image[..., None], *to)[..., 0], theirs, rtol=0, atol=2e-6)


def test_the_right_size_stays_as_it_is():
    np.testing.assert_array_equal(resize(PIXELS, 20, 30), PIXELS.astype(np.float32))


def test_pixels_are_scaled_and_normalised():
    fields = (Field("x", "image"),)
    step = {"kind": "image", "field": "x", "height": 20, "width": 30, "mean": [0.1, 0.2, 0.3], "std": [0.5]}
    out = Preprocessing(fields, build_steps([step], fields)).run({"x": to_column([save(Pillow.fromarray(PIXELS))])})
    np.testing.assert_allclose(out["x"][0], (PIXELS / 255 - [0.1, 0.2, 0.3]) / 0.5, atol=1e-6)


def test_grey_is_bt_601():
    fields = (Field("x", "image"),)
    step = {"kind": "image", "field": "x", "height": 20, "width": 30, "channels": 1, "scale": 1.0}
    out = Preprocessing(fields, build_steps([step], fields)).run({"x": to_column([save(Pillow.fromarray(PIXELS))])})
    theirs = np.asarray(Pillow.fromarray(PIXELS).convert("L"))
    assert np.abs(out["x"][0, ..., 0] - theirs).max() < 1


def test_transparency_palettes_and_sixteen_bits():
    colours = Pillow.fromarray(PIXELS)
    transparent = colours.copy()
    transparent.putalpha(Pillow.fromarray(RANDOM.integers(0, 256, (20, 30)).astype(np.uint8)))
    np.testing.assert_array_equal(decode_image(save(transparent)), PIXELS)
    palette = colours.quantize(16)
    np.testing.assert_array_equal(decode_image(save(palette)), np.asarray(palette.convert("RGB")))
    deep = RANDOM.integers(0, 2**16, (20, 30)).astype(np.uint16)
    np.testing.assert_array_equal(decode_image(save(Pillow.fromarray(deep)))[..., 1], deep >> 8)


def test_orientation_is_ignored():
    plain = decode_image(save(Pillow.fromarray(PIXELS), "JPEG"))
    turned = decode_image(save(Pillow.fromarray(PIXELS), "JPEG", exif=make_orientation(6)))
    np.testing.assert_array_equal(turned, plain)


def test_an_image_that_claims_too_much_is_refused_before_it_is_decoded():
    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    bomb = (
        image_step.PNG_START + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )
    with pytest.raises(DataError, match=r"100000 x 100000 pixels; expected at most 100,000,000"):
        decode_image(bomb)


@settings(max_examples=50, deadline=None)
@given(start=st.sampled_from([image_step.PNG_START, image_step.JPEG_START, b""]), data=st.binary(max_size=200))
def test_whatever_comes_is_an_image_or_refused(start, data):
    with pytest.raises(DataError):
        decode_image(start + data)


@settings(max_examples=50, deadline=None)
@given(position=st.floats(0, 0.999), value=st.integers(1, 255), form=st.sampled_from(["PNG", "JPEG"]))
def test_a_damaged_image_is_decoded_or_refused(position, value, form):
    data = bytearray(save(Pillow.fromarray(PIXELS), form))
    data[int(position * len(data))] ^= value
    with suppress(DataError):  # no other error
        assert decode_image(bytes(data)).dtype == np.uint8


@settings(max_examples=50, deadline=None)
@given(data=st.binary(max_size=100))
def test_whatever_comes_is_a_sound_or_refused(data):
    with pytest.raises(DataError):
        decode_wav(b"RIFF\x00\x00\x00\x00WAVE" + data)


@pytest.mark.parametrize(
    ("subtype", "step"),
    [("PCM_U8", 2**-7), ("PCM_16", 2**-15), ("PCM_24", 2**-23), ("PCM_32", 2**-31), ("FLOAT", 1e-7)],
)
def test_channels_are_mixed_and_every_width_is_read(subtype, step):
    sound = RANDOM.uniform(-0.9, 0.9, (50, 2))
    file = io.BytesIO()
    soundfile.write(file, sound, 8000, format="WAV", subtype=subtype)
    samples, rate = decode_wav(file.getvalue())
    assert rate == 8000
    np.testing.assert_allclose(samples, sound.mean(axis=1), atol=1.01 * step)


@pytest.mark.parametrize("rate", [8000, 11_025, 22_050, 44_100, 44_101, 48_000, 96_000])
def test_a_tone_is_the_same_tone_at_another_rate(rate):
    tone = np.sin(2 * np.pi * 440 * np.arange(rate) / rate)
    out = resample(tone, rate, 16_000, 16_000)
    expected = np.sin(2 * np.pi * 440 * np.arange(16_000) / 16_000)
    np.testing.assert_allclose(out[500:-500], expected[500:-500], atol=2e-3)


def test_what_the_lower_rate_cannot_hold_is_filtered_out():
    tone = np.sin(2 * np.pi * 6000 * np.arange(16_000) / 16_000)
    assert np.abs(resample(tone, 16_000, 8000, 8000)[200:-200]).max() < 1e-2


def test_a_tone_is_loudest_in_its_band_and_length_does_not_matter():
    fields = (Field("x", "audio"),)
    fitted = Preprocessing(fields, build_steps([{"kind": "log_mel", "field": "x"}], fields))
    (step,) = fitted.steps
    file = io.BytesIO()
    soundfile.write(file, 0.5 * np.sin(2 * np.pi * 1000 * np.arange(8000) / 16_000), 16_000, format="WAV")
    (out,) = fitted.run({"x": to_column([file.getvalue()])})["x"]
    assert out.shape == (98, 40)
    loudest = out[:40].argmax(axis=1)
    assert (loudest == loudest[0]).all()
    frequencies = np.arange(step.fft_size // 2 + 1) * 16_000 / step.fft_size
    assert abs(frequencies[step.mel_weights[:, loudest[0]].argmax()] - 1000) < 100
    np.testing.assert_allclose(out[60:], np.log(1e-6), atol=1e-4)  # the sound has ended


def test_only_as_much_of_a_long_file_is_read_as_is_needed():
    samples, _ = decode_wav(make_wav(RANDOM, rate=8000, samples=5000), lambda rate: rate // 10)
    assert len(samples) == 800
