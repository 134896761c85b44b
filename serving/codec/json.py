"""JSON to arrays and back: strict about types, exact about what is wrong.

There are two ways in, with one verdict. The fast one takes the usual body, one key with a rectangle of
numbers: simdjson parses it, and the brackets of the body, or its skeleton (what is left when digits and spaces are
taken out), prove the rectangle. Everything else takes the exact one, which walks the value and can say where it is
wrong.
"""

import gc
import threading
from codecs import BOM_UTF8
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from typing import Any, NamedTuple, cast

import numpy as np
import orjson
import simdjson

from bmp.errors import RequestError, SignatureError, suggest
from bmp.signature import Arrays, Signature, TensorSpec, explain_unknown_input
from bmp.transforms.labels import Ranked

INPUT_KEYS = ("x_test", "instances")
_KNOWN_KEYS = (*INPUT_KEYS, "model", "version", "alias", "quality", "top_k")
_EXAMPLE = '{"x_test": [[…], …]}'
_NUMBER_BYTES = b"0123456789+-.eE \t\r\n"
_MAX_FAST_ROWS = 64
_MAX_RANK = 32
_MAX_KEPT_BYTES = 2**20
_local = threading.local()  # a simdjson parser serves one document at a time
_ACCEPTED_TYPES: dict[str, set[type]] = {"f": {int, float}, "i": {int}, "u": {int}, "b": {bool}}
_WANTED = {"f": "a number", "i": "a whole number", "u": "a whole number", "b": "true or false"}
_KIND = {type(None): "null", bool: "a boolean", str: "a string", dict: "an object", list: "an array"}


@dataclass(frozen=True)
class Request:
    """The body of a prediction request, before its inputs have met a signature.

    Args:
        key: The key the inputs came under.
        inputs: As JSON gave them.
        model: Name of the model, if given.
        version: Its version, if given.
        top_k: How many labels are wanted with their probabilities, if any.
        alias: What names its version, if given.
        quality: Which variant of the version is wanted, if given.
    """

    key: str
    inputs: Any
    model: str | None = None
    version: int | None = None
    top_k: int | None = None
    alias: str | None = None
    quality: str | None = None

    def to_arrays(self, signature: Signature) -> Arrays:
        """Returns `(B, *shape)` by input name; the signature's own check is still to come.

        Raises:
            SignatureError: The inputs are no rectangles of numbers that fit the dtypes.
        """
        names = [spec.name for spec in signature.inputs]
        if isinstance(self.inputs, list) and self.inputs and isinstance(self.inputs[0], dict):
            return _rows_to_arrays(self.inputs, signature, self.key)
        if not isinstance(self.inputs, dict):
            if len(names) > 1:
                raise SignatureError(
                    f"The model has {len(names)} inputs; expected an object with {', '.join(names)} under "
                    f"'{self.key}'.",
                    expected=f"an object with {', '.join(names)}",
                    received=kind_of(self.inputs),
                )
            return {names[0]: to_array(self.inputs, signature.inputs[0], self.key)}
        _check_names(self.inputs, names)
        return {
            spec.name: to_array(self.inputs[spec.name], spec, f"{self.key}.{spec.name}")
            for spec in signature.inputs
            if spec.name in self.inputs
        }


class Rectangle(NamedTuple):
    """A body that the fast way has read.

    Args:
        key: The key the inputs came under.
        arrays: `(B, *shape)` by input name.
    """

    key: str
    arrays: Arrays


def parse_object(body: bytes, example: str) -> dict[str, Any]:
    """Reads a body that has to be one JSON object.

    Args:
        body: As it came.
        example: Of a good one, for the error.

    Raises:
        RequestError: It is not JSON, or no object.
    """
    try:
        with collector_paused():
            parsed = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise RequestError(
            f"The body is not valid JSON: {error.msg} (line {error.lineno}, column {error.colno}).",
            expected=example,
            received="invalid JSON" if body else "an empty body",
        ) from None
    if not isinstance(parsed, dict):
        raise RequestError(
            f"The body is {kind_of(parsed)}; expected an object such as {example}.",
            expected=example,
            received=kind_of(parsed),
        )
    return parsed


