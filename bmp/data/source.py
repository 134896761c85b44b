"""What every source of examples is: numbered examples that can be read in any order."""

from abc import ABC, abstractmethod
from collections.abc import Mapping

import numpy as np

from bmp.errors import ConfigError, DataError, suggest
from bmp.objectives import Target
from bmp.transforms import Columns, Field, Step


class BadExampleError(DataError):
    """An example that cannot be used.

    Args:
        number: Of the example within its source.
        where: File and position, as a person finds it: `train.csv, line 12`.
        reason: What is wrong with it.
    """

    def __init__(self, number: int, where: str, reason: str) -> None:
        super().__init__(f"{where}: {reason}.")
        self.number = number
        self.where = where
        self.reason = reason


class Source(ABC):
    """Examples by number, 0 to `len(source) - 1`, readable in any order from several threads.

    Attributes:
        fields: The raw features of an example.
        target: What is to be predicted.
        given: Numbers of the examples of each split that the data itself comes in (`train`, `validation`, `test`);
            empty where it comes in one piece.
        serving_fields: What a person sends to a served model, where that is not `fields`: a language model is
            trained on tokens and asked with text.
        serving_steps: The fitted steps from `serving_fields` to `fields`.
        overlaps: Whether neighbouring examples share content by design (windows over a text), so that equal
            content in two examples means nothing.
    """

    fields: tuple[Field, ...]
    target: Target
    given: Mapping[str, np.ndarray] = {}
    serving_fields: tuple[Field, ...] = ()
    serving_steps: tuple[Step, ...] = ()
    overlaps: bool = False

    @abstractmethod
    def __len__(self) -> int:
        """Returns the number of examples."""

    @abstractmethod
    def read(self, index: np.ndarray) -> Columns:
        """Returns the features of some examples: `(n, …)` by name, for numbers int64 `(n,)`, in their order.

        Raises:
            BadExampleError: One of them cannot be read at all.
        """

    @abstractmethod
    def read_targets(self, index: np.ndarray) -> np.ndarray:
        """Returns the targets of some examples, as `Target.kind` describes, without reading their features.

        Raises:
            BadExampleError: One of them has none.
        """

    @abstractmethod
    def where(self, number: int) -> str:
        """Returns where an example comes from, as a person finds it: `hands/3/IMG_1.JPG`, `train.csv, line 12`."""

    def read_hashes(self, index: np.ndarray) -> np.ndarray | None:
        """Returns a 16-byte digest of the features of each example, uint8 `(n, 16)`, where they are stored already.

        None means that whoever needs them computes them from `read`.
        """
        return None

    def read_column(self, name: str, index: np.ndarray) -> np.ndarray:
        """Returns a column of texts of some examples, str objects `(n,)`: what names their split.

        It may be a feature, or stand beside them.

        Raises:
            ConfigError: There is no such column of texts.
        """
        known = [field.name for field in self.fields if field.kind == "category"]
        if name not in known:
            raise ConfigError(
                f"The source has no column of texts '{name}'; it has {', '.join(known) or 'none'}."
                f"{suggest(name, known)}",
                expected=", ".join(known) or "no column",
                received=name,
            )
        return self.read(index)[name]
