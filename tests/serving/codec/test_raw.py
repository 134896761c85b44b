"""A body that is the example itself."""

import io

import numpy as np
import PIL.Image
import pytest

from bmp.errors import RequestError
from bmp.transforms import Field
from bmp.transforms.audio import decode_wav
from bmp.transforms.image import decode_image
from serving.codec.raw import content_types, count_pixels, make_examples, to_column
from serving.codec.rows import Features


@pytest.mark.parametrize(
    ("kinds", "accepted"),
    [
        (["image"], ("image/png", "image/jpeg")),
        (["audio"], ("audio/wav", "audio/x-wav", "audio/wave")),
        (["text"], ("text/plain",)),
        (["number"], ()),
        (["category"], ()),
        (["tensor"], ()),
        (["image", "number"], ()),
        (["text", "text"], ()),
    ],
)
def test_only_a_model_of_one_file_or_text_takes_bodies(kinds: list[str], accepted: tuple[str, ...]) -> None:
    fields = tuple(Field(f"x{number}", kind) for number, kind in enumerate(kinds))  # type: ignore[arg-type]
    assert content_types(Features(fields, frozenset())) == accepted


def test_a_model_of_tensors_takes_none() -> None:
    assert content_types(None) == ()


def test_the_body_is_the_example() -> None:
    column = to_column("Grüße\r\n".encode(), Field("text", "text"))["text"]
    assert column.dtype == object and column.tolist() == ["Grüße\r\n"]
    column = to_column(b"\x89PNG\0", Field("photo", "image"))["photo"]
    assert column.dtype == object and column.tolist() == [b"\x89PNG\0"]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "The body is empty; expected the text itself"),
        (b"caf\xe9", "not valid UTF-8: byte 3 is 0xe9"),
        ("é".encode("utf-16"), "not valid UTF-8: byte 0 is 0xff"),
        (b"\xed\xa0\x80", "not valid UTF-8"),  # half of a surrogate pair
        (b"\xc0\x80", "not valid UTF-8"),  # an overlong NUL
    ],
)
def test_what_is_no_text_is_refused(body: bytes, says: str) -> None:
    with pytest.raises(RequestError) as raised:
        to_column(body, Field("text", "text"))
    assert says in raised.value.message


def test_pixels_are_counted_without_decoding() -> None:
    file = io.BytesIO()
    PIL.Image.new("L", (30, 20)).save(file, "PNG")
    assert count_pixels(file.getvalue()) == count_pixels(file.getvalue()[:-20]) == 600
    file = io.BytesIO()
    PIL.Image.new("RGB", (30, 20)).save(file, "JPEG")
    assert count_pixels(file.getvalue()) == 600
    for data in (b"", b"hello", file.getvalue()[:10], b"\x89PNG\r\n\x1a\n"):
        assert count_pixels(data) == 0


def test_the_example_that_warms_a_model_up_suits_every_kind() -> None:
    fields = (
        Field("photo", "image"),
        Field("clip", "audio"),
        Field("text", "text"),
        Field("age", "number"),
        Field("sex", "category"),
        Field("pixels", "tensor", "uint8", (2, 3)),
    )
    columns = make_examples(fields)
    assert decode_image(columns["photo"][0]).tolist() == [[[0, 0, 0]]]
    assert decode_wav(columns["clip"][0])[0].tolist() == [0]
    assert columns["age"].tolist() == [0] and columns["age"].dtype == np.float32
    assert columns["pixels"].shape == (1, 2, 3) and columns["pixels"].dtype == np.uint8
