"""A teacher in the step of its student: its answers to the same inputs, and what the student's are worth by them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import tensorflow as tf
import tf_keras as keras
from tf_keras.src.engine.functional import _make_node_key

from bmp.errors import ConfigError, suggest
from bmp.objectives import OBJECTIVES
from bmp.signature import Signature
from bmp.training.copies import copy_model
from bmp.training.distillation import Distillation
from bmp.training.soft_losses import feature_losses, soft_losses


@dataclass(frozen=True)
class Answer:
    """What a model says to some inputs.

    Args:
        outputs: `(b, …)`.
        features: Outputs of the layers that are compared, `(b, …, width)` each.
    """

    outputs: tf.Tensor
    features: Sequence[tf.Tensor] = ()


class Teacher:
    """A trained model from which another learns.

    Args:
        teacher: Trained; its weights stay as they are.
        student: Compiled, within the scope of the strategy.
        strategy: Where the variables of the student live.
        distillation: What is learned.
        signature: Of both models.
        seed: Of the projections.

    Raises:
        ConfigError: The teacher does not fit the signature, or shares weights with the student; or a layer whose
            features are compared is not there, or does not fit the other.
    """

    def __init__(
        self,
        teacher: keras.Model,
        student: keras.Model,
        strategy: tf.distribute.Strategy,
        distillation: Distillation,
        signature: Signature,
        seed: int,
    ) -> None:
        _check_weights(teacher, student)
        _check_signature(teacher, signature)
        self.distillation = distillation
        self._activation = OBJECTIVES[signature.objective].activation
        pairs = distillation.features
        with strategy.scope():
            self._teacher = _with_features(_bring(teacher, strategy), "teacher", list(pairs.values()))
            self._student = _with_features(student, "student", list(pairs))
            shapes = _shapes(self._student, len(pairs)), _shapes(self._teacher, len(pairs))
            self._projections = [
                _make_projection(pair, mine, theirs, seed + number)
                for number, (pair, mine, theirs) in enumerate(zip(pairs.items(), *shapes, strict=True))
            ]

    @property
    def variables(self) -> list[tf.Variable]:
        """What is trained beside the student, and thrown away at the end: the projections of its features."""
        return [projection for projection in self._projections if projection is not None]

    def answer(self, inputs: Any) -> Answer:
        """Returns what the teacher says; to be called outside of a gradient tape."""
        return _to_answer(self._teacher(inputs, training=False))

    def ask_student(self, inputs: Any) -> Answer:
        """Returns what the student says in training, with its features."""
        return _to_answer(self._student(inputs, training=True))

    def mix(self, hard: tf.Tensor, student: Answer, teacher: Answer) -> tf.Tensor:
        """Returns the loss of each example, `(b,)`, from that of its target."""
        how = self.distillation
        soft = soft_losses(self._activation, teacher.outputs, student.outputs, how.temperature)
        losses = (1 - how.alpha) * hard + how.alpha * soft
        for mine, theirs, projection in zip(student.features, teacher.features, self._projections, strict=True):
            losses += how.feature_weight / len(self._projections) * feature_losses(mine, theirs, projection)
        return losses


def _to_answer(said: Any) -> Answer:
    """Takes apart what `_with_features` returns."""
    outputs, *features = said if isinstance(said, list) else [said]
    return Answer(next(iter(outputs.values())) if isinstance(outputs, dict) else outputs, features)


def _bring(teacher: keras.Model, strategy: tf.distribute.Strategy) -> keras.Model:
    """Returns the teacher, where several devices compute a copy on all of them, on each with the same weights.

    Raises:
        ConfigError: It was built elsewhere, and is subclassed.
    """
    if strategy.num_replicas_in_sync == 1 and not strategy._should_use_with_coordinator:
        return teacher
    if teacher._is_graph_network:
        return copy_model(teacher, None)
    if teacher.distribute_strategy is strategy:
        return teacher
    raise ConfigError(
        f"The teacher '{teacher.name}' is subclassed, and was not built where its student is trained. Build it within "
        "the scope of the strategy.",
        expected="a functional model, or one of the same strategy",
        received="a subclassed model of another strategy",
    )


def _with_features(model: keras.Model, role: str, names: list[str]) -> keras.Model:
    """Returns a model of the same layers that gives its outputs, then those of some layers; itself where none are."""
    if not names:
        return model
    if not model._is_graph_network:
        raise ConfigError(
            f"Features of a distillation are taken from functional models, but the {role} '{model.name}' is "
            "subclassed. Leave the features out.",
            expected="a functional model",
            received="a subclassed model",
        )
    return keras.Model(model.inputs, [model.output, *(_find_output(model, role, name) for name in names)])


def _find_output(model: keras.Model, role: str, name: str) -> Any:
    """Returns the symbolic output of a layer; one that a wrapper holds is found by its own name."""
    layers = {layer.name: layer for layer in model.layers}
    for layer in model.layers:
        if isinstance(layer, keras.layers.Wrapper):
            layers.setdefault(layer.layer.name, layer)
    if name not in layers:
        raise ConfigError(
            f"Features of a distillation name the layer '{name}', which the {role} '{model.name}' does not have; it "
            f"has {', '.join(layers)}.{suggest(name, layers)}",
            expected=f"one of {', '.join(layers)}",
            received=name,
        )
    layer = layers[name]
    places = [
        place for place in range(len(layer._inbound_nodes)) if _make_node_key(layer.name, place) in model._network_nodes
    ]
    outputs = layer.get_output_at(places[0])
    if len(places) > 1 or not hasattr(outputs, "shape"):
        raise ConfigError(
            f"Features of a distillation name the layer '{name}' of the {role} '{model.name}', which has more than one "
            "output. Name a layer that has one.",
            expected="a layer of one output",
            received=name,
        )
    return outputs


def _shapes(model: keras.Model, count: int) -> list[tuple[int | None, ...]]:
    """Returns the shapes of the features that a model gives after its output, without the batch."""
    return [tuple(tensor.shape[1:]) for tensor in model.outputs[1:]] if count else []


def _make_projection(
    pair: tuple[str, str], student: tuple[int | None, ...], teacher: tuple[int | None, ...], seed: int
) -> tf.Variable | None:
    """Returns `(w, v)`, or None where features are as wide as the teacher's."""
    if (
        not student
        or len(student) != len(teacher)
        or student[:-1] != teacher[:-1]
        or None in (student[-1], teacher[-1])
    ):
        raise ConfigError(
            f"Features of a distillation cannot be compared: '{pair[0]}' of the student gives {student}, '{pair[1]}' "
            f"of the teacher {teacher}; only the last size may differ. Name another layer of the teacher.",
            expected=str(teacher),
            received=str(student),
        )
    if student[-1] == teacher[-1]:
        return None
    start = keras.initializers.GlorotUniform(seed)((student[-1], teacher[-1]))
    return tf.Variable(start, name=f"projection_{pair[0]}")


