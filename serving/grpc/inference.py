"""inference.GRPCInferenceService: the Open Inference Protocol, version 2, as Triton's and KServe's clients speak it."""

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any

from google.protobuf.json_format import ParseDict

from bmp.errors import NotReadyError, RequestError
from serving.codec.fields import Fields
from serving.codec.inference_v2 import (
    InferRequest,
    OutputTensor,
    WantedOutput,
    check_different,
    check_parameters,
    read_wanted,
)
from serving.codec.tensors import Tensor, datatype_of_numpy, to_bytes
from serving.grpc.gather import Gatherer
from serving.grpc.messages import message_type
from serving.grpc.method import Call, Door, Reply
from serving.grpc.tensors import read_contents, read_raw
from serving.metrics.statistics import describe_statistics, find_versions
from serving.models.model import LoadedModel
from serving.protocols.inference import ask, describe_model, describe_server, find_model, pick_outputs
from serving.protocols.repository import list_versions
from serving.service import Service

_PACKAGE = "inference"


def build_inference_door(service: Service, gatherer: Gatherer) -> Door:
    """Returns the service, with the extensions of Triton that the door of HTTP has as well.

    Args:
        service: What serves.
        gatherer: Runs the models.
    """

    def find(request: Any, *, wake: bool = True) -> LoadedModel:
        return find_model(service, request.name or None, request.version or None, wake=wake)

    def server_ready(request: Any, call: Call) -> Any:
        return _make("ServerReadyResponse", ready=_is_ready(service))

    def model_ready(request: Any, call: Call) -> Any:
        try:
            find(request, wake=False)
        except NotReadyError:
            return _make("ModelReadyResponse", ready=False)
        return _make("ModelReadyResponse", ready=True)

    def model_metadata(request: Any, call: Call) -> Any:
        return _parse("ModelMetadataResponse", describe_model(service, find(request)))

    async def model_infer(request: Any, call: Call) -> Any:
        if request.parameters:
            call.quality = _read_parameters(request.parameters, "The request").get("quality", str)
        name, version = request.model_name or None, request.model_version or None
        model = call.use(find_model(service, name, version, call.quality))
        message = _read_request(request)
        answer = await gatherer.answer(ask(model, message))
        return _write_answer(model, pick_outputs(answer, message), request.id)

    async def stream_infer(request: Any, call: Call) -> Any:
        return _make("ModelStreamInferResponse", infer_response=await model_infer(request, call))

    async def statistics(request: Any, call: Call) -> Any:
        versions = find_versions(service, request.name or None)
        if request.name and request.version:
            versions = [(request.name, find(request, wake=False).version)]
        described = await asyncio.to_thread(describe_statistics, versions)  # it reads the files of all processes
        return _parse("ModelStatisticsResponse", {"model_stats": described})

    def index(request: Any, call: Call) -> Any:
        return _parse("RepositoryIndexResponse", {"models": list_versions(service, request.ready)})

    async def load(request: Any, call: Call) -> Any:
        await asyncio.to_thread(service.order_load, request.model_name)
        return _make("RepositoryModelLoadResponse")

    async def unload(request: Any, call: Call) -> Any:
        await asyncio.to_thread(service.order_unload, request.model_name)
        return _make("RepositoryModelUnloadResponse")

    answers: dict[str, Reply] = {
        "ServerLive": lambda request, call: _make("ServerLiveResponse", live=True),
        "ServerReady": server_ready,
        "ServerMetadata": lambda request, call: _parse("ServerMetadataResponse", describe_server()),
        "ModelReady": model_ready,
        "ModelMetadata": model_metadata,
        "ModelInfer": model_infer,
        "ModelStreamInfer": stream_infer,
        "ModelStatistics": statistics,
        "RepositoryIndex": index,
        "RepositoryModelLoad": load,
        "RepositoryModelUnload": unload,
    }
    return Door(f"{_PACKAGE}.GRPCInferenceService", "grpc_v2", answers, _refuse_message)


def _make(kind: str, **fields: Any) -> Any:
    return message_type(f"{_PACKAGE}.{kind}")(**fields)


def _parse(kind: str, content: dict[str, Any]) -> Any:
    return ParseDict(content, _make(kind))


def _refuse_message(reason: str) -> Any:
    return _make("ModelStreamInferResponse", error_message=reason)


def _is_ready(service: Service) -> bool:
    try:
        service.check_ready()
    except NotReadyError:
        return False
    return True


# === Infer ===


def _read_request(message: Any) -> InferRequest:
    """Returns what a ModelInferRequest asks, without whom.

    Raises:
        RequestError: It asks for nothing that there is, or its tensors are of no type or shape that models take.
        SignatureError: Elements are out of the range of their type.
    """
    inputs, raw = message.inputs, message.raw_input_contents
    if not inputs:
        raise RequestError("inputs is empty; expected a tensor.", expected="a tensor", received="none")
    if raw and len(raw) != len(inputs):
        raise RequestError(
            f"raw_input_contents has {len(raw):,} elements for {len(inputs):,} inputs; expected one for each.",
            expected=f"{len(inputs)} elements",
            received=f"{len(raw)} elements",
        )
    tensors = [_read_tensor(tensor, raw[i] if raw else None, f"inputs[{i}]") for i, tensor in enumerate(inputs)]
    if len(tensors) > 1:
        check_different([tensor.name for tensor in tensors], "inputs")
    return InferRequest(tuple(tensors), _read_outputs(message.outputs) if message.outputs else ())


def _read_tensor(message: Any, raw: bytes | None, place: str) -> Tensor:
    if message.parameters:
        check_parameters(_read_parameters(message.parameters, place), place)
    if raw is None:
        return read_contents(message, place)
    if message.HasField("contents"):
        raise RequestError(
            f"{place} has 'contents', but the request has raw_input_contents; expected one of them.",
            expected="'contents' or raw_input_contents",
            received="both",
        )
    return read_raw(message, raw, place)


def _read_outputs(messages: Iterable[Any]) -> tuple[WantedOutput, ...]:
    outputs = []
    for i, message in enumerate(messages):
        place = f"outputs[{i}]"
        outputs.append(read_wanted(message.name, _read_parameters(message.parameters, place), place))
    check_different([output.name for output in outputs], "outputs")
    return tuple(outputs)


def _read_parameters(parameters: Mapping[str, Any], place: str) -> Fields:
    values = {key: (value, value.WhichOneof("parameter_choice")) for key, value in parameters.items()}
    return Fields({key: getattr(value, kind) if kind else None for key, (value, kind) in values.items()}, place)


def _write_answer(model: LoadedModel, outputs: Iterable[OutputTensor], id: str) -> Any:
    response = _make("ModelInferResponse", model_name=model.name, model_version=str(model.version), id=id)
    for output in outputs:
        array = output.array
        response.outputs.add(name=output.name, datatype=datatype_of_numpy(array.dtype), shape=array.shape)
        response.raw_output_contents.append(to_bytes(array))
    return response
