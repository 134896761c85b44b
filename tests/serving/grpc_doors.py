"""Questions and answers as the gRPC doors have them, for the contract that holds for every door."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import numpy as np

from serving.codec.tensors import datatype_of, to_bytes
from serving.grpc.messages import message_type
from serving.grpc.server import GrpcServer
from serving.service import Service

PREDICT = "/tensorflow.serving.PredictionService/Predict"
INFER = "/inference.GRPCInferenceService/ModelInfer"
CONTENT_TYPE = "application/grpc"
DTYPES = {"float32": 1, "int32": 3, "object": 7}
FIELDS = {"float32": "float_val", "int32": "int_val", "object": "string_val"}
CONTENTS = {"float32": "fp32_contents", "int32": "int_contents", "object": "bytes_contents"}
STATUS = {
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 413,  # a message over the limit; nothing is overloaded here
    grpc.StatusCode.INTERNAL: 500,
    grpc.StatusCode.UNAVAILABLE: 503,
}
"""What HTTP says in place of gRPC's code."""


@dataclass(frozen=True)
class GrpcReply:
    """An answer or a refusal, with what a reply of HTTP has."""

    status_code: int
    data: bytes = b""
    text: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    mimetype: str = CONTENT_TYPE


@contextmanager
def connect(service: Service, max_bytes: int) -> Iterator[grpc.Channel]:
    """A client's connection to the doors of a service, on a free port."""
    server = GrpcServer(service, "127.0.0.1:0", max_bytes)
    server.start()
    try:
        with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            yield channel
    finally:
        server.stop(0)


def send(channel: grpc.Channel, path: str, body: bytes) -> GrpcReply:
    """Puts a question in bytes."""
    try:
        data = channel.unary_unary(path)(body, timeout=20, wait_for_ready=True)
    except grpc.RpcError as error:
        retry = dict(error.trailing_metadata() or ()).get("grpc-retry-pushback-ms")
        headers = {} if retry is None else {"Retry-After": str(int(retry) // 1000)}
        return GrpcReply(STATUS[error.code()], text=error.details(), headers=headers)
    return GrpcReply(200, data, headers={"Bmp-Model": _name_model(path, data)})


def pad(body: bytes, size: int) -> bytes:
    """A message made longer by a field that nobody knows."""
    missing = size - len(body) - 5
    assert 2**14 <= missing < 2**21, "the length takes three bytes"
    return body + b"\xa2\x06" + bytes([missing & 127 | 128, missing >> 7 & 127 | 128, missing >> 14]) + b" " * missing


def make_predict(model: str, version: int | None, alias: str | None, arrays: dict[str, Any], *, lists: bool) -> bytes:
    """A PredictRequest, with its numbers in bytes or in lists."""
    request = message_type("tensorflow.serving.PredictRequest")()
    request.model_spec.name = model
    if version is not None:
        request.model_spec.version.value = version
    if alias is not None:
        request.model_spec.version_label = alias
    for name, array in arrays.items():
        tensor = request.inputs[name]
        tensor.dtype = DTYPES[array.dtype.name]
        for size in array.shape:
            tensor.tensor_shape.dim.add(size=size)
        if lists or array.dtype == object:
            getattr(tensor, FIELDS[array.dtype.name]).extend(array.ravel().tolist())
        else:
            tensor.tensor_content = array.tobytes()
    return request.SerializeToString()


def make_infer(model: str, version: str, arrays: dict[str, Any], *, raw: bool) -> bytes:
    """A ModelInferRequest, with its numbers in bytes or in lists."""
    request = message_type("inference.ModelInferRequest")(model_name=model, model_version=version)
    for name, array in arrays.items():
        tensor = request.inputs.add(name=name, datatype=datatype_of(array.dtype.name), shape=array.shape)
        if raw:
            request.raw_input_contents.append(to_bytes(array))
        else:
            getattr(tensor.contents, CONTENTS[array.dtype.name]).extend(array.ravel().tolist())
    return request.SerializeToString()


def read_predict(reply: GrpcReply) -> dict[str, Any]:
    """The outputs of a PredictResponse by name."""
    outputs = message_type("tensorflow.serving.PredictResponse").FromString(reply.data).outputs
    return {
        name: np.frombuffer(tensor.tensor_content, "f4").reshape([dim.size for dim in tensor.tensor_shape.dim]).tolist()
        for name, tensor in outputs.items()
    }


def read_infer(reply: GrpcReply) -> dict[str, Any]:
    """The outputs of a ModelInferResponse by name."""
    response = message_type("inference.ModelInferResponse").FromString(reply.data)
    return {
        output.name: np.frombuffer(data, "f4").reshape(list(output.shape)).tolist()
        for output, data in zip(response.outputs, response.raw_output_contents, strict=True)
    }


def _name_model(path: str, data: bytes) -> str:
    if path == PREDICT:
        spec = message_type("tensorflow.serving.PredictResponse").FromString(data).model_spec
        return f"{spec.name}/{spec.version.value}"
    response = message_type("inference.ModelInferResponse").FromString(data)
    return f"{response.model_name}/{response.model_version}"
