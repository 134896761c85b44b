"""Hostile `.tflite` files: operations from outside, and tables that point where nothing is."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ai_edge_litert import schema_py_generated as schema

from tests.artifact.guard.litert_by_hand import make_buffer, make_code, make_model, make_operator, pack
from tests.hostile.case import Cases, Place

CASES = Cases("litert")


def _make(place: Place, change: Callable[[Any], Any]) -> Path:
    model = make_model()
    changed = change(model)
    path = place.inside / "model.tflite"
    path.write_bytes(changed if isinstance(changed, bytes) else pack(model))
    return path


@CASES.spoil(_make)
def an_operation_of_somebodys_own(model: Any, place: Place) -> None:
    model.operatorCodes = [make_code(schema.BuiltinOperator.CUSTOM, b"Evil")]


@CASES.spoil(_make)
def an_operation_of_TensorFlow(model: Any, place: Place) -> None:
    model.operatorCodes = [make_code(schema.BuiltinOperator.CUSTOM, b"FlexWriteFile")]


@CASES.spoil(_make)
def an_operation_that_there_is_not(model: Any, place: Place) -> None:
    model.operatorCodes = [make_code(30_000)]


@CASES.spoil(_make)
def numbers_kept_in_another_file(model: Any, place: Place) -> None:
    group = schema.ExternalBufferGroupT()
    group.name = str(place.secret).encode()
    model.externalBufferGroups = [group]
    model.subgraphs[0].tensors[1].externalBuffer = 1


@CASES.spoil(_make)
def numbers_beyond_the_file(model: Any, place: Place) -> None:
    model.buffers[1].offset, model.buffers[1].size = 2**40, 48


@CASES.spoil(_make)
def fewer_numbers_than_there_should_be(model: Any, place: Place) -> None:
    model.buffers[1] = make_buffer(b"1234")


@CASES.spoil(_make)
def a_tensor_that_there_is_not(model: Any, place: Place) -> None:
    model.subgraphs[0].operators[0].inputs = [0, 1_000_000, 2]


@CASES.spoil(_make)
def a_buffer_that_there_is_not(model: Any, place: Place) -> None:
    model.subgraphs[0].tensors[1].buffer = 1_000_000


@CASES.spoil(_make)
def a_tensor_that_fills_the_memory(model: Any, place: Place) -> None:
    model.subgraphs[0].tensors[3].shape = [2**15, 2**15, 2**10]


@CASES.spoil(_make)
def a_graph_that_calls_itself(model: Any, place: Place) -> None:
    model.operatorCodes.append(make_code(schema.BuiltinOperator.WHILE))
    options = schema.WhileOptionsT()
    options.condSubgraphIndex = options.bodySubgraphIndex = 0
    model.subgraphs[0].operators.append(make_operator(1, [0], [3], options, schema.BuiltinOptions.WhileOptions))


@CASES.spoil(_make)
def a_signature_of_no_tensor(model: Any, place: Place) -> None:
    model.signatureDefs[0].inputs[0].tensorIndex = 77


@CASES.spoil(_make)
def sizes_below_zero(model: Any, place: Place) -> None:
    model.subgraphs[0].tensors[1].shape = [-3, -4]


@CASES.spoil(_make)
def tables_that_are_zeros(model: Any, place: Place) -> bytes:
    return b"\x1c\0\0\0TFL3" + bytes(4096)


@CASES.spoil(_make)
def tables_that_lie_in_front_of_the_file(model: Any, place: Place) -> bytes:
    return b"\xf0\xff\xff\xffTFL3" + b"\xff" * 256


@CASES.spoil(_make)
def a_file_that_was_cut(model: Any, place: Place) -> bytes:
    whole = pack(model)
    return whole[: len(whole) * 2 // 3]
