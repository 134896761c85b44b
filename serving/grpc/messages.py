"""The messages of the gRPC doors, made from `protos/descriptors.binpb`.

They live in a pool of their own: a process may hold TensorFlow's own classes of the same names as well, which one pool
would not.
"""

from functools import cache
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from bmp.errors import RequestError

_DESCRIPTORS_FILE = Path(__file__).parent / "protos" / "descriptors.binpb"


@cache
def load_pool() -> Any:
    """Returns the descriptor pool of all messages and services."""
    pool = descriptor_pool.DescriptorPool()
    for file in descriptor_pb2.FileDescriptorSet.FromString(_DESCRIPTORS_FILE.read_bytes()).file:
        pool.Add(file)
    return pool


@cache
def message_type(name: str) -> Any:
    """Returns the class of a message, such as `tensorflow.serving.PredictRequest`."""
    return message_factory.GetMessageClass(load_pool().FindMessageTypeByName(name))


def parse(kind: Any, data: bytes) -> Any:
    """Reads a message.

    Args:
        kind: Its class.
        data: As it came.

    Raises:
        RequestError: It is no such message.
    """
    try:
        return kind.FromString(data)
    except DecodeError:
        name = kind.DESCRIPTOR.full_name
        raise RequestError(
            f"The {len(data):,} bytes of the request are no message of the type {name}.",
            expected=name,
            received="other bytes",
        ) from None
