"""Messages of gRPC, good ones and spoiled ones, and bytes that are no gRPC at all."""

import queue
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import grpc
import numpy as np

from serving.grpc.messages import message_type

_TFS, _V2 = "tensorflow.serving", "inference"
_FLAGS = np.array([[0.5, -1, 2.25], [1, 2, 3]], "<f4")
_AT_ONCE = 16
_PATIENCE_S = 20.0
_ODD_SIZES = (0, -1, -2, 7, 10**9, 2**40, 2**62, 2**63 - 1, -(2**63))
_ODD_TYPES = (0, 2, 7, 8, 9, 14, 19, 20, 21, 22, 100, 101, 999)
BUGS = (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.DATA_LOSS)
"""Codes that say that the server has failed, and not the client."""


@dataclass(frozen=True)
class Message:
    """A call.

    Args:
        method: Its path.
        data: The message in bytes.
        is_good: Whether it has to be answered.
    """

    method: str
    data: bytes
    is_good: bool = False


def list_messages() -> list[Message]:
    """Returns a good one for every method."""
    found = [(f"{_TFS}.PredictionService/Predict", _predict())]
    found += [(f"{_TFS}.PredictionService/{verb}", _examples(kind)) for verb, kind in _VERBS.items()]
    found.append((f"{_TFS}.PredictionService/GetModelMetadata", _spec("GetModelMetadataRequest")))
    found.append((f"{_TFS}.ModelService/GetModelStatus", _spec("GetModelStatusRequest")))
    service = f"{_V2}.GRPCInferenceService"
    found += [(f"{service}/ModelInfer", _infer(raw)) for raw in (True, False)]
    for name in ("ServerLive", "ServerReady", "ServerMetadata", "RepositoryIndex"):
        found.append((f"{service}/{name}", message_type(f"{_V2}.{name}Request")()))
    for name in ("ModelReady", "ModelMetadata", "ModelStatistics"):
        found.append((f"{service}/{name}", message_type(f"{_V2}.{name}Request")(name="flags")))
    return [Message(f"/{method}", message.SerializeToString(), is_good=True) for method, message in found]


_VERBS = {"Classify": "ClassificationRequest", "Regress": "RegressionRequest"}


def _spec(kind: str) -> object:
    request = message_type(f"{_TFS}.{kind}")()
    request.model_spec.name = "flags"
    if kind == "GetModelMetadataRequest":
        request.metadata_field.append("signature_def")
    return request


def _predict() -> object:
    request = message_type(f"{_TFS}.PredictRequest")()
    request.model_spec.name = "flags"
    tensor = request.inputs["x"]
    tensor.dtype = 1
    for size in _FLAGS.shape:
        tensor.tensor_shape.dim.add(size=size)
    tensor.tensor_content = _FLAGS.tobytes()
    return request


def _examples(kind: str) -> object:
    request = message_type(f"{_TFS}.{kind}")()
    is_class = kind.startswith("Class")
    request.model_spec.name = "flags" if is_class else "prices"
    example = request.input.example_list.examples.add()
    example.features.feature["x" if is_class else "grid"].float_list.value.extend(
        [1, 2, 3] if is_class else [1, 2, 3, 4]
    )
    return request


def _infer(raw: bool) -> object:
    request = message_type(f"{_V2}.ModelInferRequest")(model_name="flags")
    tensor = request.inputs.add(name="x", datatype="FP32", shape=_FLAGS.shape)
    if raw:
        request.raw_input_contents.append(_FLAGS.tobytes())
    else:
        tensor.contents.fp32_contents.extend(_FLAGS.ravel().tolist())
    return request


# === Spoiling ===


def spoil(message: Message, rng: random.Random) -> Message:
    """Spoils a message in its fields or in its bytes."""
    way = rng.random()
    if way < 0.04:
        return Message(message.method + rng.choice(("x", "/", "/Predict", "é")), message.data)
    if way < 0.3 and message.method.endswith("Predict"):
        return Message(message.method, _spoil_predict(message.data, rng))
    if way < 0.3 and message.method.endswith("ModelInfer"):
        return Message(message.method, _spoil_infer(message.data, rng))
    data = bytearray(message.data or b"\x0a\x05flags")
    for _ in range(rng.choice((1, 1, 2, 5))):
        data = _spoil_bytes(data, rng)
    return Message(message.method, bytes(data))


def _spoil_predict(data: bytes, rng: random.Random) -> bytes:
    request = message_type(f"{_TFS}.PredictRequest").FromString(data)
    tensor = request.inputs[rng.choice(("x", "x", "y"))]
    way = rng.randrange(5)
    if way == 0 and tensor.tensor_shape.dim:
        rng.choice(tensor.tensor_shape.dim).size = rng.choice(_ODD_SIZES)
    elif way == 1:
        tensor.dtype = rng.choice(_ODD_TYPES)
    elif way == 2:
        tensor.tensor_content = rng.choice((b"", b"\x00" * 7, tensor.tensor_content * 50, b"\xff" * 24))
    elif way == 3:
        tensor.float_val.extend([rng.choice((0.0, float("nan"), float("inf")))] * rng.choice((1, 5, 6)))
    else:
        request.model_spec.version.value = rng.choice((-1, 0, 99, 2**62))
        request.model_spec.signature_name = rng.choice(("", "x", "é" * 100))
    return request.SerializeToString()


def _spoil_infer(data: bytes, rng: random.Random) -> bytes:
    request = message_type(f"{_V2}.ModelInferRequest").FromString(data)
    way = rng.randrange(5)
    if way == 0:
        request.inputs[0].shape[rng.randrange(2)] = rng.choice(_ODD_SIZES)
    elif way == 1:
        request.inputs[0].datatype = rng.choice(("BYTES", "FP64", "BOOL", "", "é"))
    elif way == 2:
        request.raw_input_contents.append(rng.choice((b"", b"\x00" * 24, b"\xff" * 24)))
    elif way == 3:
        request.model_version = rng.choice(("0", "99", "-1", "canary", "x" * 500))
    else:
        request.inputs.append(request.inputs[0])
    return request.SerializeToString()


def _spoil_bytes(data: bytearray, rng: random.Random) -> bytearray:
    start = rng.randrange(len(data) + 1)
    end = min(len(data), start + rng.choice((1, 2, 8, 40)))
    way = rng.randrange(4)
    if way == 0:
        data[start:end] = b""
    elif way == 1:
        data[start:start] = data[start:end] * rng.choice((1, 3, 100))
    elif way == 2:
        data[start:end] = rng.randbytes(end - start)
    else:
        data[start:] = b""
    return data


# === Calling ===

Told = Callable[[Message, grpc.StatusCode], None]


def call_all(target: str, messages: Iterable[Message], tell: Told) -> None:
    """Calls, some at the same time, and tells the code of each."""
    done: queue.SimpleQueue[tuple[Message, grpc.StatusCode]] = queue.SimpleQueue()
    under_way = 0
    with grpc.insecure_channel(target) as channel:
        for message in messages:
            call = channel.unary_unary(message.method).future(message.data, timeout=_PATIENCE_S, wait_for_ready=True)
            call.add_done_callback(lambda ended, message=message: done.put((message, ended.code())))
            under_way += 1
            if under_way >= _AT_ONCE:
                tell(*done.get())
                under_way -= 1
        for _ in range(under_way):
            tell(*done.get())
