"""The Open Inference Protocol, version 2, however its messages travel: what a model takes, and what it answers."""

import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from bmp import __version__
from bmp.errors import RequestError, SignatureError, suggest
from bmp.signature import Arrays, TensorSpec, explain_unknown_input
from bmp.transforms import Columns, Field
from serving.answer import Answer, Question, ask_features, ask_tensors
from serving.codec.inference_v2 import InferRequest, OutputTensor, WantedOutput
from serving.codec.rows import Features, to_columns
from serving.codec.tensors import BYTES, DTYPES, Tensor, datatype_of, join_elements
from serving.engines import engine_for
from serving.models.model import LoadedModel
from serving.service import Service

_EXTENSIONS = ("binary_tensor_data", "classification", "model_repository", "statistics")
_PLATFORMS = {"litert": "tensorflow_tflite", "savedmodel": "tensorflow_savedmodel"}
_FILES = ("image", "audio")
_NUMBER = re.compile(r"[0-9]{1,18}", re.ASCII)


def describe_server() -> dict[str, Any]:
    """Returns the metadata of this server in JSON's types."""
    return {"name": "bmp", "version": __version__, "extensions": _EXTENSIONS}


def find_model(
    service: Service, name: str | None, version: str | None, quality: str | None = None, *, wake: bool = True
) -> LoadedModel:
    """Returns the model that a request is for.

    Args:
        service: What serves.
        name: Of the model; None where only one is served.
        version: Its number, or an alias; None for whichever is the default.
        quality: Which variant is wanted; None for the recommended one.
        wake: Whether it is loaded where it is not in memory.

    Raises:
        NotReadyError: It is still loading, or could not be loaded.
        NotFoundError: There is no such model, version or alias.
        RequestError: There is no name and several models are served.
    """
    if version is None:
        return service.get(name, quality=quality, wake=wake)
    if _NUMBER.fullmatch(version):
        return service.get(name, int(version), quality=quality, wake=wake)
    return service.get(name, alias=version, quality=quality, wake=wake)


def describe_model(service: Service, model: LoadedModel) -> dict[str, Any]:
    """Returns the metadata of a model in JSON's types, with the versions of it that answer.

    Of a model that takes raw features these are the inputs: a number and a string are `[-1]`, one for each example, and
    so is a file, whose bytes are a string.
    """
    file = model.variant.file
    assert file is not None, "what runs has a file"
    return {
        "name": model.name,
        "versions": [str(state.number) for state in service.versions(model.name) if state.state == "AVAILABLE"],
        "platform": _PLATFORMS[engine_for(file)],
        "inputs": [_describe(item.name, _datatype_of(item), item.shape) for item in _inputs(model)],
        "outputs": [
            _describe(spec.name, datatype_of(spec.dtype), _answered_shape(model, spec))
            for spec in model.signature.outputs
        ],
    }


def read_whole_body(model: LoadedModel, body: bytes) -> InferRequest:
    """Returns the request that a body is which holds the only input of a model, and no JSON.

    It is one file or one text, or the numbers of one or more examples. The answer goes as bytes.

    Raises:
        RequestError: It is empty, or the model has several inputs, or one of a free shape.
    """
    inputs = _inputs(model)
    if len(inputs) != 1 or None in inputs[0].shape or not body:
        received = "bytes without JSON" if body else "an empty body"
        raise RequestError(
            f"The request is {received}; model '{model.name}' takes {', '.join(_say(item) for item in inputs)}. Bytes "
            "alone do for a single input of a fixed shape.",
            expected="JSON, and bytes behind it",
            received=received,
        )
    (item,) = inputs
    datatype, sizes = _datatype_of(item), [size for size in item.shape if size is not None]
    if datatype == BYTES:
        return InferRequest((Tensor(item.name, BYTES, (1,), join_elements([body]), "The body"),), binary=True)
    count = len(body) // max(1, math.prod(sizes) * np.dtype(DTYPES[datatype]).itemsize)
    return InferRequest((Tensor(item.name, datatype, (max(1, count), *sizes), body, "The body"),), binary=True)