def _check_weights(teacher: keras.Model, student: keras.Model) -> None:
    if {id(variable) for variable in teacher.variables} & {id(variable) for variable in student.trainable_variables}:
        raise ConfigError(
            f"The teacher '{teacher.name}' shares weights with the model that learns from it, and would change with "
            "it. Give a copy of it.",
            expected="weights of its own",
            received="shared weights",
        )


def _check_signature(teacher: keras.Model, signature: Signature) -> None:
    """Refuses a teacher that takes or returns something else than its student."""
    inputs = {spec.name: keras.Input(spec.shape, name=spec.name, dtype=spec.dtype) for spec in signature.inputs}
    wanted = ", ".join(f"{spec.name} {spec}" for spec in signature.inputs)
    if len(inputs) > 1 and teacher._is_graph_network and set(teacher.input_names) != set(inputs):
        received = ", ".join(teacher.input_names)
        raise ConfigError(
            f"The teacher '{teacher.name}' takes {received}, but its student {', '.join(inputs)}. A teacher has the "
            "signature of its student.",
            expected=wanted,
            received=received,
        )
    try:
        said = teacher(inputs if len(inputs) > 1 else next(iter(inputs.values())))
    except Exception as error:  # whatever Keras says of a shape, or a call of the user's own
        raise ConfigError(
            f"The teacher '{teacher.name}' cannot be called on what its student takes, {wanted}: "
            f"{' '.join(str(error).split())[:300]}",
            expected=wanted,
        ) from error
    (output,) = signature.outputs
    found = tf.nest.map_structure(lambda tensor: tuple(tensor.shape[1:]), tf.nest.flatten(said))
    if found != [output.shape]:
        shown = " and ".join(str(shape) for shape in found)
        raise ConfigError(
            f"The teacher '{teacher.name}' returns {shown} for an example, but its student {output.shape}. A teacher "
            "has the signature of its student.",
            expected=str(output.shape),
            received=shown,
        )
