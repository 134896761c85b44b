"""Bodies of TensorFlow Serving's REST interface to requests, and answers, signatures and states back.

{"instances": [[…], …]}  {"instances": [{"a": …, "b": …}, …]}      rows: one element for each example
{"inputs": [[…], …]}     {"inputs": {"a": […], "b": […]}}           columns: one tensor for each input
{"examples": [{"a": …, "b": […]}, …], "context": {…}}               to classify and to regress: tf.Example as JSON

A key that the protocol does not know is ignored, as it does; in all else the rules are those of `POST /predict`.
"""

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
import orjson

from bmp.errors import RequestError, SignatureError, suggest
from bmp.signature import Arrays, TensorSpec
from bmp.transforms import Field
from bmp.transforms.labels import Ranked
from serving.codec.json import Request, kind_of, parse_object
from serving.codec.rows import Features, count_examples

ROWS, COLUMNS = INPUT_KEYS = ("instances", "inputs")
SIGNATURE_NAME = "serving_default"
_EXAMPLE = '{"instances": [[…], …]}'
_DTYPES = {"float16": "HALF", "float32": "FLOAT", "float64": "DOUBLE"}  # of others it is the name in capitals


def _accept(count: int) -> None:
    """Accepts any number of examples."""


def decode_predict(
    body: bytes,
    features: Features | None,
    input_names: Collection[str],
    check_count: Callable[[int], None] = _accept,
) -> Request:
    """Reads the body of `:predict`.

    Args:
        body: As it came.
        features: What the model takes in place of tensors, if it does: columns of them become rows.
        input_names: Of the model's tensors.
        check_count: Raises where there are too many examples of features.

    Raises:
        RequestError: Not JSON, not an object, not exactly one of rows and columns, or another signature.
        SignatureError: Columns of features are no lists of one length.
    """
    parsed = parse_object(body, _EXAMPLE)
    _check_signature_name(parsed)
    given = [key for key in INPUT_KEYS if key in parsed]
    if not given:
        guess = next(filter(None, (suggest(key[:80], INPUT_KEYS) for key in parsed)), "")
        raise RequestError(
            f"Missing 'inputs' or 'instances' key; expected {_EXAMPLE}.{guess}",
            expected=_EXAMPLE,
            received=", ".join(parsed)[:80] or "an empty object",
        )
    if len(given) > 1:
        raise RequestError(
            "The body holds 'inputs' and 'instances'; expected only one of them.", expected=_EXAMPLE, received="both"
        )
    (key,) = given
    if key == ROWS and not isinstance(parsed[key], list):
        raise RequestError(
            f"'instances' is {kind_of(parsed[key])}; expected a list with one element for each example. Tensors by "
            "name go under 'inputs'.",
            expected="a list",
            received=kind_of(parsed[key]),
        )
    inputs = parsed[key]
    if features is not None and isinstance(inputs, dict) and _are_raw(inputs, features, input_names):
        inputs = _to_rows(inputs, check_count)
    return Request(key, inputs)


def decode_examples(body: bytes, max_bytes: int, check_count: Callable[[int], None] = _accept) -> list[dict[str, Any]]:
    """Reads the body of `:classify` and `:regress`; what all examples share, the context, is put into each.

    Args:
        body: As it came.
        max_bytes: What a body may have, also if the context were written out in every example.
        check_count: Raises where there are too many examples.

    Raises:
        RequestError: Not JSON, not an object, no examples, another signature, or too much context.
    """
    example = '{"examples": [{"…": …}, …]}'
    parsed = parse_object(body, example)
    _check_signature_name(parsed)
    examples, context = parsed.get("examples"), parsed.get("context", {})
    check_count(count_examples(examples))
    if not isinstance(examples, list) or not examples or not all(isinstance(row, dict) for row in examples):
        raise RequestError(
            "'examples' is not a list of objects, one for each example, with at least one.",
            expected=example,
            received=kind_of(examples) if "examples" in parsed else "no examples",
        )
    if not isinstance(context, dict):
        raise RequestError(
            f"'context' is {kind_of(context)}; expected an object with what all examples share.",
            expected="an object",
            received=kind_of(context),
        )
    check_context(len(examples), _weigh(context) if context else 0, max_bytes)
    return [{**context, **row} for row in examples]


def check_context(count: int, size_bytes: int, max_bytes: int) -> None:
    """Checks that a short message does not become more work than a long one.

    Args:
        count: Of the examples that share a context.
        size_bytes: Of the context.
        max_bytes: What the context may have in all, written out in every example.

    Raises:
        RequestError: It would have more.
    """
    size = count * size_bytes
    if size > max_bytes:
        raise RequestError(
            f"'context' would be {size:,} bytes if it stood in each of the {count:,} examples; expected at "
            f"most {max_bytes:,}. Send fewer examples.",
            expected=f"at most {max_bytes} bytes",
            received=f"{size} bytes",
        )


def fold_examples(rows: Sequence[Mapping[str, Any]], shapes: Mapping[str, tuple[int | None, ...]]) -> Request:
    """Gives the values of examples the shapes that a model wants: those of a tf.Example are flat lists, or bare.

    Args:
        rows: Of `decode_examples`.
        shapes: Of one example, by name.
    """
    folded = [
        {name: _fold(value, shapes[name]) if name in shapes else value for name, value in row.items()} for row in rows
    ]
    return Request("examples", folded)


