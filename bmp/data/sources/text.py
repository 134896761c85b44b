"""Running text for language models: windows of tokens, each with the token that comes next."""

from collections.abc import Iterable
from hashlib import blake2b
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field as Setting
from pydantic import PositiveInt, ValidationError

from bmp.data.source import Source, Target
from bmp.data.sources.growing import Growing
from bmp.errors import ConfigError, DataError
from bmp.transforms import Columns, Field
from bmp.transforms.text import Tokenize

Share = Annotated[float, Setting(gt=0, lt=1)]

_NAME = "text"
_PIECE_CHARACTERS = 1 << 22


class TextSource(Source):
    """Windows over the three parts of a text; none crosses from one part into another.

    A training window starts at every token; validation and test windows follow each other without overlap.

    Args:
        parts: Tokens of train, validation and test, int32 `(n,)` each.
        context: Tokens of a window.
        step: The fitted tokenizer.
        path: Of the text, for messages.

    Raises:
        DataError: A part holds no whole window.
    """

    overlaps = True

    def __init__(self, parts: dict[str, np.ndarray], context: int, step: Tokenize, path: str) -> None:
        self.fields = (Field(_NAME, "tensor", "int32", (context,), len(step.labels)),)
        self.target = Target("tokens", step.labels, context)
        self.serving_fields = (Field(_NAME, "text"),)
        self.serving_steps = (step,)
        self._parts = list(parts.values())
        self._context = context
        self._path = path
        self._strides = [1 if name == "train" else context for name in parts]
        counts = []
        for (name, tokens), stride in zip(parts.items(), self._strides, strict=True):
            if len(tokens) <= context:
                raise DataError(
                    f"The {name} part of {path} has {len(tokens):,} tokens; a window takes {context + 1:,}, with the "
                    "token that comes next. Use a longer text, a smaller args.context or a larger part."
                )
            counts.append((len(tokens) - context - 1) // stride + 1)
        self._starts = np.cumsum([0, *counts])
        self.given = {
            name: np.arange(start, end, dtype=np.int64)
            for name, start, end in zip(parts, self._starts, self._starts[1:], strict=False)
        }
        self._identity = _hash_tokens(self._parts)

    def __len__(self) -> int:
        return int(self._starts[-1])

    def read(self, index: np.ndarray) -> Columns:
        """Returns windows, int32 `(n, context)`."""
        return {_NAME: self._cut(index, 0)}

    def read_targets(self, index: np.ndarray) -> np.ndarray:
        """Returns the same windows one token later, int32 `(n, context)`."""
        return self._cut(index, 1)

    def _cut(self, index: np.ndarray, shift: int) -> np.ndarray:
        windows = np.empty((len(index), self._context), np.int32)
        span = np.arange(self._context) + shift
        for part, tokens in enumerate(self._parts):
            inside = (self._starts[part] <= index) & (index < self._starts[part + 1])
            begins = (index[inside] - self._starts[part]) * self._strides[part]
            windows[inside] = tokens[begins[:, None] + span]
        return windows

    def where(self, number: int) -> str:
        """Returns part and token, counted from 0."""
        part = int(np.searchsorted(self._starts, number, side="right")) - 1
        start = (number - self._starts[part]) * self._strides[part]
        return f"{self._path}, {list(self.given)[part]} part, token {start:,}"

    def read_hashes(self, index: np.ndarray) -> np.ndarray:
        """Returns what identifies windows: the digest of all tokens, and the number of the window in it."""
        hashes = np.empty((len(index), 16), np.uint8)
        hashes[:, :8] = np.frombuffer(self._identity, np.uint8)
        hashes[:, 8:] = index.astype("<i8")[:, None].view(np.uint8)
        return hashes


def load_text(
    *,
    path: str,
    context: PositiveInt,
    tokenizer: Literal["characters", "bytes", "words", "bpe"] = "characters",
    vocabulary_size: PositiveInt | None = None,
    validation: Share = 0.05,
    test: Share = 0.05,
) -> Source:
    """Reads a text in UTF-8 and cuts it into windows of tokens for a language model.

    Args:
        path: A file, or a folder whose .txt files are put one behind the other in the order of their names.
        context: Tokens of a window.
        tokenizer: What a token is; fitted on the training part alone.
        vocabulary_size: Tokens at most; see the transform `tokenize`.
        validation: Share of the text, in the middle, that choices are made on.
        test: Share of the text, at its end, that is measured once.

    The parts are cut at the end of a line where there is one nearby. What is left at the end of the validation and of
    the test part, less than a window, is not used.

    Raises:
        ConfigError: The tokenizer cannot be as asked for, or the shares leave no training part.
        DataError: There is no such file, it is no UTF-8, or too short.
    """
    if validation + test >= 1:
        raise ConfigError(f"args.validation {validation:g} and args.test {test:g} leave no training part.")
    text = "\n".join(_read(file) for file in _find(path))
    ends = [_find_cut(text, 1 - validation - test), _find_cut(text, 1 - test), len(text)]
    texts = dict(zip(("train", "validation", "test"), _cut(text, ends), strict=True))
    step = _build_step(context, tokenizer, vocabulary_size).fit([{_NAME: np.array([texts["train"]], object)}])
    return TextSource({name: _encode(step, part) for name, part in texts.items()}, context, step, path)


def _build_step(context: int, tokenizer: str, vocabulary_size: int | None) -> Tokenize:
    try:
        return Tokenize.model_validate(
            {
                "field": _NAME,
                "tokenizer": tokenizer,
                "length": context,
                "keep": "end",
                "vocabulary_size": vocabulary_size,
            }
        )
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        raise ConfigError(f"args.vocabulary_size: {problem['msg'].removeprefix('Value error, ')}.") from error


def _find(path: str) -> list[Path]:
    place = Path(path)
    if place.is_file():
        return [place]
    files = sorted(file for file in place.rglob("*.txt") if file.is_file() and not file.name.startswith("."))
    if not files:
        raise DataError(
            f"There is no text at {path}. Name yours with data.args.path.",
            expected="a file, or a folder of .txt files",
            received=path,
        )
    return files


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{file} is no text in UTF-8: byte {error.start:,} is {error.object[error.start]:#04x}."
        ) from error


def _find_cut(text: str, share: float) -> int:
    """Returns where a part ends: behind the line that holds the place, or there if the line is long."""
    place = round(len(text) * share)
    line_end = text.find("\n", place, place + max(1, len(text) // 100))
    return place if line_end < 0 else line_end + 1


def _cut(text: str, ends: Iterable[int]) -> list[str]:
    parts, start = [], 0
    for end in ends:
        parts.append(text[start:end])
        start = end
    return parts


def _encode(step: Tokenize, text: str) -> np.ndarray:
    """Returns all tokens of a text; those of a long one go to a file, not to memory."""
    tokens = Growing("int32")
    start = 0
    while start < len(text):
        line_end = text.find("\n", start + _PIECE_CHARACTERS)
        end = len(text) if line_end < 0 else line_end + 1
        tokens.append(step.encode(text[start:end]))
        start = end
    return tokens.finish()


def _hash_tokens(parts: Iterable[np.ndarray]) -> bytes:
    content = blake2b(digest_size=8)
    for tokens in parts:
        content.update(len(tokens).to_bytes(8, "little"))
        content.update(np.ascontiguousarray(tokens, "<i4").data)
    return content.digest()
