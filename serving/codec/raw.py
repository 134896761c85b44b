"""Bodies that are one example themselves: a PNG or JPEG file, a WAV file, a text."""

import base64
import io
from collections.abc import Iterable

import numpy as np

from bmp.errors import RequestError
from bmp.transforms import Columns, Field
from bmp.transforms.image import JPEG_START
from serving.codec.rows import Features

JSON = "application/json"
CONTENT_TYPES = {
    "image": ("image/png", "image/jpeg"),
    "audio": ("audio/wav", "audio/x-wav", "audio/wave"),
    "text": ("text/plain",),
}
"""What a body may come as, by the kind of the feature that it is."""

_SMALLEST_PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg=="
)
_SMALLEST_WAV = base64.b64decode("UklGRiYAAABXQVZFZm10IBAAAAABAAEAgD4AAAB9AAACABAAZGF0YQIAAAAAAA==")


def content_types(features: Features | None) -> tuple[str, ...]:
    """Returns what a body may come as besides JSON, which is nothing unless the model takes one file or text alone."""
    field = features.sole if features is not None else None
    return CONTENT_TYPES.get(field.kind, ()) if field is not None else ()


def to_column(body: bytes, field: Field) -> Columns:
    """Returns a body as a batch of one example; whether an image is one is for the transforms to say.

    Raises:
        RequestError: It is empty, or should be a text and is not UTF-8.
    """
    if not body:
        raise RequestError(
            f"The body is empty; expected the {field.kind} itself.", expected=field.kind, received="an empty body"
        )
    return {field.name: _to_objects(_to_text(body) if field.kind == "text" else body)}


def make_examples(fields: Iterable[Field]) -> Columns:
    """Returns one example that any transform takes: zeros, a letter, one black pixel, one silent sample."""
    values: dict[str, str | bytes] = {"category": "a", "text": "a", "image": _SMALLEST_PNG, "audio": _SMALLEST_WAV}
    return {
        field.name: _to_objects(values[field.kind])
        if field.kind in values
        else np.zeros((1, *field.shape), field.dtype)
        for field in fields
    }


def count_pixels(data: bytes) -> int:
    """Returns how many pixels an image file says it has, decoding none; 0 where the transforms will refuse the file."""
    from PIL.JpegImagePlugin import JpegImageFile
    from PIL.PngImagePlugin import PngImageFile

    opener = JpegImageFile if data.startswith(JPEG_START) else PngImageFile
    try:
        with opener(io.BytesIO(data)) as image:
            return image.width * image.height
    except (OSError, SyntaxError, ValueError, IndexError, EOFError, KeyError, TypeError):  # as Pillow has it
        return 0


def _to_text(body: bytes) -> str:
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise RequestError(
            f"The body is not valid UTF-8: byte {error.start} is 0x{body[error.start]:02x}. Send the text as UTF-8.",
            expected="UTF-8",
            received=f"0x{body[error.start]:02x} at byte {error.start}",
        ) from None


def _to_objects(value: str | bytes) -> np.ndarray:
    column = np.empty(1, object)
    column[0] = value
    return column
