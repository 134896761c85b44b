"""What was measured, layer by layer; as JSON and back."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from bmp.errors import UnknownNameError, suggest


@dataclass(frozen=True)
class Row:
    """One layer, or group of channels, compressed alone.

    Args:
        technique: `prune`, `cluster`, `int8` or `channels`.
        target: Name of the layer, or of the group, as `remove` of `channels` takes it.
        layers: That are touched: the layer, or those that make the channels of the group.
        level: Of the technique: share of zeros, number of values, bits, or share of channels removed.
        score: Of the model then.
        loss: Of the model then; it moves where the score is too coarse to.
        weights: Of kernels that the technique works on there.
        saving: Share of their bytes that is saved.
        macs: Multiplications by these weights that one example takes.
        macs_saving: Share of them that is saved; only channels that are gone save any.
    """

    technique: str
    target: str
    layers: tuple[str, ...]
    level: float
    score: float
    loss: float
    weights: int
    saving: float
    macs: int = 0
    macs_saving: float = 0.0


@dataclass(frozen=True)
class Joint:
    """Several targets compressed at once: whether the rows foretell it.

    Args:
        technique: See `Row`.
        levels: By target.
        predicted_drop: Sum of what the targets cost the score one by one.
        drop: What they really cost together.
        predicted_rise: Sum of what the targets add to the loss one by one.
        rise: What they really add together.
    """

    technique: str
    levels: Mapping[str, float]
    predicted_drop: float
    drop: float
    predicted_rise: float
    rise: float


@dataclass(frozen=True)
class Sensitivity:
    """How the score changes when one target at a time is compressed, without any training.

    Args:
        metric: What the score is called; greater is better.
        score: Of the model as it is.
        loss: Of the model as it is.
        examples: Of the validation split that were used, the same ones for every row.
        seed: Of the choice of these.
        rows: One for each target, technique and level.
        joints: The self-test: one for each technique, all of its targets at once.
    """

    metric: str
    score: float
    loss: float
    examples: int
    seed: int
    rows: tuple[Row, ...]
    joints: tuple[Joint, ...] = ()

    def drop(self, row: Row) -> float:
        """Returns what the row costs the score; negative where the model got better."""
        return self.score - row.score

    def of(self, technique: str) -> dict[str, list[Row]]:
        """Returns the rows of a technique by target, those that save least first.

        Raises:
            UnknownNameError: The technique was not measured.
        """
        found: dict[str, list[Row]] = {}
        for row in sorted(self.rows, key=lambda row: row.saving):
            if row.technique == technique:
                found.setdefault(row.target, []).append(row)
        if not found:
            known = list(dict.fromkeys(row.technique for row in self.rows))
            raise UnknownNameError(
                f"The sensitivity to '{technique}' was not measured; only to {', '.join(known) or 'nothing'}."
                f"{suggest(technique, known)}",
                expected=", ".join(known),
                received=technique,
            )
        return found

    def to_json(self) -> dict[str, Any]:
        """Returns what `json.dumps` takes and `from_json` reads."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Sensitivity":
        """Reads what `to_json` returned."""
        rows = tuple(Row(**{**row, "layers": tuple(row["layers"])}) for row in content["rows"])
        joints = tuple(Joint(**joint) for joint in content["joints"])
        return cls(**{**content, "rows": rows, "joints": joints})