def decode_request(body: bytes) -> Request:
    """Reads `{"x_test": …}` or `{"instances": …}`, with an optional model, version or alias, quality, and top_k.

    Raises:
        RequestError: Not JSON, not an object, no inputs, an unknown key, or another of them of a wrong type.
    """
    parsed = parse_object(body, _EXAMPLE)
    for key in parsed:
        if key not in _KNOWN_KEYS:
            raise RequestError(
                f"The body has the unknown key '{key[:80]}'; known are {', '.join(_KNOWN_KEYS)}."
                f"{suggest(key[:80], _KNOWN_KEYS)}",
                expected=", ".join(_KNOWN_KEYS),
                received=key[:80],
            )
    given = [key for key in INPUT_KEYS if key in parsed]
    if len(given) != 1:
        raise RequestError(
            f"The body holds {' and '.join(given) or 'no inputs'}; expected exactly one of "
            f"{' and '.join(INPUT_KEYS)}, such as {_EXAMPLE}.",
            expected=_EXAMPLE,
            received=", ".join(parsed) or "an empty object",
        )
    model, version, top_k, alias, quality = map(parsed.get, ("model", "version", "top_k", "alias", "quality"))
    _check_type("model", model, str, "a string, the name of a model")
    _check_type("version", version, int, "a whole number")
    _check_type("top_k", top_k, int, "a whole number, how many labels are wanted")
    _check_type("alias", alias, str, "a string, an alias of the model")
    _check_type("quality", quality, str, "a string, the quality that is wanted")
    return Request(given[0], parsed[given[0]], model, version, top_k, alias, quality)


def decode_rectangle(body: bytes, signature: Signature, keys: Sequence[str] = INPUT_KEYS) -> Rectangle | None:
    """Reads the usual body, fast: one key, one float input, a rectangle of numbers of the right width.

    Args:
        body: As it came.
        signature: What the model takes.
        keys: Those that inputs may come under.

    Returns:
        What `decode_request` and `Request.to_arrays` would return for the same body, or None for a body that
        is theirs to judge.
    """
    spec = signature.sole_floats
    if spec is None:
        return None
    shape = cast("tuple[int, ...]", spec.shape)  # which has no free size
    try:
        document = _choose_parser(len(body)).parse(body)
        (key,) = document.keys()
        rows = document[key]
        if key not in keys or not _is_rectangle(rows, shape, key, body):
            return None
        numbers = np.frombuffer(rows.as_buffer(of_type="d"))
        with np.errstate(over="raise"):  # JSON's numbers are finite; they stay so unless float32 is too small
            array = numbers.astype(spec.dtype).reshape(len(rows), *shape)
    except (ValueError, TypeError, RuntimeError, AttributeError, FloatingPointError):
        return None  # whatever is unusual, for whatever reason, is the exact way's to explain
    return Rectangle(key, {spec.name: array})


def encode_prediction(outputs: Arrays, top_k: list[Ranked] | None = None) -> bytes:
    """Writes `{"prediction": [[…], …]}`; an object of outputs by name where there are several.

    Args:
        outputs: `(B, *shape)` by name.
        top_k: The likeliest labels of each example, if they are wanted: they stand beside the prediction.
    """
    prediction = next(iter(outputs.values())) if len(outputs) == 1 else outputs
    answer: dict[str, Any] = {"prediction": prediction}
    if top_k is not None:  # float32, so that a probability reads as it does in the prediction
        answer["top_k"] = [
            [{"label": label, "probability": np.float32(probability)} for label, probability in ranked]
            for ranked in top_k
        ]
    return orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)


