"""tensorflow.serving.PredictionService and ModelService, for the clients that people have already."""

import math
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NamedTuple

from google.protobuf.json_format import ParseDict

from bmp.errors import RequestError, SignatureError
from serving.answer import Answer, Question
from serving.codec.inference_v2 import InferRequest, WantedOutput, check_different
from serving.codec.tfserving import SIGNATURE_NAME, check_context, check_signature_name
from serving.grpc.gather import Gatherer
from serving.grpc.messages import message_type
from serving.grpc.method import Call, Door, Reply
from serving.grpc.tensors import read_proto, write_proto
from serving.models.control import ControlError
from serving.models.model import LoadedModel
from serving.protocols.inference import ask, pick_outputs
from serving.protocols.tfserving import (
    Target,
    ask_classes,
    ask_values,
    classes_of,
    describe_signatures,
    describe_states,
    find_model,
    find_states,
    values_of,
)
from serving.service import Service

_PACKAGE = "tensorflow.serving"
_METADATA = "signature_def"
_QUALITY = "bmp-quality"
_FILES = ("image", "audio")


def build_prediction_door(service: Service, gatherer: Gatherer, max_bytes: int) -> Door:
    """Returns the service that answers requests.

    Args:
        service: What serves.
        gatherer: Runs the models.
        max_bytes: What a message may have.
    """

    async def predict(request: Any, call: Call) -> Any:
        model = _find(service, request.model_spec, call)
        tensors = tuple(read_proto(name, tensor, max_bytes) for name, tensor in request.inputs.items())
        check_different(request.output_filter, "output_filter")
        wanted = tuple(WantedOutput(name, where=f"output_filter '{name[:80]}'") for name in request.output_filter)
        message = InferRequest(tensors, wanted)
        answer = await gatherer.answer(ask(model, message))
        response = _make_response("PredictResponse", model)
        for output in pick_outputs(answer, message):
            write_proto(response.outputs[output.name], output)
        return response

    async def answer_examples(verb: _Verb, request: Any, call: Call) -> Any:
        model = _find(service, request.model_spec, call)
        answer = await gatherer.answer(verb.ask(model, _read_examples(model, request.input, max_bytes)))
        response = _make_response(verb.response, model)
        verb.fill(response.result, answer)
        return response

    async def answer_tasks(request: Any, call: Call) -> Any:
        response = message_type(f"{_PACKAGE}.MultiInferenceResponse")()
        check_different([f"{task.model_spec.name}: {task.method_name}" for task in request.tasks], "tasks")
        for task in request.tasks:
            verb = _find_verb(task.method_name)
            model = _find(service, task.model_spec, call)
            answer = await gatherer.answer(verb.ask(model, _read_examples(model, request.input, max_bytes)))
            result = response.results.add()
            _name_model(result.model_spec, model)
            verb.fill(getattr(result, verb.field), answer)
        return response

    def describe(request: Any, call: Call) -> Any:
        _check_metadata(request.metadata_field)
        model = find_model(service, _read_target(request.model_spec))
        response = _make_response("GetModelMetadataResponse", model)
        signatures = ParseDict(describe_signatures(model), message_type(f"{_PACKAGE}.SignatureDefMap")())
        response.metadata[_METADATA].type_url = f"type.googleapis.com/{_PACKAGE}.SignatureDefMap"
        response.metadata[_METADATA].value = signatures.SerializeToString()
        return response

    answers: dict[str, Reply] = {
        "Predict": predict,
        "Classify": partial(answer_examples, _CLASSIFY),
        "Regress": partial(answer_examples, _REGRESS),
        "MultiInference": answer_tasks,
        "GetModelMetadata": describe,
    }
    return Door(f"{_PACKAGE}.PredictionService", "grpc_tfserving", answers)


def build_model_door(service: Service) -> Door:
    """Returns the service that tells how models are doing."""

    def tell_status(request: Any, call: Call) -> Any:
        states = find_states(service, _read_target(request.model_spec))
        return ParseDict(describe_states(states), message_type(f"{_PACKAGE}.GetModelStatusResponse")())

    answers = {"GetModelStatus": tell_status, "HandleReloadConfigRequest": _refuse_config}
    return Door(f"{_PACKAGE}.ModelService", "grpc_tfserving", answers)


# === Which model ===


def _read_target(spec: Any) -> Target:
    check_signature_name(spec.signature_name)
    number = spec.version.value if spec.HasField("version") else None
    return Target(spec.name or None, number, spec.version_label if spec.HasField("version_label") else None)


