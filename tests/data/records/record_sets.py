"""Examples for the tests of records."""

import io

import numpy as np
from PIL import Image

from bmp.data.source import Target
from bmp.data.sources.memory import ArraySource
from bmp.transforms import Field

KEY = bytes(range(32))


def make_png(shade: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (3, 2), shade % 256).save(buffer, "PNG")
    return buffer.getvalue()


def as_objects(values) -> np.ndarray:
    column = np.empty(len(values), object)
    column[:] = values
    return column


def make_tensors(count: int = 20, **more) -> ArraySource:
    """Examples of one length: an image-like tensor and a class."""
    random = np.random.default_rng(0)
    columns = {"image": random.integers(0, 256, (count, 4, 3), dtype=np.uint8)}
    fields = (Field("image", "tensor", "uint8", (4, 3)),)
    return ArraySource(columns, fields, np.arange(count) % 3, Target("class", ("a", "b", "c")), **more)


def make_mixed(count: int = 20, **more) -> ArraySource:
    """Examples of every kind that needs no sound, some values missing."""
    random = np.random.default_rng(1)
    columns = {
        "age": np.where(np.arange(count) % 4 == 0, np.nan, random.normal(size=count)).astype(np.float32),
        "place": as_objects([["", "Łódź", "Oslo"][number % 3] for number in range(count)]),
        "review": as_objects([f"word {'é' * number} {number}" for number in range(count)]),
        "photo": as_objects([make_png(number) for number in range(count)]),
        "target": random.normal(size=(count, 2, 2)).astype(np.float64),
    }
    fields = (
        Field("age", "number"),
        Field("place", "category"),
        Field("review", "text"),
        Field("photo", "image"),
        Field("target", "tensor", "float64", (2, 2)),
    )
    return ArraySource(
        columns, fields, random.normal(size=(count, 2)).astype(np.float32), Target("number", width=2), **more
    )


def same(found: dict[str, np.ndarray], wanted: dict[str, np.ndarray]) -> bool:
    """Whether two batches are equal to the bit; NaN is NaN."""
    return found.keys() == wanted.keys() and all(
        found[name].dtype == wanted[name].dtype
        and found[name].shape == wanted[name].shape
        and (
            found[name].tolist() == wanted[name].tolist()
            if found[name].dtype == object
            else found[name].tobytes() == wanted[name].tobytes()
        )
        for name in wanted
    )
