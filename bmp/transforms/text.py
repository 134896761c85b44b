"""Text cut into tokens."""

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Literal, Self

import numpy as np
from pydantic import PositiveInt, model_validator

from bmp.errors import DataError
from bmp.transforms.base import Columns, Field, Fields, Step, Texts, stack_examples
from bmp.transforms.tokens import PADDING, SPECIAL, Bpe, Bytes, Characters, Tokenizer, Words


class Tokenize(Step):
    """A text becomes tokens, int32 `(length,)`: 0 is padding (at the end), 1 an unknown token.

    See `bmp.transforms.tokens` for what a token is. A language model's source uses the same step without padding:
    `encode`, `decode` and `labels`.
    """

    kind: Literal["tokenize"] = "tokenize"
    field: str
    """A text."""
    tokenizer: Literal["characters", "bytes", "words", "bpe"] = "characters"
    length: PositiveInt
    """Tokens of an example; shorter texts are padded, longer ones cut."""
    keep: Literal["start", "end"] = "start"
    """Which part of a longer text is kept; the end, where a language model goes on from it."""
    vocabulary_size: PositiveInt | None = None
    """Tokens at most, with padding and unknown; `bpe` needs it, `bytes` always has 258, None keeps all that occur."""
    vocabulary: Texts | None = None
    """Fitted; the characters or words, from token 2 on."""
    bpe: str | None = None
    """Fitted; the description that the `tokenizers` package makes and reads."""

    @model_validator(mode="after")
    def _is_possible(self) -> Self:
        size = self.vocabulary_size
        if self.tokenizer == "bytes" and size is not None:
            raise ValueError("vocabulary_size is always 258 for bytes; leave it out")
        if self.tokenizer == "bpe" and (size is None or size < len(Bytes.labels)):
            raise ValueError(f"vocabulary_size must be given for bpe, {len(Bytes.labels)} or more")
        if size is not None and size <= len(SPECIAL):
            raise ValueError(f"vocabulary_size must be more than {len(SPECIAL)}: padding, unknown and some tokens")
        if self.bpe is not None and self.tokenizer != "bpe":
            raise ValueError(f"bpe is not for the tokenizer {self.tokenizer}")
        if self.vocabulary is not None:
            self._check_vocabulary(self.vocabulary)
        if self.is_fitted:
            self.build_tokenizer()
        return self

    def _check_vocabulary(self, vocabulary: tuple[str, ...]) -> None:
        if self.tokenizer not in ("characters", "words"):
            raise ValueError(f"vocabulary is not for the tokenizer {self.tokenizer}")
        if not vocabulary or len(set(vocabulary)) < len(vocabulary):
            raise ValueError("vocabulary must hold different texts, at least one")
        if self.tokenizer == "characters" and any(len(character) != 1 for character in vocabulary):
            raise ValueError("vocabulary must hold single characters")

    @property
    def is_fitted(self) -> bool:
        """Whether the tokens are known."""
        return {"bytes": True, "bpe": self.bpe is not None}.get(self.tokenizer, self.vocabulary is not None)

    def build_tokenizer(self) -> Tokenizer:
        """Returns what cuts texts; the step is fitted."""
        if self.tokenizer == "bytes":
            return Bytes()
        if self.tokenizer == "bpe":
            assert self.bpe is not None, "not fitted"
            return Bpe(self.bpe)
        assert self.vocabulary is not None, "not fitted"
        return Characters(self.vocabulary) if self.tokenizer == "characters" else Words(self.vocabulary)

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        return self.build_tokenizer()

    @property
    def labels(self) -> tuple[str, ...]:
        """The text of each token, by its number."""
        return self._tokenizer.labels

    def encode(self, text: str) -> np.ndarray:
        """Returns all tokens of a text, int32 `(n,)`, neither padded nor cut.

        Raises:
            DataError: The text is no Unicode.
        """
        return self._tokenizer.encode(text)

    def decode(self, tokens: Sequence[int] | np.ndarray) -> str:
        """Returns the text of tokens; padding is left out, and what was unknown becomes U+FFFD."""
        return self._tokenizer.decode(tokens)

    def plan(self, fields: Fields) -> Fields:
        """The text becomes tokens, which know how many there are."""
        self.find(fields, self.field, "text")
        size = len(self.labels) if self.is_fitted else 0
        return fields | {self.field: Field(self.field, "tensor", "int32", (self.length,), size)}

    def fit(self, batches: Iterable[Columns]) -> Self:
        """One pass over the texts; not needed for bytes.

        Raises:
            DataError: There is no text to fit to, or one is no Unicode.
        """
        if self.tokenizer == "bytes":
            return self
        texts = (text for columns in batches for text in columns[self.field])
        if self.tokenizer == "bpe":
            assert self.vocabulary_size is not None
            return self.model_copy(update={"bpe": Bpe.fit(texts, self.vocabulary_size)})
        kind = Characters if self.tokenizer == "characters" else Words
        size = None if self.vocabulary_size is None else self.vocabulary_size - len(SPECIAL)
        vocabulary = kind.fit(texts, size)
        if not vocabulary:
            raise DataError(f"The feature '{self.field}' holds no text in the training split to find {kind} in.")
        return self.model_copy(update={"vocabulary": vocabulary})

    def run(self, columns: Columns) -> Columns:
        """Texts `(N,)` in, int32 `(N, length)` out.

        Raises:
            DataError: A text is no Unicode.
        """
        return columns | {self.field: stack_examples(self.field, columns[self.field], self._run_text)}

    def _run_text(self, text: str) -> np.ndarray:
        tokens = self.encode(text)
        tokens = tokens[: self.length] if self.keep == "start" else tokens[-self.length :]
        return np.pad(tokens, (0, self.length - len(tokens)), constant_values=PADDING)