def _find(service: Service, spec: Any, call: Call) -> LoadedModel:
    """Returns the model that is to answer; the protocol has no place for a quality, so that is metadata."""
    call.quality = dict(call.metadata).get(_QUALITY)
    return call.use(find_model(service, _read_target(spec), call.quality))


def _name_model(spec: Any, model: LoadedModel) -> None:
    spec.name, spec.signature_name = model.name, SIGNATURE_NAME
    spec.version.value = model.version


def _make_response(kind: str, model: LoadedModel) -> Any:
    response = message_type(f"{_PACKAGE}.{kind}")()
    _name_model(response.model_spec, model)
    return response


def _check_metadata(fields: Iterable[str]) -> None:
    received = ", ".join(fields)[:80]
    if received != _METADATA:
        raise RequestError(
            f"metadata_field is '{received}'; expected '{_METADATA}', the only metadata of a model.",
            expected=_METADATA,
            received=received or "nothing",
        )


def _refuse_config(request: Any, call: Call) -> Any:
    raise ControlError(
        "This server takes no configuration: it serves what the registry says. Publish a version or move an alias (bmp "
        "models promote NAME NUMBER).",
        expected="a change of the registry",
        received="a configuration",
    )


# === Examples ===


class _Verb(NamedTuple):
    """What examples may be sent for.

    Args:
        ask: Makes a question of them.
        fill: Writes the answer into a result.
        response: Message that has the result.
        field: That has it in an answer to several tasks.
    """

    ask: Callable[[LoadedModel, list[dict[str, Any]]], Question]
    fill: Callable[[Any, Answer], None]
    response: str
    field: str


def _fill_classes(result: Any, answer: Answer) -> None:
    for pairs in classes_of(answer):
        classes = result.classifications.add().classes
        for label, score in pairs:
            classes.add(label=label, score=score)


def _fill_values(result: Any, answer: Answer) -> None:
    for value in values_of(answer):
        result.regressions.add(value=value)


_CLASSIFY = _Verb(ask_classes, _fill_classes, "ClassificationResponse", "classification_result")
_REGRESS = _Verb(ask_values, _fill_values, "RegressionResponse", "regression_result")
_VERBS = {"tensorflow/serving/classify": _CLASSIFY, "tensorflow/serving/regress": _REGRESS}


def _find_verb(name: str) -> _Verb:
    found = _VERBS.get(name)
    if found is None:
        known = " or ".join(_VERBS)
        raise RequestError(
            f"A task's method_name is '{name[:80]}'; expected {known}.", expected=known, received=name[:80] or "nothing"
        )
    return found


def _read_examples(model: LoadedModel, message: Any, max_bytes: int) -> list[dict[str, Any]]:
    """Returns examples as `decode_examples` does; what all of them share, the context, is put into each.

    Raises:
        RequestError: There is none, there are too many, or the context would be too much.
        SignatureError: A string is not valid UTF-8.
    """
    kind = message.WhichOneof("kind")
    examples = getattr(message, kind).examples if kind else ()
    if not examples:
        raise RequestError(
            "'input' holds no example; expected at least one.", expected="an example", received="no examples"
        )
    model.check_count(len(examples), raw=model.features is not None)
    model.check_count(len(examples), raw=model.features is not None)
    context: dict[str, Any] = {}
    files = {field.name for field in model.features.fields if field.kind in _FILES} if model.features else set()
    if kind == "example_list_with_context":
        check_context(len(examples), message.example_list_with_context.context.ByteSize(), max_bytes)
        context = _read_example(message.example_list_with_context.context, "context", files)
    return [{**context, **_read_example(example, f"examples[{i}]", files)} for i, example in enumerate(examples)]


def _read_example(message: Any, place: str, files: set[str]) -> dict[str, Any]:
    """Returns a `tensorflow.Example` in JSON's types, but for files, which are bytes."""
    return {
        name: _read_feature(feature, f"{place}.{name[:80]}", name in files)
        for name, feature in message.features.feature.items()
    }


def _read_feature(feature: Any, place: str, is_file: bool) -> list[Any]:
    kind = feature.WhichOneof("kind")
    values = list(getattr(feature, kind).value) if kind else []
    if kind == "bytes_list":
        return values if is_file else [_to_text(value, place) for value in values]
    return [None if math.isnan(value) else value for value in values]  # what is no number is missing


def _to_text(value: bytes, place: str) -> str:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError as error:
        received = f"0x{value[error.start]:02x} at byte {error.start}"
        raise SignatureError(
            f"{place} holds a string that is not valid UTF-8: {received}.", expected="UTF-8", received=received
        ) from None