def infer(model: LoadedModel, request: InferRequest) -> list[OutputTensor]:
    """Answers a request.

    Raises:
        SignatureError: The tensors do not fit the model.
        RequestError: The request asks for what the model does not have, an example cannot be used, or there are too
            many.
        InferenceError: The model gave no usable answer.
    """
    return pick_outputs(ask(model, request).answer(), request)


def ask(model: LoadedModel, request: InferRequest) -> Question:
    """Reads a request.

    Raises:
        SignatureError: The tensors do not fit the model.
        RequestError: The request asks for what the model does not have, an example cannot be used, or there are too
            many.
    """
    _check_addressee(request, model)
    classes = _check_outputs(request.outputs, model)
    features = model.features
    is_raw = features is not None and _are_raw(request.tensors, model, features)
    for tensor in request.tensors:
        model.check_count(tensor.shape[0], raw=is_raw or model.takes_raw_tensors)
    if features is not None and is_raw:
        return ask_features(model, _to_columns(request.tensors, features), classes)
    return ask_tensors(model, _to_arrays(request.tensors, model), classes)


def pick_outputs(answer: Answer, request: InferRequest) -> list[OutputTensor]:
    """Returns what a request wants of an answer: all of it where it does not say."""
    if not request.outputs:
        return [OutputTensor(name, array, request.binary) for name, array in answer.outputs.items()]
    return [_pick(answer, output, request.binary) for output in request.outputs]


# === What a model takes and returns ===


def _inputs(model: LoadedModel) -> Sequence[TensorSpec | Field]:
    if model.features is not None and not model.takes_raw_tensors:
        return model.features.fields
    return model.asked.inputs


def _datatype_of(item: TensorSpec | Field) -> str:
    if isinstance(item, Field) and item.kind not in ("number", "tensor"):
        return BYTES
    return datatype_of(item.dtype)


def _answered_shape(model: LoadedModel, spec: TensorSpec) -> Sequence[int | None]:
    """Of a text's next token only what comes after its end is answered."""
    only_last = model.features is not None and model.signature.objective == "next_token"
    return spec.shape[1:] if only_last else spec.shape


def _describe(name: str, datatype: str, shape: Sequence[int | None]) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": [-1, *(-1 if size is None else size for size in shape)]}


def _say(item: TensorSpec | Field) -> str:
    described = _describe(item.name, _datatype_of(item), item.shape)
    return f"'{item.name}', {described['datatype']} {described['shape']}"


# === The request ===


def _check_addressee(request: InferRequest, model: LoadedModel) -> None:
    """Checks that the body, where it names a model, names the one that the path names."""
    if not request.model and not request.version:
        return
    meant = (model.name, str(model.version))
    said = (request.model or meant[0], request.version or meant[1])
    if said != meant:
        received = "/".join(said)[:160]
        raise RequestError(
            f"The body is for {received}, but the path leads to {'/'.join(meant)}; leave model_name and model_version "
            "out.",
            expected="/".join(meant),
            received=received,
        )


def _check_outputs(wanted: Sequence[WantedOutput], model: LoadedModel) -> int | None:
    """Returns how many labels are wanted, if any."""
    if not wanted:
        return None
    names, classes = [spec.name for spec in model.signature.outputs], None
    for output in wanted:
        if output.name not in names:
            raise RequestError(
                f"The model has no output '{output.name[:80]}'. Outputs: {', '.join(names)}."
                f"{suggest(output.name[:80], names)}",
                expected=", ".join(names),
                received=output.name[:80],
            )
        if output.classes is not None:
            classes = _check_classes(output, model)
    return classes


def _check_classes(output: WantedOutput, model: LoadedModel) -> int | None:
    place = f"{output.where}.parameters.classification"
    if len(model.signature.outputs) > 1:
        raise RequestError(
            f"{place} is {output.classes}, but model '{model.name}' has several outputs, and labels for none of them.",
            expected="no classification",
            received=str(output.classes),
        )
    try:
        model.check_top_k(output.classes)
    except RequestError as error:
        raise RequestError(f"{place}: {error}", expected=error.expected, received=error.received) from error
    return output.classes


