"""Image files: decoded, resized, normalised. Pillow and numpy; nothing of the file but its pixels counts."""

import io
import struct
import zlib
from collections.abc import Callable
from functools import partial
from typing import Literal, Self

import numpy as np
from pydantic import PositiveFloat, PositiveInt, model_validator

from bmp.errors import DataError
from bmp.transforms.base import Columns, Field, Fields, Numbers, Step, stack_examples
from bmp.transforms.resize import resize

MAX_PIXELS = 100_000_000
"""Of an image before resizing; 300 MB in memory. What claims more is refused before it is decoded."""

PNG_START = b"\x89PNG\r\n\x1a\n"
JPEG_START = b"\xff\xd8\xff"

GREY = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in a grey pixel, ITU-R BT.601."""


class Image(Step):
    """A PNG or JPEG file becomes float32 `(height, width, channels)`: `(pixel * scale - mean) / std`.

    Pixels are 0 to 255; of 16 bits the upper 8 count, palettes are looked up, transparency and EXIF orientation are
    ignored, and a picture of another form is stretched. Grey becomes three equal channels, or colours one grey one.
    """

    kind: Literal["image"] = "image"
    field: str
    """An image."""
    height: PositiveInt
    width: PositiveInt
    channels: Literal[1, 3] = 3
    """1 is grey, 3 is red, green, blue."""
    scale: PositiveFloat = 1 / 255
    """What pixels are multiplied by first."""
    mean: Numbers = (0.0,)
    """Subtracted then; one number, or one for each channel."""
    std: Numbers = (1.0,)
    """Divided by at last; likewise."""

    @model_validator(mode="after")
    def _fits_channels(self) -> Self:
        for name, numbers in (("mean", self.mean), ("std", self.std)):
            if len(numbers) not in (1, self.channels):
                raise ValueError(f"{name} has {len(numbers)} numbers; expected 1, or one for each of the channels")
        if min(self.std) <= 0:
            raise ValueError("std must be greater than 0")
        return self

    def plan(self, fields: Fields) -> Fields:
        """The image becomes a tensor."""
        self.find(fields, self.field, "image")
        return fields | {self.field: Field(self.field, "tensor", "float32", (self.height, self.width, self.channels))}

    def run(self, columns: Columns) -> Columns:
        """Files `(N,)` in, float32 `(N, height, width, channels)` out.

        Raises:
            DataError: One is no PNG or JPEG file, is damaged, too large, or CMYK.
        """
        pixels = stack_examples(self.field, columns[self.field], self._run_file)
        scale, mean, std = self.constants
        return columns | {self.field: (pixels * scale - mean) / std}

    @property
    def constants(self) -> tuple[np.float32, np.ndarray, np.ndarray]:
        """Scale, mean and std, float32, as they are computed with."""
        return np.float32(self.scale), np.array(self.mean, np.float32), np.array(self.std, np.float32)

    def _run_file(self, data: bytes) -> np.ndarray:
        image = decode_image(data)
        if self.channels == 1:
            image = image.astype(np.float32) @ np.array(GREY, np.float32)[:, None]
        return resize(image, self.height, self.width)


def decode_image(data: bytes) -> np.ndarray:
    """Decodes a PNG or JPEG file to its pixels.

    Returns:
        uint8 `(H, W, 3)`: red, green, blue.

    Raises:
        DataError: It is neither, is damaged, has more than MAX_PIXELS pixels, or is CMYK.
    """
    try:
        with _find_opener(data)() as image:
            _check_header(image.size, image.mode)
            if image.mode.startswith("I"):  # 16 bits of grey
                return np.repeat((np.asarray(image) >> 8).astype(np.uint8)[..., None], 3, axis=2)
            image.info.pop("transparency", None)  # Pillow would warn that RGB cannot hold it
            return np.asarray(image.convert("RGB"))
    except struct.error as error:
        raise DataError("the image file is cut short.") from error
    # Pillow has no error of its own for files that are damaged: what its parsers meet is what they raise.
    except (OSError, SyntaxError, ValueError, LookupError, EOFError, TypeError, zlib.error) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"the image file is damaged ({error}).") from error


def _find_opener(data: bytes) -> Callable:
    # By format and not PIL.Image.open: that tries every format it knows, and warns of large files by itself.
    from PIL.JpegImagePlugin import JpegImageFile
    from PIL.PngImagePlugin import PngImageFile

    if data.startswith(JPEG_START):
        return partial(JpegImageFile, io.BytesIO(data))
    if not data.startswith(PNG_START):
        start = data[:8].hex(" ")
        raise DataError(
            f"expected a PNG or JPEG file, but it starts with {start or 'nothing'}.",
            expected="a PNG or JPEG file",
            received=f"bytes that start with {start}" if start else "no bytes",
        )
    _check_png(memoryview(data))
    return partial(PngImageFile, io.BytesIO(data))


def _check_png(data: memoryview) -> None:
    """Checks every chunk up to the last: Pillow takes files that libpng, and so training, refuses."""
    position, name = len(PNG_START), b""
    while name != b"IEND":
        (size,) = struct.unpack_from(">I", data, position)
        name, end = bytes(data[position + 4 : position + 8]), position + 8 + size
        if struct.unpack_from(">I", data, end) != (zlib.crc32(data[position + 4 : end]),):
            raise DataError("the PNG file is damaged: a checksum in it is wrong.")
        position = end + 4


def _check_header(size: tuple[int, int], mode: str) -> None:
    width, height = size
    if width * height > MAX_PIXELS:
        raise DataError(
            f"the image has {width} x {height} pixels; expected at most {MAX_PIXELS:,} in all.",
            expected=f"at most {MAX_PIXELS:,} pixels",
            received=f"{width} x {height}",
        )
    if mode == "CMYK":
        raise DataError(
            "the JPEG file has printing colours (CMYK), which mean nothing without a colour profile; save it as RGB.",
            expected="grey or RGB",
            received="CMYK",
        )