def to_array(value: Any, spec: TensorSpec, where: str) -> np.ndarray:
    """Turns nested lists into an array, converting nothing that is not a number of the right kind.

    Args:
        value: As JSON gave it.
        spec: Gives the dtype; the shape is not checked here.
        where: The place in the body, as an error names it; `[*]` in it stands for the index of an example.

    Raises:
        SignatureError: Not lists, ragged, too deep, or an element that is no number of this dtype.
    """
    if not isinstance(value, list):
        raise SignatureError(
            f"{where} is {kind_of(value)}; expected a list of examples, {spec}.",
            expected=str(spec),
            received=kind_of(value),
        )
    with collector_paused():
        return _to_array(value, spec, where)


def _to_array(value: list[Any], spec: TensorSpec, where: str) -> np.ndarray:
    leaves, rank = value, 1
    while leaves and set(map(type, leaves)) == {list}:
        if len(set(map(len, leaves))) > 1 or rank == _MAX_RANK:
            raise _explain(value, spec, where)
        leaves, rank = list(chain.from_iterable(leaves)), rank + 1
    if not set(map(type, leaves)) <= _accepted_types(spec):
        raise _explain(value, spec, where)
    try:
        with np.errstate(over="ignore"):
            array = np.array(value, dtype=spec.dtype)
    except OverflowError:
        raise _out_of_range(spec, where) from None
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise _out_of_range(spec, _to_place(where, tuple(np.argwhere(~np.isfinite(array))[0])))
    return array


@contextmanager
def collector_paused() -> Iterator[None]:
    """Keeps Python from looking for cycles, which lists of numbers have none of, each time that many were made.

    Of a body with millions of lists, it would look at all of them again and again.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _rows_to_arrays(rows: list[Any], signature: Signature, key: str) -> Arrays:
    """Turns examples that name the inputs, each an object, into one array for each input."""
    names = [spec.name for spec in signature.inputs]
    for index, row in enumerate(rows):
        place = f"{key}[{index}]"
        if not isinstance(row, dict):
            raise SignatureError(
                f"{place} is {kind_of(row)}, but its neighbours are objects; expected an object with "
                f"{', '.join(names)}.",
                expected="an object",
                received=kind_of(row),
            )
        _check_names(row, names, f"{place}: ")
        for spec in signature.inputs:
            if spec.name not in row:
                raise SignatureError(
                    f"{place}.{spec.name} is missing; expected {spec}.", expected=str(spec), received="nothing"
                )
    return {
        spec.name: to_array([row[spec.name] for row in rows], spec, f"{key}[*].{spec.name}")
        for spec in signature.inputs
    }


def _check_names(given: Iterable[str], names: Sequence[str], place: str = "") -> None:
    for name in given:
        if name not in names:
            raise explain_unknown_input(name, names, place)


def _choose_parser(size_bytes: int) -> Any:
    """Returns a parser: the same again, unless the body is large, for a parser keeps what the largest one took."""
    if size_bytes > _MAX_KEPT_BYTES:
        return simdjson.Parser()
    try:
        return _local.parser
    except AttributeError:
        _local.parser = simdjson.Parser()
        return _local.parser


def _is_rectangle(rows: Any, shape: tuple[int, ...], key: str, body: bytes) -> bool:
    """Tells whether lists of numbers have the shape of a batch; that they hold nothing else shows when they are read.

    Args:
        rows: As simdjson has them.
        shape: Of one example.
        key: That they stand under, with nothing beside it.
        body: They are in it.
    """
    count = len(rows)
    if not 0 < count <= _MAX_FAST_ROWS or body.startswith(BOM_UTF8):  # simdjson would let the mark pass
        return False
    if len(shape) > 1:
        return body.translate(None, _NUMBER_BYTES) == _skeleton(key, count, shape)
    for row in rows:
        if len(row) != shape[0]:
            return False
    return not _holds_more_lists(body, count + 1)


def _holds_more_lists(body: bytes, count: int) -> bool:
    """Tells whether there are more opening brackets than so many; as many there are."""
    position = -1
    for _ in range(count):
        position = body.index(b"[", position + 1)
    return body.find(b"[", position + 1) >= 0


def _skeleton(key: str, rows: int, shape: tuple[int, ...]) -> bytes:
    """What a body of this shape looks like once the bytes of numbers are taken out, the key's included."""
    examples = b",".join([_example_skeleton(shape)] * rows)
    return b'{"' + key.encode().translate(None, _NUMBER_BYTES) + b'":[' + examples + b"]}"


