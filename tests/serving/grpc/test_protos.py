"""The messages of the gRPC doors: those of TensorFlow, TensorFlow Serving and Triton, on the wire and beside them."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import descriptor_pool
from google.protobuf.descriptor import Descriptor
from tensorflow_serving.apis import model_service_pb2, prediction_service_pb2
from tritonclient.grpc import service_pb2

from bmp.errors import RequestError
from serving.grpc.messages import load_pool, message_type, parse

PROTOS = Path(__file__).parents[3] / "serving" / "grpc" / "protos"
SERVICES = ("tensorflow.serving.PredictionService", "tensorflow.serving.ModelService", "inference.GRPCInferenceService")


def run_python(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=PROTOS.parents[2])


def test_the_descriptors_are_those_of_the_protos(tmp_path: Path) -> None:
    made, files = tmp_path / "descriptors.binpb", map(str, sorted(PROTOS.glob("*.proto")))
    options = [f"--proto_path={PROTOS}", "--include_imports", f"--descriptor_set_out={made}"]
    done = run_python("-m", "grpc_tools.protoc", *options, *files)
    assert done.returncode == 0, done.stderr
    assert made.read_bytes() == (PROTOS / "descriptors.binpb").read_bytes(), "make protos"


def messages_of(service: str) -> dict[str, Descriptor]:
    """Every message of ours that a service reads or writes, by name."""
    found: dict[str, Descriptor] = {}
    methods = load_pool().FindServiceByName(service).methods
    left = [kind for method in methods for kind in (method.input_type, method.output_type)]
    while left:
        kind = left.pop()
        if kind.full_name not in found:
            found[kind.full_name] = kind
            left += [field.message_type for field in kind.fields if field.message_type]
    return found


def say(field: Any) -> tuple[Any, ...]:
    """Everything about a field that counts on the wire."""
    kind = field.message_type or field.enum_type
    values = {value.name: value.number for value in field.enum_type.values} if field.enum_type else {}
    oneof = field.containing_oneof.name if field.containing_oneof else None
    return field.name, field.number, field.type, field.is_repeated, kind and kind.full_name, oneof, values


@pytest.mark.parametrize("service", SERVICES)
def test_fields_are_those_of_the_originals(service: str) -> None:
    assert prediction_service_pb2 and model_service_pb2 and service_pb2, "they fill the pool of all others"
    originals, compared = descriptor_pool.Default(), 0
    for name, message in messages_of(service).items():
        original = originals.FindMessageTypeByName(name)
        for field in message.fields:
            *mine, values = say(field)
            *theirs, known = say(original.fields_by_number[field.number])
            assert mine == theirs and values.items() <= known.items(), f"{name}.{field.name}"
            compared += 1
    assert compared >= 15
    methods = originals.FindServiceByName(service).methods_by_name
    for method in load_pool().FindServiceByName(service).methods:
        original = methods[method.name]
        assert (method.input_type.full_name, method.output_type.full_name) == (
            original.input_type.full_name,
            original.output_type.full_name,
        )
        assert (method.client_streaming, method.server_streaming) == (
            original.client_streaming,
            original.server_streaming,
        )


def test_what_is_no_message_is_refused() -> None:
    kind = message_type("tensorflow.serving.PredictRequest")
    with pytest.raises(RequestError, match=r"2 bytes of the request are no message of the type tensorflow\.serving"):
        parse(kind, b"\xff\xff")


LOAD = """
import importlib.util, sys, types
from serving.grpc import server
from serving.grpc.messages import message_type
ours = message_type("tensorflow.serving.PredictRequest"), message_type("inference.ModelInferRequest")
assert "tensorflow" not in sys.modules
places = importlib.util.find_spec("tensorflow").submodule_search_locations
sys.modules["tensorflow"] = types.ModuleType("tensorflow")  # its messages alone: the rest takes seconds
sys.modules["tensorflow"].__path__ = places
from tensorflow_serving.apis import predict_pb2
from tritonclient.grpc import service_pb2
theirs = predict_pb2.PredictRequest(output_filter=["y"]), service_pb2.ModelInferRequest(id="7")
for our, their in zip(ours, theirs):
    assert our is not type(their) and our.FromString(their.SerializeToString()).ByteSize() == their.ByteSize() > 2
print("both")
"""


def test_tensorflow_may_come_after_them() -> None:
    """Before them it has come to this process."""
    done = run_python("-c", LOAD)
    assert done.stdout == "both\n", done.stderr


def test_gunicorns_settings_and_the_app_load_no_grpc() -> None:
    done = run_python(
        "-c",
        "import runpy, sys, serving.app; runpy.run_path('serving/gunicorn.conf.py'); print('grpc' in sys.modules)",
    )
    assert done.stdout == "False\n", done.stderr
