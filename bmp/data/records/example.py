"""Examples as bytes: a `tf.train.Example` of which every feature is one bytes value.

What stands in the bytes: numbers and tensors raw and little-endian, texts in UTF-8, images and audio their files.
"""

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from bmp.data.source import Target
from bmp.errors import DataError
from bmp.transforms import Columns, Field


class RecordError(ValueError):
    """A record that is not what was expected.

    Args:
        position: Of the record within its batch.
        reason: What is wrong with it.
    """

    def __init__(self, position: int, reason: str) -> None:
        super().__init__(reason)
        self.position = position
        self.reason = reason


def _define_example() -> type[Any]:
    """Builds the message from its definition, in a pool of its own: no TensorFlow, and no quarrel with it.

    Reference:
        tensorflow/core/example/feature.proto and example.proto.
    """
    proto = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="bmp/example.proto", package="bmp", syntax="proto3")

    def add(message: descriptor_pb2.DescriptorProto, name: str, number: int, kind: int, **more: Any) -> None:
        message.field.add(name=name, number=number, type=kind, **{"label": proto.LABEL_OPTIONAL, **more})

    for name, kind in (("Bytes", proto.TYPE_BYTES), ("Float", proto.TYPE_FLOAT), ("Int64", proto.TYPE_INT64)):
        add(file.message_type.add(name=f"{name}List"), "value", 1, kind, label=proto.LABEL_REPEATED)
    feature = file.message_type.add(name="Feature")
    feature.oneof_decl.add(name="kind")
    for number, name in enumerate(("Bytes", "Float", "Int64"), start=1):
        type_name = f".bmp.{name}List"
        add(feature, f"{name.lower()}_list", number, proto.TYPE_MESSAGE, type_name=type_name, oneof_index=0)
    features = file.message_type.add(name="Features")
    entry = features.nested_type.add(name="FeatureEntry", options=descriptor_pb2.MessageOptions(map_entry=True))
    add(entry, "key", 1, proto.TYPE_STRING)
    add(entry, "value", 2, proto.TYPE_MESSAGE, type_name=".bmp.Feature")
    type_name = ".bmp.Features.FeatureEntry"
    add(features, "feature", 1, proto.TYPE_MESSAGE, type_name=type_name, label=proto.LABEL_REPEATED)
    add(file.message_type.add(name="Example"), "features", 1, proto.TYPE_MESSAGE, type_name=".bmp.Features")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("bmp.Example"))


_Example = _define_example()


def describe_target(target: Target, fields: Iterable[Field]) -> Field:
    """Returns the feature that a target is stored as, under a name that no feature has."""
    name, taken = "target", {field.name for field in fields}
    while name in taken:
        name += "_"
    dtype, shape = {
        "class": ("int64", ()),
        "multilabel": ("float32", (len(target.labels),)),
        "number": ("float32", (target.width,)),
        "tokens": ("int32", (target.width,)),
    }[target.kind]
    return Field(name, "tensor", dtype, shape)


def little_endian(field: Field) -> np.dtype:
    """Returns the dtype of a number or tensor as it is stored."""
    return np.dtype("float32" if field.kind == "number" else field.dtype).newbyteorder("<")


def size_of(field: Field) -> int | None:
    """Returns how many bytes a value takes; None where each takes its own."""
    if field.kind not in ("number", "tensor"):
        return None
    return little_endian(field).itemsize * int(np.prod(field.shape, dtype=np.int64))


def encode(columns: Columns, fields: Sequence[Field]) -> list[bytes]:
    """Returns a batch as serialized examples, the same bytes for the same values on every machine.

    Raises:
        DataError: A column is not what its feature says.
    """
    values = [encode_column(columns[field.name], field) for field in fields]
    examples = []
    for row in zip(*values, strict=True):
        example = _Example()
        for field, value in zip(fields, row, strict=True):
            example.features.feature[field.name].bytes_list.value.append(value)
        examples.append(example.SerializeToString(deterministic=True))
    return examples


def encode_column(column: np.ndarray, field: Field) -> list[bytes]:
    """Returns each value of a column as bytes.

    Raises:
        DataError: The column is not what the feature says.
    """
    size = size_of(field)
    if size is None:
        return [_encode_text(value, field) if isinstance(value, str) else bytes(value) for value in column]
    if column.shape[1:] != field.shape or (field.kind == "tensor" and column.dtype != np.dtype(field.dtype)):
        raise DataError(
            f"The source gave '{field.name}' as {column.dtype} {column.shape[1:]}, but declares it as "
            f"{field.dtype} {field.shape}."
        )
    raw = np.ascontiguousarray(column, little_endian(field)).tobytes()
    return [raw[row * size : (row + 1) * size] for row in range(len(column))]


def _encode_text(text: str, field: Field) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise DataError(f"'{field.name}' holds a text that UTF-8 cannot: {text[:40]!r} ({error.reason}).") from error


def decode(examples: Sequence[bytes], fields: Sequence[Field]) -> Columns:
    """Returns serialized examples as a batch; `encode` wrote them.

    Raises:
        RecordError: One is no example of these features.
    """
    rows: list[list[bytes]] = [[] for _ in fields]
    for position, data in enumerate(examples):
        try:
            features = parse(data)
        except ValueError as error:
            raise RecordError(position, str(error)) from error
        for field, row in zip(fields, rows, strict=True):
            values: Sequence[bytes] = features[field.name].bytes_list.value  # empty where there is none
            if len(values) != 1:
                raise RecordError(position, f"'{field.name}' has {len(values)} values where one was expected")
            row.append(values[0])
    return {field.name: decode_column(row, field) for field, row in zip(fields, rows, strict=True)}


def decode_column(values: Sequence[bytes], field: Field) -> np.ndarray:
    """Returns bytes as a column `(N, …)`.

    Raises:
        RecordError: One is no value of the feature.
    """
    size = size_of(field)
    if size is None:
        column = np.empty(len(values), object)
        column[:] = [_decode_text(value, at) for at, value in enumerate(values)] if _is_text(field) else values
        return column
    for position, value in enumerate(values):
        if len(value) != size:
            raise RecordError(position, f"'{field.name}' has {len(value)} bytes where {size} were expected")
    return to_native(np.frombuffer(bytearray().join(values), np.uint8).reshape(len(values), size), field)


def to_native(raw: np.ndarray, field: Field) -> np.ndarray:
    """Returns raw bytes uint8 `(N, size)` as numbers `(N, *shape)`."""
    numbers = np.ascontiguousarray(raw).view(little_endian(field)).reshape(len(raw), *field.shape)
    return numbers if sys.byteorder == "little" else numbers.astype(numbers.dtype.newbyteorder("="))


def _is_text(field: Field) -> bool:
    return field.kind in ("category", "text")


def _decode_text(value: bytes, position: int) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise RecordError(position, f"a text is not UTF-8 ({error})") from error


def parse(data: bytes) -> Mapping[str, Any]:
    """Returns the features of one serialized example by name.

    Raises:
        ValueError: It is none.
    """
    try:
        return _Example.FromString(data).features.feature
    except DecodeError as error:
        raise ValueError("it is no tf.train.Example") from error
