"""JSON Schemas of what models take and answer, as strict as a schema can say it."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from bmp.signature import TensorSpec
from bmp.transforms import Field
from serving.answer import inputs_of, outputs_of
from serving.codec.rows import Features
from serving.codec.tensors import BYTES, datatype_of
from serving.models.description import Description

Schema = dict[str, Any]
_MAX_COUNTED = 64
"""Sizes above it are told in words alone: tools that make up examples would fill them in."""


def describe_rows(model: Description) -> Schema:
    """Returns the schema of a list of examples; of several inputs, each by name."""
    features = model.features
    if features is not None and not model.takes_raw_tensors:
        return list_of(_describe_features(features))
    specs = model.asked.inputs
    if len(specs) == 1:
        return list_of(describe_tensor(specs[0]))
    return list_of(object_of({spec.name: describe_tensor(spec) for spec in specs}))


def describe_flat_examples(model: Description) -> Schema:
    """Returns the schema of examples as TensorFlow Serving's `:classify` has them: an object each, tensors flat."""
    values = {item.name: _describe_flat(item) for item in inputs_of(model)}
    required = [name for name in values if model.features is None or name not in model.features.optional]
    return list_of(object_of(values, required))


def describe_answer(model: Description, *, by_row: bool = False) -> Schema:
    """Returns the schema of what a model answers: one batch, or an object of batches by output.

    Args:
        model: Answers.
        by_row: Whether several outputs stand together for each example.
    """
    outputs = {spec.name: describe_tensor(spec) for spec in outputs_of(model)}
    if len(outputs) == 1:
        return list_of(next(iter(outputs.values())))
    if by_row:
        return list_of(object_of(outputs))
    return object_of({name: list_of(schema) for name, schema in outputs.items()})


def describe_tensor(spec: TensorSpec | Field) -> Schema:
    """Returns the schema of one example of a tensor: lists in lists, of the sizes of its shape."""
    schema = _describe_element(spec.dtype, spec.vocabulary)
    for size in reversed(spec.shape):
        schema = {"type": "array", "items": schema, **_count_items(size)}
    if spec.shape:
        sizes = " × ".join("any" if size is None else str(size) for size in spec.shape)
        schema["description"] = f"{spec.dtype}, {sizes}"
    return schema


def describe_input_tensors(model: Description) -> Schema:
    """Returns the schema of `inputs` of the Open Inference Protocol: one tensor for each input, in any order."""
    items = inputs_of(model)
    tensors = [_describe_named_tensor(item.name, _datatype(item), len(item.shape), item) for item in items]
    schema = tensors[0] if len(tensors) == 1 else {"oneOf": tensors}
    return {"type": "array", "items": schema, "minItems": 1, "maxItems": len(tensors)}


def describe_output_tensors(model: Description) -> Schema:
    """Returns the schema of `outputs` of an answer of the Open Inference Protocol."""
    tensors = [
        {
            "type": "object",
            "properties": {
                "name": {"const": spec.name},
                "datatype": {"enum": [datatype_of(spec.dtype), BYTES]},
                "shape": {"type": "array", "items": {"type": "integer", "minimum": 0}},
                "data": {"type": "array"},
                "parameters": {"type": "object"},
            },
            "required": ["name", "datatype", "shape"],
        }
        for spec in outputs_of(model)
    ]
    return {"type": "array", "items": tensors[0] if len(tensors) == 1 else {"oneOf": tensors}}


def _describe_named_tensor(name: str, datatype: str, rank: int, item: TensorSpec | Field) -> Schema:
    element = {"type": "string"} if datatype == BYTES else _describe_element(item.dtype, item.vocabulary)
    sizes = ", ".join(["number of examples", *("any" if size is None else str(size) for size in item.shape)])
    return object_of(
        {
            "name": {"const": name},
            "datatype": {"const": datatype},
            "shape": {
                "type": "array",
                "items": {"type": "integer", "minimum": 1},
                "minItems": rank + 1,
                "maxItems": rank + 1,
                "description": f"[{sizes}]",
            },
            "data": {"type": "array", "items": element, "minItems": 1, "description": "Flat, row by row."},
            "parameters": {"type": "object"},
        },
        ["name", "datatype", "shape", "data"],
    )


def _describe_features(features: Features) -> Schema:
    properties = {field.name: _describe_feature(field, features) for field in features.fields}
    row = object_of(properties, [name for name in properties if name not in features.optional])
    sole = features.sole
    if sole is not None and sole.kind in ("text", "image", "audio"):
        return {"anyOf": [properties[sole.name], row]}
    return row


def _describe_feature(field: Field, features: Features) -> Schema:
    if field.kind == "tensor":
        return describe_tensor(field)
    schema = _describe_value(field)
    if field.name in features.optional:
        return {**schema, "type": [schema["type"], "null"]}
    return schema


def _describe_value(field: Field) -> Schema:
    if field.kind == "number":
        return _describe_element("float32", None)
    if field.kind in ("category", "text"):
        return {"type": "string", "description": f"A {field.kind}."}
    kinds = {"image": "A PNG or JPEG file", "audio": "A WAV file"}
    return {
        **object_of({"b64": {"type": "string", "contentEncoding": "base64"}}),
        "description": f"{kinds[field.kind]}, in base64.",
    }


def _describe_flat(item: TensorSpec | Field) -> Schema:
    if isinstance(item, Field) and item.kind != "tensor":
        return _describe_value(item)
    element = _describe_element(item.dtype, item.vocabulary)
    if not item.shape:
        return element
    count = None if None in item.shape else math.prod(size or 1 for size in item.shape)
    return {"type": "array", "items": element, **_count_items(count)}


def _describe_element(dtype: str, vocabulary: int | None) -> Schema:
    """Returns the schema of a number: JSON's own have no bounds."""
    kind = np.dtype(dtype)
    if kind.kind == "b":
        return {"type": "boolean"}
    if kind.kind in "iu":
        low, high = (0, vocabulary - 1) if vocabulary else (int(np.iinfo(kind).min), int(np.iinfo(kind).max))
        return {"type": "integer", "minimum": low, "maximum": high}
    largest = float(np.finfo(kind).max)
    return {"type": "number", "minimum": -largest, "maximum": largest}


def _count_items(size: int | None) -> Schema:
    return {} if size is None or size > _MAX_COUNTED else {"minItems": size, "maxItems": size}


def _datatype(item: TensorSpec | Field) -> str:
    is_bytes = isinstance(item, Field) and item.kind not in ("number", "tensor")
    return BYTES if is_bytes else datatype_of(item.dtype)


def list_of(schema: Schema) -> Schema:
    """Returns the schema of a list with at least one such element."""
    return {"type": "array", "items": schema, "minItems": 1}


def object_of(properties: Schema, required: Iterable[str] | None = None) -> Schema:
    """Returns the schema of an object with these properties and no others, by default all of them required."""
    names: Sequence[str] = list(properties if required is None else required)
    return {
        "type": "object",
        "properties": properties,
        **({"required": names} if names else {}),
        "additionalProperties": False,
    }
