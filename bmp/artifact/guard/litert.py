"""`.tflite` files, looked through before LiteRT loads them: LiteRT itself follows the offsets of a file unchecked."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bmp.artifact.guard.flatbuffer import Table, check_tables, open_root
from bmp.artifact.guard.limits import Limits, check_file
from bmp.errors import ArtifactError, UnsafeError

_IDENTIFIER, _VERSION = b"TFL3", 3

LAYOUTS = {
    "Model": "4 [OperatorCode] [SubGraph] s [Buffer] [4] [Metadata] [SignatureDef] [ExternalBufferGroup] "
    "[ExternalBuffer]",
    "OperatorCode": "1 s 4 4",
    "SubGraph": "[Tensor] [4] [4] [Operator] s 4",
    "Tensor": "[4] 1 4 s QuantizationParameters 1 SparsityParameters [4] 1 [VariantSubType] 4",
    "QuantizationParameters": "[4] [4] [4] [8] 1 <QuantizationDetails> 4",
    "SparsityParameters": "[4] [4] [DimensionMetadata]",
    "DimensionMetadata": "1 4 1 <SparseIndexVector> 1 <SparseIndexVector>",
    "VariantSubType": "[4] 1 1",
    "Operator": "4 [4] [4] 1 <BuiltinOptions> [1] 1 [1] [4] 8 8 1 <BuiltinOptions2> 4",
    "Buffer": "[1] 8 8",
    "ExternalBufferGroup": "s",
    "ExternalBuffer": "4 4 8 8 s",
    "Metadata": "s 4",
    "SignatureDef": "[TensorMap] [TensorMap] s 0 4",
    "TensorMap": "s 4",
}
"""Tables of LiteRT's schema; see `flatbuffer`."""

_OPTIONS = """
- 1441441 1444144 4[4][4] 1 144441 411 11 11111[1] 4 41 11 1 4444 14411 0011 4 [4] 441 4 1 1 - 44 - - - 1 11 1
[4] 111 444441 - - 4 - 11 - - 1 - - - - - - - - 14411 1 - - - - 1 - 1 4441 44 - 4 - - 44 - - - - 144111 1111
144111 - - 11 4 - 1 - 4 1 - - - - - - 44 - - - - 44 44 4 - - - - - - 111 11 4 - - 14441444 411 - - - ss - - 88
[4] 1 - - - - - - - - - -
"""
_OPTIONS_2 = """
- 8 [8] [8][8][8] [8][8][8][8][1]88[8]88[8]88[8]88[4] s1s4[4][1] [8]4 1[8][8][8]814 44 [8] [8][8][8] 8
[8][8][8][8][4] [8][8][8][8][8]4 814 44 [8][8][8]8[8]1 [8] - 1 4 s4[1]14 - [4]
"""
UNIONS = {
    "BuiltinOptions": _OPTIONS.split(),
    "BuiltinOptions2": _OPTIONS_2.split(),
    "QuantizationDetails": ["-", "[1]", "444[4]", "444[4]"],
    "SparseIndexVector": ["-", "[4]", "[2]", "[1]"],
}

# fmt: off
_BITS = {
    0: 32, 1: 16, 2: 32, 3: 8, 4: 64, 6: 8, 7: 16, 8: 64, 9: 8, 10: 64, 11: 128, 12: 64, 15: 32, 16: 16, 17: 4, 18: 16,
    19: 2, 20: 4, 21: 8, 22: 8,
}
# fmt: on
"""Of one number of a tensor, by its type. Texts (5) and variants (14) are pointers of a kind, and refused."""
_RESOURCE = 13
_CUSTOM, _CALL, _DELEGATE, _PLACEHOLDER = 32, 31, 51, 127
_STABLEHLO = frozenset(range(162, 210)) - {203, 205, 206}
"""Operators that no LiteRT runs; 203, 205 and 206 are DILATE, REDUCE_WINDOW and STABLEHLO_COMPOSITE, which it does."""
_LAST_OPERATOR = 209
_SUBGRAPHS = {118: (0, 1), 119: (0, 1), 129: (0,)}
"""Which options of IF, WHILE and CALL_ONCE are numbers of other graphs."""
_COMPOSITE, _COMPOSITE_SLOT = 206, 1
_ABSENT = -1


def check_litert(path: Path, limits: Limits = Limits()) -> None:  # noqa: B008 - immutable
    """Checks a `.tflite` file: that all of it lies inside the file, and that it only computes.

    Args:
        path: To the file.
        limits: On sizes and counts.

    Raises:
        ArtifactError: It is no whole LiteRT model.
        UnsafeError: Loading it could do harm.
    """
    check_file(path, limits, "a .tflite file")
    content = path.read_bytes()
    try:
        root = open_root(content, _IDENTIFIER)
        check_tables(root, "Model", LAYOUTS, UNIONS, limits)
        _ModelCheck(root, len(content), limits).check()
    except UnsafeError as error:
        raise UnsafeError(
            f"{path.name} is refused: {error.message}", expected=error.expected, received=error.received
        ) from None
    except ArtifactError as error:
        raise ArtifactError(
            f"{path.name} is no whole LiteRT model: {error.message}", expected=error.expected, received=error.received
        ) from None