def encode_outputs(outputs: Arrays, key: str) -> bytes:
    """Writes `{"predictions": …}` for rows and `{"outputs": …}` for columns; names only where there are several.

    Args:
        outputs: `(B, *shape)` by name.
        key: That the inputs came under.
    """
    answer: Any = next(iter(outputs.values())) if len(outputs) == 1 else outputs
    if key == ROWS and len(outputs) > 1:
        answer = [dict(zip(outputs, values, strict=True)) for values in zip(*outputs.values(), strict=True)]
    return _dump({"predictions" if key == ROWS else "outputs": answer})


def encode_classes(ranked: Iterable[Ranked]) -> bytes:
    """Writes `{"results": [[["label", score], …], …]}`."""
    # float32, so that a score reads as it does in a prediction
    return _dump({"results": [[[label, np.float32(score)] for label, score in pairs] for pairs in ranked]})


def encode_values(values: np.ndarray) -> bytes:
    """Writes `{"results": [value, …]}` of `(B,)`."""
    return _dump({"results": values})


def describe_signature(inputs: Iterable[TensorSpec | Field], outputs: Iterable[TensorSpec]) -> dict[str, Any]:
    """Returns a signature as the JSON form of TensorFlow's SignatureDef; its tensors are named as bmp exports them."""
    named = enumerate(sorted(outputs, key=lambda spec: spec.name))
    return {
        "inputs": {item.name: _describe(item, f"{SIGNATURE_NAME}_{item.name}:0") for item in inputs},
        "outputs": {spec.name: _describe(spec, f"StatefulPartitionedCall:{index}") for index, spec in named},
        "method_name": "tensorflow/serving/predict",
        "defaults": {},
    }


def _describe(item: TensorSpec | Field, tensor: str) -> dict[str, Any]:
    is_number = isinstance(item, TensorSpec) or item.kind in ("number", "tensor")
    dtype = _DTYPES.get(item.dtype, item.dtype.upper()) if is_number else "STRING"
    sizes = [-1, *(-1 if size is None else size for size in item.shape)]
    return {
        "dtype": f"DT_{dtype}",
        "tensor_shape": {"dim": [{"size": str(size), "name": ""} for size in sizes], "unknown_rank": False},
        "name": tensor,
    }


def _check_signature_name(parsed: Mapping[str, Any]) -> None:
    name = parsed.get("signature_name", "")
    if not isinstance(name, str):
        raise RequestError(
            f"'signature_name' key must be a string value. It is {kind_of(name)}.",
            expected="a string",
            received=kind_of(name),
        )
    check_signature_name(name)


def check_signature_name(name: str) -> None:
    """Checks which signature a request is for; empty stands for the default.

    Raises:
        RequestError: There is none of this name.
    """
    if name not in ("", SIGNATURE_NAME):
        raise RequestError(
            f'Serving signature name: "{name[:80]}" not found in signature def. The only one is {SIGNATURE_NAME}.'
            f"{suggest(name[:80], [SIGNATURE_NAME])}",
            expected=SIGNATURE_NAME,
            received=name[:80],
        )


def _weigh(value: Any) -> int:
    """Returns about how many bytes a value is as JSON, however deep it is."""
    size, left = 0, [value]
    while left:
        item = left.pop()
        size += 2 + (len(item) if isinstance(item, str) else 0)
        if isinstance(item, dict):
            left += chain(item, item.values())
        elif isinstance(item, list):
            left += item
    return size


def _are_raw(columns: dict[str, Any], features: Features, input_names: Collection[str]) -> bool:
    """Tells columns of raw features from ready tensors: by a name, else by a string or an object in one of them."""
    names = {field.name for field in features.fields}.difference(input_names)
    return not names.isdisjoint(columns) or any(
        isinstance(column, list) and not {dict, str}.isdisjoint(map(type, column)) for column in columns.values()
    )


def _to_rows(columns: dict[str, Any], check_count: Callable[[int], None]) -> list[dict[str, Any]]:
    """Turns `{"age": [22, 30], "sex": ["male", "female"]}` into an object for each example."""
    for name, column in columns.items():
        if not isinstance(column, list) or not column:
            received = "an empty list" if column == [] else kind_of(column)
            raise SignatureError(
                f"inputs.{name[:80]} is {received}; expected a list with one element for each example.",
                expected="a list",
                received=received,
            )
    sizes = {name[:80]: len(column) for name, column in columns.items()}
    if len(set(sizes.values())) > 1:
        received = ", ".join(f"{name}: {size}" for name, size in sizes.items())
        raise SignatureError(
            f"The inputs disagree on the number of examples ({received[:200]}); send the same number for each.",
            expected="one batch size",
            received=received[:200],
        )
    check_count(count_examples(columns))
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _fold(value: Any, shape: tuple[int | None, ...]) -> Any:
    if not shape:
        return value[0] if isinstance(value, list) and len(value) == 1 else value
    values = value if isinstance(value, list) else [value]
    inner = [size for size in shape[1:] if size]
    if len(inner) < len(shape) - 1 or list in map(type, values) or len(values) != math.prod(inner) * (shape[0] or 0):
        return values
    for size in reversed(inner):
        values = [values[start : start + size] for start in range(0, len(values), size)]
    return values


def _dump(content: dict[str, Any]) -> bytes:
    return orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)
