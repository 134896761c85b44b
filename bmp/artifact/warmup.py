"""Warm-up: held-out examples as requests that TensorFlow Serving runs when it has loaded a SavedModel; numpy only.

    assets.extra/tf_serving_warmup_requests    a TFRecord file; each record is a PredictionLog with one request

The messages are few and small, so they are put together here, and nobody needs the package of TensorFlow Serving's
protocol buffers.

Reference:
    tensorflow_serving/apis/prediction_log.proto, predict.proto and model.proto; tensorflow/core/framework/tensor.proto;
    protobuf.dev/programming-guides/encoding.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from bmp.artifact.saved_model import SIGNATURE_KEY
from bmp.data.records.tfrecord import frame
from bmp.errors import ExportError
from bmp.signature import Arrays

WARMUP_FILE = "assets.extra/tf_serving_warmup_requests"
MAX_RECORDS = 1000
"""TensorFlow Serving refuses to load a version with more."""

_DATA_TYPES = {  # tensorflow/core/framework/types.proto
    "float32": 1,
    "float64": 2,
    "int32": 3,
    "uint8": 4,
    "int16": 5,
    "int8": 6,
    "int64": 9,
    "bool": 10,
    "uint16": 17,
    "float16": 19,
    "uint32": 22,
    "uint64": 23,
}
_VARINT, _BYTES = 0, 2  # wire types


def write_warmup(inputs: Arrays, name: str, directory: Path) -> None:
    """Writes one request for each example, as a client asks that has one.

    Args:
        inputs: `(N, *shape)` by input name, of which the first `MAX_RECORDS` are used.
        name: Of the model.
        directory: Of the SavedModel.

    Raises:
        ExportError: An input is of a type that no request can carry.
    """
    path = directory / WARMUP_FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(frame(record) for record in _make_records(inputs, name)))


def _make_records(inputs: Arrays, name: str) -> Iterator[bytes]:
    """Yields PredictionLog{predict_log: PredictLog{request: PredictRequest}}."""
    model = _text(1, name) + _text(3, SIGNATURE_KEY)  # ModelSpec{name, signature_name}
    count = min(MAX_RECORDS, *(len(array) for array in inputs.values()))
    for row in range(count):
        request = _message(1, model)
        for key, array in inputs.items():  # map<string, TensorProto> inputs
            request += _message(2, _text(1, key) + _message(2, _to_tensor(key, array[row : row + 1])))
        yield _message(6, _message(1, request))


def _to_tensor(name: str, array: np.ndarray) -> bytes:
    """Returns TensorProto{dtype, tensor_shape, tensor_content}."""
    if array.dtype.name not in _DATA_TYPES:
        raise ExportError(
            f"Input '{name}' is {array.dtype}, which no warm-up request of TensorFlow Serving can carry here; expected "
            f"one of {', '.join(_DATA_TYPES)}.",
            expected=", ".join(_DATA_TYPES),
            received=str(array.dtype),
        )
    shape = b"".join(_message(2, _number(1, size)) for size in array.shape)  # TensorShapeProto{dim: Dim{size}}
    content = np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes()
    return _number(1, _DATA_TYPES[array.dtype.name]) + _message(2, shape) + _message(4, content)


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3 | _VARINT) + _varint(value)


def _text(field: int, text: str) -> bytes:
    return _message(field, text.encode())


def _message(field: int, content: bytes) -> bytes:
    return _varint(field << 3 | _BYTES) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    """Returns a whole number in groups of seven bits, the lowest first, each but the last marked by the eighth bit."""
    groups = bytearray()
    while value > 0x7F:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    groups.append(value)
    return bytes(groups)