@dataclass(frozen=True)
class _Tensor:
    """What a tensor of a graph is.

    Args:
        size_bytes: At the shape in the file.
        is_held: Whether the file holds its numbers, or it has none.
        is_variable: Whether it keeps its numbers from run to run.
    """

    size_bytes: int
    is_held: bool
    is_variable: bool


class _ModelCheck:
    """What the tables of a model say about each other, once they lie inside the file.

    Args:
        root: Of the model.
        file_bytes: Of the file.
        limits: On sizes and counts.
    """

    def __init__(self, root: Table, file_bytes: int, limits: Limits) -> None:
        self._root, self._file_bytes, self._limits = root, file_bytes, limits
        self._buffers = [self._measure_buffer(buffer) for buffer in root.tables(4)]
        self._graphs = root.tables(2)
        self._computed_bytes = 0

    def check(self) -> None:
        version = self._root.number(0, "<I")
        if version != _VERSION or not self._graphs:
            raise ArtifactError(f"It is of version {version} with {len(self._graphs)} graphs.", expected="version 3")
        if self._root.tables(8) or self._root.tables(9):
            raise UnsafeError("It keeps numbers in other files.", expected="one file", received="external buffers")
        codes = [self._read_code(code) for code in self._root.tables(1)]
        self._check_metadata()
        calls = [set(self._check_graph(graph, number, codes)) for number, graph in enumerate(self._graphs)]
        _check_circles(calls)
        for signature in self._root.tables(7):
            self._check_signature(signature)

    def _measure_buffer(self, buffer: Table) -> int:
        offset, size = buffer.number(1, "<Q"), buffer.number(2, "<Q")
        if offset > 1:
            if offset + size > self._file_bytes:
                raise ArtifactError(f"A buffer of {size:,} bytes at {offset:,} lies outside of the file.")
            return size
        return buffer.span(0, 1)[1]

    def _read_code(self, code: Table) -> int:
        """Returns the number of an operator that is allowed."""
        number, custom = max(code.number(0, "<b"), code.number(3, "<i")), code.text(1)
        if number == _CUSTOM or custom:
            flex = " of TensorFlow, which runs inside it," if (custom or "").startswith("Flex") else ""
            raise UnsafeError(
                f"The operator '{_clean(custom or '')}'{flex} is none of LiteRT's own, and runs code of its own.",
                expected="LiteRT's own operators",
                received=_clean(custom or "CUSTOM"),
            )
        if number < 0 or number > _LAST_OPERATOR or number in {_CALL, _DELEGATE, _PLACEHOLDER, *_STABLEHLO}:
            raise UnsafeError(f"It uses the operator {number}, which LiteRT does not run.", received=str(number))
        return number

    def _check_metadata(self) -> None:
        for entry in self._root.tables(6):
            self._check_index("A buffer of metadata", entry.number(1, "<I"), len(self._buffers))
            if entry.text(0) == "min_runtime_version" and not self._holds_text(entry.number(1, "<I")):
                raise ArtifactError("The version of LiteRT that it asks for is a text without an end.")
        for index in self._root.numbers(5, "<i4"):
            self._check_index("A buffer of metadata", int(index), len(self._buffers))

    def _holds_text(self, buffer: int) -> bool:
        """Whether a buffer ends its text itself; LiteRT would read on."""
        return bool((self._root.tables(4)[buffer].numbers(0, "u1") == 0).any())

    def _check_graph(self, graph: Table, number: int, codes: Sequence[int]) -> Iterator[int]:
        """Checks one graph, and yields the numbers of those it calls."""
        tensors = [self._read_tensor(tensor) for tensor in graph.tables(0)]
        inputs, outputs = _indices(graph, 1), _indices(graph, 2)
        for index in (*inputs, *outputs):
            self._check_index("An input or output of a graph", index, len(tensors))
        ready = {place for place, tensor in enumerate(tensors) if tensor.is_held or tensor.is_variable} | set(inputs)
        for operator in graph.tables(3):
            self._check_index("The operator of a node", operator.number(0, "<I"), len(codes))
            self._check_node(operator, tensors, ready)
            yield from self._find_calls(operator, codes[operator.number(0, "<I")])
        if not ready.issuperset(outputs):
            raise ArtifactError(f"An output of graph {number} is computed nowhere.")

    def _check_node(self, operator: Table, tensors: Sequence[_Tensor], ready: set[int]) -> None:
        inputs = [index for index in _indices(operator, 1) if index != _ABSENT]
        outputs, between = _indices(operator, 2), [index for index in _indices(operator, 8) if index != _ABSENT]
        for index in (*inputs, *outputs, *between):
            self._check_index("A tensor of a node", index, len(tensors))
        if not ready.issuperset(inputs):
            raise ArtifactError("A node takes a tensor that nothing has computed before.")
        if any(tensors[index].is_held and tensors[index].size_bytes for index in outputs):
            raise ArtifactError("A node writes over a constant.")
        if operator.number(9, "<Q") or operator.number(10, "<Q"):
            raise UnsafeError("A node has options beside the model, as only operators of other makers have.")
        ready.update(outputs)

    def _find_calls(self, operator: Table, code: int) -> Iterator[int]:
        options, slots, type_code = operator.table(4), _SUBGRAPHS.get(code, ()), "<i"
        if code == _COMPOSITE:
            options, slots = operator.table(12), (_COMPOSITE_SLOT,)
        for slot in slots:
            called = options.number(slot, type_code) if options else 0
            self._check_index("A graph that a node calls", called, len(self._graphs))
            yield called

    def _read_tensor(self, tensor: Table) -> _Tensor:
        shape, kind = [int(size) for size in tensor.numbers(0, "<i4")], tensor.number(1, "<b")
        buffer = tensor.number(2, "<I")
        self._check_index("The buffer of a tensor", buffer, len(self._buffers))
        if any(size < 0 for size in shape) or len(shape) > self._limits.depth:
            raise ArtifactError(f"A tensor has the shape {shape[:10]}.")
        if tensor.table(6) is not None:
            raise UnsafeError("A tensor is stored sparsely, in a way that LiteRT unpacks unchecked.")
        if tensor.number(10, "<I"):
            raise UnsafeError("A tensor keeps its numbers in another file.")
        size = self._measure(shape, kind)
        held = self._buffers[buffer]
        if held and held != size:
            raise ArtifactError(
                f"A tensor of shape {shape[:10]} takes {size:,} bytes, and the file holds {held:,} for it.",
                expected=f"{size:,} bytes",
                received=f"{held:,} bytes",
            )
        self._check_quantization(tensor, shape)
        if not held:
            self._computed_bytes += size
            if self._computed_bytes > self._limits.size_bytes:
                raise UnsafeError(f"Its tensors take more than {self._limits.size_bytes:,} bytes.")
        return _Tensor(size, bool(held) or not size, bool(tensor.number(5, "<?")))

    def _measure(self, shape: Sequence[int], kind: int) -> int:
        if kind == _RESOURCE:
            return 8
        if kind not in _BITS:
            raise UnsafeError(f"A tensor is of type {kind}, which is no array of numbers.", expected="numbers")
        count = 1
        for size in shape:
            count *= size
        return -(-count * _BITS[kind] // 8)

    def _check_quantization(self, tensor: Table, shape: Sequence[int]) -> None:
        quantization = tensor.table(4)
        if quantization is None:
            return
        scales, zeros = quantization.span(2, 4)[1], quantization.span(3, 8)[1]
        axis = quantization.number(6, "<i")
        fits = scales < 2 or (0 <= axis < len(shape) and scales == shape[axis])
        if not fits or zeros not in (0, 1, scales) or quantization.number(4, "<B"):
            raise ArtifactError(f"A tensor of shape {list(shape)[:10]} has {scales:,} scales along axis {axis}.")

    def _check_signature(self, signature: Table) -> None:
        number = signature.number(4, "<I")
        self._check_index("The graph of a signature", number, len(self._graphs))
        count = self._graphs[number].span(0, 4)[1]
        for entry in (*signature.tables(0), *signature.tables(1)):
            self._check_index("A tensor of a signature", entry.number(1, "<I"), count)
            if entry.text(0) is None:
                raise ArtifactError("A tensor of a signature has no name.")
        if signature.text(2) is None:
            raise ArtifactError("A signature has no name.")

    def _check_index(self, what: str, index: int, count: int) -> None:
        if not 0 <= index < count:
            raise ArtifactError(f"{what} is number {index:,} of {count:,}.")


def _indices(table: Table, slot: int) -> list[int]:
    return [int(index) for index in table.numbers(slot, "<i4")]


def _check_circles(calls: list[set[int]]) -> None:
    """Checks that no graph calls itself by way of others."""
    left = dict(enumerate(calls))
    while left:
        ended = {number for number, called in left.items() if not called & left.keys()}
        if not ended:
            raise UnsafeError(f"Graph {next(iter(left))} calls itself.")
        left = {number: called for number, called in left.items() if number not in ended}


def _clean(text: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in text)[:80]
