"""Tokenizers: text to whole numbers and back. 0 is padding, 1 an unknown token, the others follow.

What a token is never depends on a table of Unicode that TensorFlow and Python could have in different editions.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from bmp.errors import DataError
from bmp.transforms.streams import BoundedCounter

PADDING, UNKNOWN = 0, 1
SPECIAL = ("<pad>", "<unk>")

_CHUNK_CHARACTERS = 1 << 20
_WORD = re.compile(rb"[0-9a-z\x80-\xff]+|[!-/:-@\[-`{-~]")  # of lower-cased UTF-8
_SAFE_CUT = re.compile(r"\S\n(?=\S)")


class Tokenizer(ABC):
    """Text to tokens and back.

    Attributes:
        labels: The text of each token, by its number.
    """

    labels: tuple[str, ...]

    @abstractmethod
    def encode(self, text: str) -> np.ndarray:
        """Returns the tokens of a text of any length, int32 `(n,)`.

        Raises:
            DataError: The text is no Unicode: it holds half of a surrogate pair.
        """

    @abstractmethod
    def decode(self, tokens: Sequence[int] | np.ndarray) -> str:
        """Returns the text of tokens; padding is left out, and what was unknown becomes U+FFFD."""


class Bytes(Tokenizer):
    """The bytes of UTF-8: 256 tokens, nothing unknown, nothing to fit."""

    labels = (*SPECIAL, *(chr(byte) if byte < 128 else f"<0x{byte:02X}>" for byte in range(256)))

    def encode(self, text: str) -> np.ndarray:
        """Each byte plus 2."""
        return np.frombuffer(_encode(text, "utf-8"), np.uint8).astype(np.int32) + len(SPECIAL)

    def decode(self, tokens: Sequence[int] | np.ndarray) -> str:
        """Bytes that are no UTF-8 become U+FFFD."""
        tokens = np.asarray(tokens)
        pieces = [
            "\ufffd".encode() if token == UNKNOWN else bytes([token - len(SPECIAL)])
            for token in tokens[tokens != PADDING].tolist()
        ]
        return b"".join(pieces).decode("utf-8", "replace")


class Characters(Tokenizer):
    """The code points of a text.

    Args:
        vocabulary: Single characters, by number from 2.
    """

    def __init__(self, vocabulary: Sequence[str]) -> None:
        self.labels = (*SPECIAL, *vocabulary)
        points = np.array([ord(character) for character in vocabulary], np.int32)
        order = np.argsort(points)
        self.points = points[order]
        """Code points, ascending."""
        self.tokens = (order + len(SPECIAL)).astype(np.int32)
        """Of each of them."""

    @classmethod
    def fit(cls, texts: Iterable[str], size: int | None) -> tuple[str, ...]:
        """Returns the most frequent characters, at most `size`, equal counts in the order of the code points."""
        counts = np.zeros(0x110000, np.int64)
        for text in texts:
            for chunk in _cut(text):
                found, times = np.unique(_to_points(chunk), return_counts=True)
                counts[found] += times
        ranked = np.argsort(-counts, kind="stable")[: np.count_nonzero(counts)]
        return tuple(chr(point) for point in ranked[:size])

    def encode(self, text: str) -> np.ndarray:
        """One token a character."""
        return np.concatenate([np.empty(0, np.int32), *(self._look_up(chunk) for chunk in _cut(text))])

    def _look_up(self, text: str) -> np.ndarray:
        points = _to_points(text)
        places = np.minimum(np.searchsorted(self.points, points), len(self.points) - 1)
        return np.where(self.points[places] == points, self.tokens[places], np.int32(UNKNOWN))

    def decode(self, tokens: Sequence[int] | np.ndarray) -> str:
        """The characters, one after the other."""
        return "".join("\ufffd" if token == UNKNOWN else self.labels[token] for token in _known(tokens))


class Words(Tokenizer):
    """Words and punctuation marks, in lower case.

    The rule looks at ASCII only: A to Z become a to z; ASCII spaces and control characters separate; every ASCII
    punctuation mark is a token; what stands between, letters and digits and everything beyond ASCII, is a word.
    Text without spaces between words (Chinese, Thai) is better cut into characters, bytes or by bpe.

    Args:
        vocabulary: Words, by number from 2.
    """

    def __init__(self, vocabulary: Sequence[str]) -> None:
        self.labels = (*SPECIAL, *vocabulary)
        self._table = {word.encode(): token for token, word in enumerate(vocabulary, start=len(SPECIAL))}

    @classmethod
    def fit(cls, texts: Iterable[str], size: int | None) -> tuple[str, ...]:
        """Returns the most frequent words, at most `size`, equal counts in the order of their UTF-8.

        Exact for up to 2 million different words; above that, see `streams.BoundedCounter`.
        """
        counter: BoundedCounter[bytes] = BoundedCounter()
        for text in texts:
            counter.add(_find_words(text))
        return tuple(word.decode() for word in counter.most_common(size))

    def encode(self, text: str) -> np.ndarray:
        """One token a word or mark."""
        return np.fromiter((self._table.get(word, UNKNOWN) for word in _find_words(text)), np.int32)

    def decode(self, tokens: Sequence[int] | np.ndarray) -> str:
        """The words with a space between each two."""
        return " ".join("\ufffd" if token == UNKNOWN else self.labels[token] for token in _known(tokens))


class Bpe(Tokenizer):
    """Byte-level byte-pair encoding, by the `tokenizers` package; nothing is unknown.

    Sennrich, Haddow, Birch: Neural machine translation of rare words with subword units, 2016; on bytes as in
    Radford et al.: Language models are unsupervised multitask learners, 2019, 2.2.

    Args:
        description: The package's own JSON.

    Raises:
        ValueError: It is not one, or its first two tokens are not those of padding and unknown.
    """

    def __init__(self, description: str) -> None:
        import tokenizers

        try:
            self._tokenizer = tokenizers.Tokenizer.from_str(description)
        except Exception as error:  # the package raises plain Exception
            raise ValueError(f"bpe holds no description of a tokenizer ({error})") from error
        self._tokenizer.encode_special_tokens = True  # "<pad>" in a text is text
        if [self._tokenizer.id_to_token(token) for token in range(len(SPECIAL))] != list(SPECIAL):
            raise ValueError(f"bpe must have {' and '.join(SPECIAL)} as its first tokens")
        self.labels = tuple(self._label(token) for token in range(self._tokenizer.get_vocab_size()))

    @classmethod
    def fit(cls, texts: Iterable[str], size: int) -> str:
        """Returns the description of a tokenizer with `size` tokens, or fewer where the texts give no more.

        The package keeps every different word of the texts in memory.
        """
        from tokenizers import Tokenizer as Package
        from tokenizers import decoders, models, pre_tokenizers, trainers

        tokenizer = Package(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=size,
            special_tokens=list(SPECIAL),
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        tokenizer.train_from_iterator((chunk for text in texts for chunk in _cut_at_lines(text)), trainer)
        return tokenizer.to_str()

    def _label(self, token: int) -> str:
        if token < len(SPECIAL):
            return SPECIAL[token]
        text = self._tokenizer.decode([token])
        return f"<token {token}>" if "\ufffd" in text else text  # a part of a character

    def encode(self, text: str) -> np.ndarray:
        """The tokens of the whole text; long ones are cut where no token can span the cut."""
        chunks = _cut_at_lines(text)
        tokens = [self._tokenizer.encode(chunk, add_special_tokens=False).ids for chunk in chunks]
        return np.concatenate([np.empty(0, np.int32), *(np.array(chunk, np.int32) for chunk in tokens)])

    def decode(self, tokens: Sequence[int] | np.ndarray) -> str:
        """The text; bytes that are no UTF-8 become U+FFFD."""
        return self._tokenizer.decode(list(_known(tokens)), skip_special_tokens=True)


def _known(tokens: Sequence[int] | np.ndarray) -> Iterator[int]:
    return (token for token in np.asarray(tokens).tolist() if token != PADDING)


def _encode(text: str, encoding: str) -> bytes:
    try:
        return text.encode(encoding)
    except UnicodeEncodeError as error:
        raise DataError(
            f"the text holds half of a surrogate pair at position {error.start}, which is no character.",
            expected="Unicode text",
            received=ascii(text[error.start]),
        ) from error


def _to_points(text: str) -> np.ndarray:
    """Returns the code points of a text, int32 `(n,)`."""
    return np.frombuffer(_encode(text, "utf-32-le"), "<i4")


def _find_words(text: str) -> Iterator[bytes]:
    return (match.group() for match in _WORD.finditer(_encode(text, "utf-8").lower()))  # of bytes: ASCII only


def _cut(text: str) -> Iterator[str]:
    return (text[start : start + _CHUNK_CHARACTERS] for start in range(0, len(text), _CHUNK_CHARACTERS))


def _cut_at_lines(text: str) -> Iterator[str]:
    """Cuts a long text where a line of text follows a line of text: the pre-tokenizer cuts there anyway."""
    start = 0
    while start < len(text):
        cut = _SAFE_CUT.search(text, start + _CHUNK_CHARACTERS)
        end = cut.end() if cut else len(text)
        _encode(text[start:end], "utf-8")  # refuses what the package would refuse in other words
        yield text[start:end]
        start = end
