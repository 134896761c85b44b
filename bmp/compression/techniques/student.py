"""Student: a smaller network of the shelf in place of the model, trained from scratch by the model's answers."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from bmp.compression.technique import Form, Stage, Support, Technique, Workshop
from bmp.errors import ExportError
from bmp.models import build_model, look_up_model
from bmp.training.distillation import Distillation

if TYPE_CHECKING:
    import tf_keras as keras


@dataclass(frozen=True, kw_only=True)
class Student(Technique):
    """Another network for the same data, that learns from the targets and from the model that it replaces.

    Args:
        build: An entry of MODELS, or `file.py:function`, as `model.build` takes it.
        args: Of the builder.
        epochs: By default those of every fine-tuning; a network that starts from nothing may want more.
        learning_rate: Of a training from scratch.
        temperature: See `Distillation`.
        alpha: See `Distillation`.
        features: See `Distillation`: layers of the student, each with the layer of the model it is to resemble.
        feature_weight: See `Distillation`.

    Raises:
        UnknownNameError: No network has this name.
        ConfigError: An argument of the network is unknown, missing or of the wrong type.

    Reference:
        Hinton, Vinyals, Dean: Distilling the knowledge in a neural network, 2015.
    """

    build: str
    args: Mapping[str, Any] = field(default_factory=dict)
    epochs: Annotated[int, Field(ge=1)] | None = None
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    temperature: Annotated[float, Field(gt=0)] = 4.0
    alpha: Annotated[float, Field(ge=0, le=1)] = 0.5
    features: Mapping[str, str] = field(default_factory=dict)
    feature_weight: Annotated[float, Field(ge=0)] = 0.5

    stage: ClassVar[Stage] = Stage.NETWORK

    def __post_init__(self) -> None:
        look_up_model(self.build, dict(self.args))  # a chain is refused before anything is trained

    def support(self, layer: Any) -> Support:
        """Returns that every layer with weights is replaced, whatever it is."""
        if layer.weights:
            return Support("applies", "the whole network is replaced")
        return Support("nothing")

    def apply(self, form: Form, workshop: Workshop) -> Form:
        """Returns the student, with the weights of the epoch of best validation score.

        Raises:
            ExportError: The student is no smaller than the model, or has nothing to train.
            ConfigError: It does not fit the data, or a layer that `features` names is not there.
            TrainingError: The loss is no longer a finite number.
            StoppedError: The process was asked to stop.
        """
        from bmp.training.callbacks import KeepBest

        student = self._build(workshop)
        _check_size(student, form.model)
        taught = replace(workshop, distillation={"teacher": form.model, "distillation": self._distillation()})
        history = taught.fine_tune(
            student,
            epochs=self.epochs,
            learning_rate=self.learning_rate,
            callbacks=[KeepBest(workshop.trainer.objective.score)],
        )
        share = student.count_params() / form.model.count_params()
        note = f"The student '{student.name}' has {student.count_params():,} parameters, {share:.1%} of its teacher."
        return form.becomes(student, history, patterns=(), notes=(*form.notes, note))

    def distinguishing(self) -> list[str]:
        """Returns the network and its arguments: `["mlp", "hidden=32x16"]`."""
        path, _, function = self.build.rpartition(":")
        network = f"{_to_word(Path(path).stem)}.{function}" if path else self.build
        return [network, *(f"{key}={_to_word(value)}" for key, value in self.args.items())]

    def _distillation(self) -> Distillation:
        return Distillation(
            temperature=self.temperature,
            alpha=self.alpha,
            features=self.features,
            feature_weight=self.feature_weight,
        )

    def _build(self, workshop: Workshop) -> "keras.Model":
        import tf_keras as keras

        from bmp.training.precision import computing_in

        trainer = workshop.trainer
        builder = look_up_model(self.build, dict(self.args))
        keras.utils.set_random_seed(workshop.seed)
        with trainer.strategy.scope(), computing_in("float32"):
            return build_model(builder, trainer.data.signature, trainer.data.train)


def _check_size(student: "keras.Model", teacher: "keras.Model") -> None:
    if not student.trainable_variables:
        raise ExportError(
            f"The student '{student.name}' has no weights that can be trained. Name a network in its place, such as "
            "mlp or cnn.",
            expected="a network",
            received=student.name,
        )
    if student.count_params() >= teacher.count_params():
        raise ExportError(
            f"The student '{student.name}' has {student.count_params():,} parameters, the model that it is to replace "
            f"{teacher.count_params():,}. Make its layers smaller or fewer in `args`.",
            expected=f"under {teacher.count_params():,} parameters",
            received=f"{student.count_params():,}",
        )


def _to_word(value: Any) -> str:
    """Returns a value as part of a name."""
    if isinstance(value, (list, tuple)):
        return "x".join(map(_to_word, value))
    return re.sub(r"[^\w.+-]+", "-", str(value))