@lru_cache(maxsize=64)  # one for each kind of input; of all of a body, many would take much memory
def _example_skeleton(shape: tuple[int, ...]) -> bytes:
    piece = b"," * (shape[-1] - 1)
    for size in (*reversed(shape[:-1]), 1):
        piece = b",".join([b"[" + piece + b"]"] * size)
    return piece


def _accepted_types(spec: TensorSpec) -> set[type]:
    return _ACCEPTED_TYPES.get(np.dtype(spec.dtype).kind, set())


def _explain(value: list[Any], spec: TensorSpec, where: str) -> SignatureError:
    """Finds the first place, in reading order, where nested lists stop being a rectangle of numbers."""
    shape = _first_shape(value)

    def search(node: Any, path: tuple[int, ...]) -> SignatureError | None:
        depth = len(path)
        place = _to_place(where, path)
        if depth == len(shape):
            if type(node) in _accepted_types(spec):
                return None
            received, wanted = kind_of(node), _WANTED.get(np.dtype(spec.dtype).kind, spec.dtype)
            return SignatureError(
                f"{place} is {received}; expected {wanted} for {spec}.", expected=spec.dtype, received=received
            )
        if not isinstance(node, list):
            return SignatureError(
                f"{place} is {kind_of(node)}, but its neighbours are lists; expected {spec}.",
                expected=str(spec),
                received=kind_of(node),
            )
        if len(node) != shape[depth]:
            return SignatureError(
                f"{place} has {len(node)} elements, but its neighbours have {shape[depth]}; expected {spec}.",
                expected=f"{shape[depth]} elements",
                received=f"{len(node)} elements",
            )
        return next(filter(None, (search(child, (*path, index)) for index, child in enumerate(node))), None)

    too_deep = SignatureError(
        f"{where} is nested more than {_MAX_RANK} lists deep; expected {spec}.",
        expected=str(spec),
        received=f"over {_MAX_RANK} levels",
    )
    return too_deep if len(shape) >= _MAX_RANK else search(value, ()) or too_deep


def _first_shape(value: Any) -> tuple[int, ...]:
    """Returns the shape that the first element of each level suggests, down to the rank that is accepted."""
    shape: list[int] = []
    while isinstance(value, list) and len(shape) < _MAX_RANK:
        shape.append(len(value))
        if not value:
            break
        value = value[0]
    return tuple(shape)


def _to_place(where: str, index: tuple[Any, ...]) -> str:
    """Returns `x[0][2]` for `x`, and `instances[0].x[2]` for `instances[*].x`."""
    steps = [f"[{int(step)}]" for step in index]
    if steps and "[*]" in where:
        where, steps = where.replace("[*]", steps[0], 1), steps[1:]
    return where + "".join(steps)


def _out_of_range(spec: TensorSpec, where: str) -> SignatureError:
    return SignatureError(
        f"{where} holds a number that {spec.dtype} cannot represent.",
        expected=spec.dtype,
        received="out of range",
    )


def _check_type(key: str, value: Any, wanted: type, description: str) -> None:
    if value is not None and type(value) is not wanted:
        raise RequestError(
            f"'{key}' is {kind_of(value)}; expected {description}.", expected=description, received=kind_of(value)
        )


def kind_of(value: Any) -> str:
    """Returns what a value of JSON is called in a message."""
    return _KIND.get(type(value), "a number")
