"""From sensitivity to a level for each layer: compress more where it costs least."""

from dataclasses import dataclass
from typing import Literal

from bmp.compression.sensitivity.sensitivity import Row, Sensitivity
from bmp.errors import ConfigError

_CONTINUOUS = ("prune", "channels")
"""Techniques whose levels are shares, of which any between two measured ones will do."""


def allocate(
    sensitivity: Sensitivity, technique: str, share: float, by: Literal["bytes", "macs"] = "bytes"
) -> dict[str, float]:
    """Returns a level for each target, such that so large a share of everything is saved at the least cost.

    Greedy: of the next level of every target, the one that costs the score least for what it saves is taken, of equals
    the one that adds least to the loss, until the share is reached; the last step goes only as far as needed where
    levels are shares. What the levels cost is taken to add up; `Sensitivity.joints` says how far it does.

    Args:
        sensitivity: With rows of the technique.
        technique: `prune`, `channels` or `cluster`.
        share: To be saved over all targets; of bytes, for prune, that is the mean sparsity. For channels it is the mean
            share to be removed: more goes, since a kernel then loses rows as well as columns.
        by: What is saved: bytes, for a small file, or multiplications, for a fast one, which only `channels` saves.

    Returns:
        By target, what `sparsity` of prune, `clusters` of cluster or `remove` of channels takes; a target that is not
        named stays as it is.

    Raises:
        UnknownNameError: The technique was not measured.
        ConfigError: The levels that were measured do not save as much.
    """
    steps = {target: _Ladder.build(sensitivity, rows, by) for target, rows in sensitivity.of(technique).items()}
    total = sum(ladder.size for ladder in steps.values())
    best = sum(ladder.savings[-1] * ladder.size for ladder in steps.values()) / max(total, 1)
    if not 0 < share <= best + 1e-9:
        raise ConfigError(
            f"A share of {share:g} of {by} cannot be saved by {technique}: it must be over 0 and at most {best:.3g}, "
            "which the highest levels measured save. Ask for another, or measure higher levels.",
            expected=f"over 0, at most {best:.3g}",
            received=f"{share:g}",
        )
    reached, missing = dict.fromkeys(steps, 0), share * total
    while missing > 1e-8 * total:
        target = min(
            (name for name in steps if reached[name] < len(steps[name].levels) - 1),
            key=lambda name: steps[name].price(reached[name]),
        )
        reached[target] += 1
        missing -= steps[target].gain(reached[target] - 1)
    levels = {name: steps[name].levels[step] for name, step in reached.items() if step}
    if technique in _CONTINUOUS and missing < 0:
        levels[target] = steps[target].step_back(reached[target], -missing)
    return {name: int(level) if technique == "cluster" else level for name, level in levels.items()}


@dataclass(frozen=True)
class _Ladder:
    """The levels of a target, from doing nothing upwards, and what they cost: never less than a lower one."""

    size: int
    levels: list[float]
    savings: list[float]
    drops: list[float]
    rises: list[float]

    @classmethod
    def build(cls, sensitivity: Sensitivity, rows: list[Row], by: str) -> "_Ladder":
        ladder = cls(rows[0].macs if by == "macs" else rows[0].weights, [0.0], [0.0], [0.0], [0.0])
        for row in rows:
            saving = row.macs_saving if by == "macs" else row.saving
            if saving > ladder.savings[-1]:
                ladder.levels.append(row.level)
                ladder.savings.append(saving)
                ladder.drops.append(max(ladder.drops[-1], sensitivity.drop(row)))
                ladder.rises.append(max(ladder.rises[-1], row.loss - sensitivity.loss))
        return ladder

    def gain(self, step: int) -> float:
        """Returns what the step after this one saves."""
        return (self.savings[step + 1] - self.savings[step]) * self.size

    def price(self, step: int) -> tuple[float, float]:
        """Returns what the step after this one costs for what it saves: of the score, of the loss."""
        gain = self.gain(step)
        return (self.drops[step + 1] - self.drops[step]) / gain, (self.rises[step + 1] - self.rises[step]) / gain

    def step_back(self, step: int, excess: float) -> float:
        """Returns a level below a step that saves so much less."""
        span = self.levels[step] - self.levels[step - 1]
        return round(self.levels[step] - span * excess / self.gain(step - 1), 4)
