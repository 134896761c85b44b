"""What every technique is: a step from one form of a model to a smaller or faster one."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import IntEnum
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from bmp.artifact.litert import FLOAT32, Storage
from bmp.signature import Arrays
from bmp.training.history import History
from bmp.training.schedules import build_cosine

if TYPE_CHECKING:
    from collections.abc import Sequence

    import tf_keras as keras

    from bmp.compression.sensitivity import Sensitivity
    from bmp.training import Trainer


class Stage(IntEnum):
    """Where in a chain a technique stands: each stage keeps what the stages before it have reached."""

    NETWORK = 1
    """Another, smaller network: a student, or the same one with channels taken out."""
    ZEROS = 2
    """Weights set to zero."""
    SHARED = 3
    """Weights that share few values."""
    TRAINED = 4
    """Training that knows of the rounding to come."""
    STORED = 5
    """How the exported file stores numbers."""


@dataclass(frozen=True)
class Support:
    """Whether a technique works on a layer.

    Args:
        verdict: `applies`; `rewrite`: after one that bmp makes by itself; `nothing`: it has no weight that the
            technique touches, and is no obstacle; `no`.
        reason: Why not, or which rewrite; a short clause.
        fix: What a person can do about it.
    """

    verdict: Literal["applies", "rewrite", "nothing", "no"]
    reason: str = ""
    fix: str = ""


@dataclass(frozen=True)
class Pattern:
    """What a technique has reached in the kernel of a layer, and no later one may lose.

    Args:
        kind: `zeros`: a share of zeros, of at least `value`; `blocks`: the same, in runs of four inputs of an output;
            `two_of_four`: of each four consecutive inputs of an output at most two are not zero; `values`: at most
            `value` different ones, a zero counted (of each output channel where `per_channel`).
        layer: Whose kernel.
        value: See kind.
        per_channel: See kind.
    """

    kind: Literal["zeros", "blocks", "two_of_four", "values"]
    layer: str
    value: float = 0.0
    per_channel: bool = False


@dataclass(frozen=True)
class Form:
    """A model on its way through a chain.

    Args:
        model: A plain Keras model in float32; after `Stage.TRAINED` one with the quantizers of TF-MOT in it.
        storage: How it will be exported.
        patterns: What the kernels must still show in the exported file.
        history: The epochs that it took so far.
        notes: What a person should know, such as a layer that was left as it is; whole sentences.
    """

    model: "keras.Model"
    storage: Storage = FLOAT32
    patterns: tuple[Pattern, ...] = ()
    history: History = field(default_factory=History)
    notes: tuple[str, ...] = ()

    def becomes(self, model: "keras.Model", history: History, **changes: Any) -> "Form":
        """Returns the form with another model, and the epochs that took added."""
        return replace(self, model=model, history=History([*self.history, *history]), **changes)


@dataclass(frozen=True)
class Workshop:
    """What techniques work with.

    Args:
        trainer: Fits models on the data, under the strategy of the run.
        epochs: Of a fine-tuning that names none.
        learning_rate: Of a fine-tuning that names none.
        seed: Of every draw.
        distillation: Arguments of `Trainer.fit` that make an uncompressed teacher take part in each fine-tuning.
        stage: What the fine-tuning is called in progress, history and checkpoints.
    """

    trainer: "Trainer"
    epochs: int
    learning_rate: float
    seed: int
    distillation: Mapping[str, Any] = field(default_factory=dict)
    stage: str = "compress"
    known: dict[str, "Sensitivity"] = field(default_factory=dict)
    """What was measured of sensitivity, by technique and weights."""

    def fine_tune(
        self,
        model: "keras.Model",
        *,
        epochs: int | None = None,
        learning_rate: float | None = None,
        callbacks: "Sequence[keras.callbacks.Callback]" = (),
        exchanges: bool = False,
    ) -> History:
        """Fits a model by `Trainer.fit`; see there for the arguments and errors.

        The learning rate falls along half a cosine: a fine-tuning is short, and ends where it is to stay.
        """
        epochs = epochs or self.epochs
        return self.trainer.fit(
            model,
            stage=self.stage,
            epochs=epochs,
            learning_rate=build_cosine(learning_rate or self.learning_rate, self.trainer.clock(epochs)),
            callbacks=callbacks,
            exchanges=exchanges,
            **self.distillation,
        )

    def share_out(
        self, model: "keras.Model", technique: str, share: float, by: Literal["bytes", "macs"] = "bytes"
    ) -> dict[str, float]:
        """Returns a level for each layer, more where it costs the score less; see `bmp.compression.sensitivity`.

        Args:
            model: That the technique is to be used on.
            technique: `prune`, `cluster` or `channels`.
            share: Mean level.
            by: What is to be saved: `bytes` or `macs`.
        """
        from bmp.compression.sensitivity import LEVELS, allocate, measure_sensitivity
        from bmp.training.copies import digest_weights

        key = f"{technique} {digest_weights(model.get_weights())}"
        if key not in self.known:
            levels = {technique: LEVELS[technique]}
            self.known[key] = measure_sensitivity(model, self.trainer.data, levels, seed=self.seed)
        return allocate(self.known[key], technique, share, by)

    def calibration(self, count: int) -> Arrays:
        """Returns inputs `(N, *shape)` by name: a seeded sample of the training split, never of the others."""
        import numpy as np

        train = self.trainer.data.train
        index = np.random.default_rng(self.seed).permutation(len(train))[: min(count, len(train))]
        return train.take(index).load().inputs


class Technique(ABC):
    """A way to compress. Entries of TECHNIQUES are frozen dataclasses whose fields are the arguments in a recipe."""

    stage: ClassVar[Stage]
    is_last: ClassVar[bool] = False
    """Whether nothing may follow."""
    trains: ClassVar[bool] = True
    """Whether it fine-tunes, which takes epochs."""

    @abstractmethod
    def support(self, layer: Any) -> Support:
        """Returns whether the technique works on a layer of Keras."""

    @abstractmethod
    def apply(self, form: Form, workshop: Workshop) -> Form:
        """Returns the next form; the models of the one given are not touched.

        Raises:
            ExportError: The model has nothing that the technique could work on, or did not become what was asked.
            TrainingError: The loss is no longer a finite number.
            StoppedError: The process was asked to stop.
        """

    def distinguishing(self) -> list[str]:
        """Returns the values that tell two uses apart, for names: `["0.8"]`."""
        return []

    def settings(self) -> dict[str, Any]:
        """Returns every argument, as JSON takes it."""
        return asdict(self)  # type: ignore[call-overload]

    def at_epochs(self, epochs: int) -> dict[str, Any]:
        """Returns the arguments that give the fine-tuning so many epochs; none for what does not train."""
        return {"epochs": epochs} if self.trains else {}
