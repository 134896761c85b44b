"""A question that a model can answer, as each door wants it: made from the version's own samples where it has some."""

import base64
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
import orjson

from bmp.signature import TensorSpec
from bmp.transforms import Field, Preprocessing
from bmp.transforms.categories import OneHot, Vocabulary
from bmp.transforms.fill import Fill
from bmp.transforms.tabular import MinMax, Standardise
from serving.answer import inputs_of
from serving.codec.raw import make_examples
from serving.codec.tensors import BYTES, datatype_of
from serving.models.description import Description

EXAMPLES_PATH = "/docs/examples"
_TOP_K = 3
_OWN_LISTS = ("FP32", "FP64", "INT64", "UINT64")  # in messages of protobuf; shorter numbers share one
_BARE = ("text", "image", "audio")
_TEXT = "What is written here is a text."


class Example(NamedTuple):
    """A request that a model answers.

    Args:
        door: What it goes through: `predict`, `tfserving`, `classify`, `regress` or `inference_v2`.
        title: The same for people.
        path: Where it is posted to.
        body: In JSON's types.
    """

    door: str
    title: str
    path: str
    body: dict[str, Any]

    def dump(self) -> bytes:
        """Returns the body as it travels."""
        return orjson.dumps(self.body)


def list_examples(model: Description, *, named: bool) -> list[Example]:
    """Returns one request for each door that a model has.

    Args:
        model: To be asked.
        named: Whether a request has to say which model is meant, because several are served.
    """
    row, values = _make_row(model), _make_values(model)
    tfserving = f"/v1/models/{model.name}"
    wanted = {"top_k": min(_TOP_K, len(model.manifest.labels))} if has_labels(model) else {}
    flat = {"examples": [{name: _flatten(value) for name, value in values.items()}]}  # as tf.Example has them
    tensors = [_make_tensor(item, values[item.name]) for item in inputs_of(model)]
    predict = {**({"model": model.name} if named else {}), **wanted, "instances": [row]}
    examples = [
        Example("predict", "bmp", "/predict", predict),
        Example("tfserving", "TensorFlow Serving", f"{tfserving}:predict", {"instances": [row]}),
        Example("inference_v2", "Open Inference Protocol", f"/v2/models/{model.name}/infer", {"inputs": tensors}),
    ]
    if has_labels(model):
        examples.insert(2, Example("classify", "TensorFlow Serving, classify", f"{tfserving}:classify", flat))
    if is_number(model):
        examples.insert(2, Example("regress", "TensorFlow Serving, regress", f"{tfserving}:regress", flat))
    return examples


def make_grpc_example(model: Description) -> Example:
    """Returns a message for the Open Inference Protocol over gRPC, in the JSON form of protobuf."""
    values = _make_values(model)
    inputs = [_make_message(item, values[item.name]) for item in inputs_of(model)]
    body = {"model_name": model.name, "inputs": inputs}
    return Example("grpc", "gRPC", "inference.GRPCInferenceService/ModelInfer", body)


def example_path(name: str, door: str) -> str:
    """Returns where the body of an example can be fetched."""
    return f"{EXAMPLES_PATH}/{name}/{door}.json"


def has_labels(model: Description) -> bool:
    """Tells whether an answer can be said in words, as `:classify` does."""
    return bool(model.manifest.labels) and model.signature.objective != "regression"


def is_number(model: Description) -> bool:
    """Tells whether an answer is one number, as `:regress` has it."""
    shapes = [spec.shape for spec in model.signature.outputs]
    return model.signature.objective == "regression" and shapes in ([()], [(1,)])


def _make_row(model: Description) -> Any:
    """Returns an example as a list of them holds it: a sole tensor or text needs no name."""
    values, features = _make_values(model), model.features
    has_value = features is None or model.takes_raw_tensors or features.fields[0].kind in _BARE
    return next(iter(values.values())) if has_value and len(values) == 1 else values


def _make_values(model: Description) -> dict[str, Any]:
    """Returns an example in JSON's types, by input or raw feature."""
    preprocessing = model.preprocessing
    if preprocessing is None:
        return {name: _to_json(array[0]) for name, array in model.example.inputs.items()}
    return {field.name: _make_feature(model, field, preprocessing) for field in preprocessing.fields}


def _make_feature(model: Description, field: Field, preprocessing: Preprocessing) -> Any:
    if field.kind in ("image", "audio"):
        return {"b64": base64.b64encode(make_examples([field])[field.name][0]).decode()}
    if field.kind == "text":
        return _TEXT
    if field.kind == "category":
        return _find_category(field.name, preprocessing)
    samples = model.example.raw.get(field.name)
    if samples is not None and samples.shape[1:] == field.shape:
        return _to_json(samples[0].astype(field.dtype))
    return _to_json(_find_middle(field, preprocessing).astype(field.dtype))


def _find_category(name: str, preprocessing: Preprocessing) -> str:
    """Returns a value that the training split has often."""
    for step in preprocessing.steps:
        if isinstance(step, OneHot | Vocabulary) and step.vocabulary and step.vocabulary.get(name):
            return step.vocabulary[name][0]
    return "a"


def _find_middle(field: Field, preprocessing: Preprocessing) -> np.ndarray:
    """Returns what is usual in the training split, as far as a transform knows, to 4 digits; else zeros."""
    numbers: Any = 0.0
    for step in reversed(preprocessing.steps):
        if isinstance(step, Standardise | MinMax | Fill) and field.name in step.fields:
            found = step.filling(field.name) if isinstance(step, Fill) else step.constants(field.name)[0]
            numbers = [float(f"{number:.4g}") for number in found if not isinstance(number, str)]
    return np.broadcast_to(np.reshape(numbers, field.shape if np.size(numbers) > 1 else ()), field.shape)


def _make_tensor(item: TensorSpec | Field, value: Any) -> dict[str, Any]:
    if isinstance(item, Field) and item.kind not in ("number", "tensor"):
        text = value["b64"] if isinstance(value, dict) else value
        return {"name": item.name, "datatype": BYTES, "shape": [1], "data": [text]}
    shape = [1, *np.shape(value)]
    return {"name": item.name, "datatype": datatype_of(item.dtype), "shape": shape, "data": _flatten([value])}


def _make_message(item: TensorSpec | Field, value: Any) -> dict[str, Any]:
    """Returns a tensor as protobuf has it: each list of elements has a name of its own, and bytes are base64."""
    tensor = _make_tensor(item, value)
    datatype, data = tensor["datatype"], tensor.pop("data")
    if datatype == BYTES and isinstance(value, str):
        data = [base64.b64encode(value.encode()).decode()]
    kind = datatype.lower() if datatype in _OWN_LISTS else datatype.lower().rstrip("0123456789")
    return {**tensor, "contents": {f"{kind}_contents": data}}


def _flatten(value: Any) -> Any:
    """Returns nested lists as one; what is no list stays as it is."""
    if not isinstance(value, list):
        return value
    leaves = [_flatten(item) if isinstance(item, list) else [item] for item in value]
    return list(chain.from_iterable(leaves))


def _to_json(array: np.ndarray) -> Any:
    """Returns numbers in JSON's types with as few digits as tell them apart in their dtype."""
    return orjson.loads(orjson.dumps(array.copy() if array.ndim else array[()], option=orjson.OPT_SERIALIZE_NUMPY))