def _are_raw(tensors: Sequence[Tensor], model: LoadedModel, features: Features) -> bool:
    """Tells raw features from ready tensors: by a name, else by whether strings are where they should be."""
    if model.takes_raw_tensors:
        return False  # the tensors are the raw features
    datatypes = {field.name: _datatype_of(field) for field in features.fields}
    ready = {spec.name for spec in model.signature.inputs}
    fit = all((datatypes.get(tensor.name) == BYTES) == (tensor.datatype == BYTES) for tensor in tensors)
    return fit or not all(tensor.name in ready for tensor in tensors)


def _to_arrays(tensors: Sequence[Tensor], model: LoadedModel) -> Arrays:
    specs = {spec.name: spec for spec in model.asked.inputs}
    _check_names(tensors, list(specs))
    return {tensor.name: tensor.fit(specs[tensor.name]) for tensor in tensors}


def _check_names(tensors: Sequence[Tensor], known: Sequence[str]) -> None:
    for tensor in tensors:
        if tensor.name not in known:
            raise explain_unknown_input(tensor.name, known)


# === Raw features ===


def _to_columns(tensors: Sequence[Tensor], features: Features) -> Columns:
    """Returns raw features, judged by the rules for rows of them."""
    fields = {field.name: field for field in features.fields}
    _check_names(tensors, list(fields))
    columns = {tensor.name: _read_feature(tensor, fields[tensor.name]) for tensor in tensors}
    sizes = {name: len(values) for name, values in columns.items()}
    if len(set(sizes.values())) > 1:
        received = ", ".join(f"{name}: {size}" for name, size in sizes.items())
        raise SignatureError(
            f"The inputs disagree on the number of examples ({received}); send the same number for each.",
            expected="one batch size",
            received=received,
        )
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    return to_columns(rows, features, "examples")


def _read_feature(tensor: Tensor, field: Field) -> list[Any]:
    """Returns the feature of each example as a row in JSON has it, but for files in bytes, which stay such."""
    if field.kind == "tensor":
        values: list[Any] = tensor.to_array().tolist()
        return values
    if tensor.size != tensor.shape[0]:
        raise SignatureError(
            f"Input '{tensor.name}' has shape {list(tensor.shape)}; expected [-1], one value for each example.",
            expected="[-1]",
            received=str(list(tensor.shape)),
        )
    if field.kind in _FILES:
        return [{"b64": value} if isinstance(value, str) else value for value in tensor.to_values()]
    return [_to_text(value, tensor) if isinstance(value, bytes) else value for value in tensor.to_values()]


def _to_text(element: bytes, tensor: Tensor) -> str:
    try:
        return element.decode("utf-8")
    except UnicodeDecodeError as error:
        raise SignatureError(
            f"Input '{tensor.name}' holds a string that is not valid UTF-8: byte {error.start} is "
            f"0x{element[error.start]:02x}.",
            expected="UTF-8",
            received=f"0x{element[error.start]:02x} at byte {error.start}",
        ) from None


# === The answer ===


def _pick(answer: Answer, output: WantedOutput, binary: bool) -> OutputTensor:
    array = answer.outputs[output.name]
    if output.classes is not None:
        array = _name_classes(answer)
    return OutputTensor(output.name, array, binary if output.binary is None else output.binary)


def _name_classes(answer: Answer) -> np.ndarray:
    """Returns `value:index:label` of the likeliest labels, `(B, k)`."""
    assert answer.top_k is not None, "labels were wanted"
    indices = {label: index for index, label in enumerate(answer.model.manifest.labels)}
    rows = [
        [f"{np.float32(share)!s}:{indices[label]}:{label}".encode() for label, share in row] for row in answer.top_k
    ]
    return np.array(rows, object)
