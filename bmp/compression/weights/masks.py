"""Masks that grow while a model is trained: which weights go, and when."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from bmp.compression.weights.kernels import GROUP, Kernel
from bmp.compression.weights.views import Mask
from bmp.training.observer import Observer

Choose = Callable[[Kernel, np.ndarray, float], np.ndarray]
"""Takes a kernel, its values and the share of the way that is behind, 0 to 1; returns which weights stay, bool of the
same shape."""

_UPDATES = 30
"""Of the masks, on the way."""


class GrowingMasks(Observer):
    """Chooses anew which weights go, ever more of them, until the way is behind; from then on masks stay as they are.

    Args:
        pairs: Kernels and their masks.
        choose: Says which weights stay.
        ramp_steps: Steps until the last choice; 0 makes it at once.
        steps_per_epoch: Of the training.

    Reference:
        Zhu and Gupta: To prune, or not to prune, 2017, section 3 (most go early, while the network can still adapt).
    """

    def __init__(
        self, pairs: Sequence[tuple[Kernel, Mask]], choose: Choose, *, ramp_steps: int, steps_per_epoch: int
    ) -> None:
        super().__init__()
        self._pairs = pairs
        self._choose = choose
        self._ramp_steps = ramp_steps
        self._every = max(1, ramp_steps // _UPDATES)
        self._steps_per_epoch = steps_per_epoch
        self._epoch = 0
        self._updated_step = 0
        if not ramp_steps:
            self._update(0)

    @property
    def first_full_epoch(self) -> int:
        """The first epoch, from 0, at whose end the masks are what they will be."""
        return max(0, -(-self._ramp_steps // self._steps_per_epoch) - 1)

    @property
    def is_full(self) -> bool:
        """Whether the last choice is made."""
        return self._updated_step >= self._ramp_steps

    def get_state(self) -> dict[str, Any]:
        """Returns when masks were changed last."""
        return {"updated_step": self._updated_step}

    def set_state(self, state: dict[str, Any]) -> None:
        """Takes what an earlier attempt knew."""
        self._updated_step = state["updated_step"]

    def get_arrays(self) -> list[np.ndarray]:
        """Returns which weights stay."""
        return [mask.variable.numpy() > 0 for _, mask in self._pairs]

    def set_arrays(self, arrays: list[np.ndarray]) -> None:
        """Takes the masks of an earlier attempt."""
        for (_, mask), array in zip(self._pairs, arrays, strict=True):
            mask.variable.assign(array.astype(np.float32))

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Remembers where the training is."""
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Chooses, when it is time."""
        step = min(self._epoch * self._steps_per_epoch + batch + 1, self._ramp_steps)
        if not self.is_full and (step == self._ramp_steps or step - self._updated_step >= self._every):
            self._update(step)

    def finish(self) -> None:
        """Makes the last choice, if the training was too short for it."""
        if not self.is_full:
            self._update(self._ramp_steps)

    def _update(self, step: int) -> None:
        progress = 1 - (1 - step / self._ramp_steps) ** 3 if self._ramp_steps else 1.0
        for kernel, mask in self._pairs:
            mask.variable.assign(self._choose(kernel, kernel.read(), progress).astype(np.float32))
        self._updated_step = step


def keep_largest(values: np.ndarray, share: float) -> np.ndarray:
    """Returns which weights stay when so large a share of them goes, the smallest; bool of the same shape."""
    return ~_mark_smallest(np.abs(values), round(share * values.size))


def keep_largest_blocks(rows: np.ndarray, share: float) -> np.ndarray:
    """Returns which weights stay when runs of four go, those of least mean size; bool of the same shape.

    Args:
        rows: Inputs last; a last shorter run is a block as well.
        share: Of the blocks.
    """
    size = rows.shape[-1]
    padded = np.pad(np.abs(rows), [*[(0, 0)] * (rows.ndim - 1), (0, -size % GROUP)])
    members = np.minimum(GROUP, size - np.arange(0, size, GROUP))
    means = padded.reshape(*rows.shape[:-1], -1, GROUP).sum(axis=-1) / members
    stays = ~_mark_smallest(means, round(share * means.size))
    return np.repeat(stays, GROUP, axis=-1)[..., :size]


def keep_two_of_four(rows: np.ndarray, share: float) -> np.ndarray:
    """Returns which weights stay when the smaller two of each four may go; bool of the same shape.

    Args:
        rows: Inputs last, a multiple of four.
        share: Of those that may go, the smallest first; with 1 just two of four stay.
    """
    sizes = np.abs(rows).reshape(-1, GROUP)
    ranks = sizes.argsort(axis=-1, kind="stable").argsort(axis=-1, kind="stable")
    may_go = np.where(ranks < GROUP // 2, sizes, np.inf)
    return ~_mark_smallest(may_go, round(share * sizes.size / 2)).reshape(rows.shape)


def _mark_smallest(scores: np.ndarray, count: int) -> np.ndarray:
    """Returns where the `count` smallest scores are, bool of the same shape."""
    marks = np.zeros(scores.size, bool)
    if count:
        marks[np.argpartition(scores, count - 1, axis=None)[:count]] = True
    return marks.reshape(scores.shape)
