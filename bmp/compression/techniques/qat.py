"""Training with the rounding of int8 in it: the network learns to live with it, and keeps what it reached before."""

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field, PositiveInt

from bmp.compression.technique import Form, Pattern, Stage, Support, Technique, Workshop
from bmp.compression.weights.codebook import count_values, index_values
from bmp.compression.weights.kernels import Kernel, check_names
from bmp.errors import ExportError
from bmp.training.history import History

if TYPE_CHECKING:
    import tf_keras as keras

    from bmp.compression.weights.views import View

_CALIBRATION_EXAMPLES = 256


@dataclass(frozen=True, kw_only=True)
class QuantizationAwareTraining(Technique):
    """Fine-tunes a model that rounds weights and activations to 8 bits as the exported file will.

    Zeros, 2:4 patterns and shared values that earlier techniques have reached stay: it is what TF-MOT calls PQAT, CQAT
    and PCQAT. Layers that TF-MOT cannot quantize are trained and exported as float.

    Args:
        skip: Layers that stay float.
        epochs: Of the fine-tuning.
        learning_rate: Of the fine-tuning.

    Reference:
        Jacob et al.: Quantization and training of neural networks for efficient integer-arithmetic-only inference,
        2018, section 3.
    """

    stage: ClassVar[Stage] = Stage.TRAINED

    skip: list[str] = field(default_factory=list)
    epochs: PositiveInt | None = None
    learning_rate: Annotated[float, Field(gt=0)] | None = None

    def support(self, layer: Any) -> Support:
        """Returns whether a layer computes in int8 afterwards."""
        from bmp.compression.legalise.quantizable import find_obstacle

        if layer.name in self.skip:
            return Support("no", "it is in skip", "take it out of skip")
        obstacle = find_obstacle(layer)
        if obstacle is None:
            return Support("applies")
        if not layer.weights:
            return Support("nothing", "it has no weights, and stays float")
        return Support("no", obstacle, "it stays float; int8 without training may take it")

    def apply(self, form: Form, workshop: Workshop) -> Form:
        """Returns a model with quantizers; see `Technique.apply`.

        Raises:
            ConfigError: `skip` names a layer that the model has not.
        """
        from bmp.compression.rounding.quantizers import find_ranges

        check_names("qat", "skip", self.skip, form.model)
        annotated, notes = self._annotate(form)
        alone = _quantize(annotated, form.patterns)
        find_ranges(alone, workshop.calibration(_CALIBRATION_EXAMPLES), workshop.trainer.batch_size)
        with workshop.trainer.strategy.scope():
            model = _quantize(annotated, form.patterns)
        model.set_weights(alone.get_weights())
        history = self._train(model, form.patterns, workshop)
        alone.set_weights(model.get_weights())
        return form.becomes(
            alone,
            history,
            storage=replace(form.storage, kind="int8", is_trained=True),
            notes=(*form.notes, *notes),
        )

    def _annotate(self, form: Form) -> tuple["keras.Model", tuple[str, ...]]:
        """Returns a copy in which layers are marked that will be quantized, and what a person should know.

        Raises:
            ExportError: No layer with weights can be quantized, or none is trainable.
        """
        from bmp.compression.legalise.quantizable import annotate

        kept = {pattern.layer for pattern in form.patterns}

        def leave(layer: Any) -> bool:
            # TF-MOT takes a separable convolution apart, and with it the name of the kernel that has a pattern.
            return layer.name in self.skip or (layer.name in kept and type(layer).__name__.startswith("Separable"))

        model = form.model
        if not model._is_graph_network or not model.trainable_weights:
            what = "is subclassed" if not model._is_graph_network else "has nothing that could be trained"
            raise ExportError(
                f"qat: the model '{model.name}' {what}. Use int8, which takes ranges from examples, instead.",
                expected="a functional model with trainable weights",
                received=f"a model that {what}",
            )
        annotated, notes = annotate(model, leave)
        if not any(type(layer).__name__ == "QuantizeAnnotate" and layer.weights for layer in annotated.layers):
            raise ExportError(
                f"qat: TF-MOT can quantize no layer with weights of the model '{model.name}'. Use int8, which takes "
                "ranges from examples, instead.",
                expected="a dense or convolutional layer",
                received=", ".join(dict.fromkeys(type(layer).__name__ for layer in model.layers if layer.weights)),
            )
        return annotated, notes

    def _train(self, model: "keras.Model", patterns: tuple[Pattern, ...], workshop: Workshop) -> History:
        """Fits a model with quantizers in place.

        Raises:
            ExportError: A pattern is gone already.
            TrainingError: The loss is not finite, or replicas ended with different ranges.
        """
        from bmp.compression.rounding.quantizers import following_ranges, list_range_variables, preserve
        from bmp.compression.weights.replicas import check_replicas_agree
        from bmp.compression.weights.views import hold_all, settle_all
        from bmp.training.callbacks import KeepBest

        strategy = workshop.trainer.strategy
        with strategy.scope():
            pairs = _view_kernels(model, patterns)
        hold_all(model, _check_held(preserve(model, pairs)))
        with following_ranges(model):
            history = workshop.fine_tune(
                model,
                epochs=self.epochs,
                learning_rate=self.learning_rate,
                callbacks=[KeepBest(workshop.trainer.objective.score)],
                exchanges=True,
            )
        settle_all(pairs)
        kernels = {f"the kernel of '{kernel.layer}'": kernel.variable for kernel, _ in pairs}
        check_replicas_agree(strategy, list_range_variables(model) | kernels)
        return history


def _quantize(annotated: "keras.Model", patterns: tuple[Pattern, ...]) -> "keras.Model":
    """Returns a model with TF-MOT's quantizers.

    Where values are shared over a whole kernel, kernels are rounded by one scale each: with a scale for each channel
    the file would have as many different numbers as before.
    """
    import tensorflow_model_optimization as tfmot
    import tf_keras as keras

    from bmp.compression.rounding.quantizers import freeze_frozen
    from bmp.compression.rounding.scheme import Scheme
    from bmp.training.precision import computing_in

    by_kernel = any(pattern.kind == "values" and not pattern.per_channel for pattern in patterns)
    classes = {type(layer).__name__: type(layer) for layer in annotated.layers}
    with computing_in("float32"), keras.utils.custom_object_scope(classes), tfmot.quantization.keras.quantize_scope():
        model = tfmot.quantization.keras.quantize_apply(annotated, Scheme(by_kernel))
    freeze_frozen(model)
    return model


def _view_kernels(model: "keras.Model", patterns: tuple[Pattern, ...]) -> list[tuple[Kernel, "View"]]:
    """Returns the kernels that have patterns, with views that keep these.

    Raises:
        ExportError: A layer with a pattern is not there any more, or its pattern is not.
    """
    from bmp.compression.rounding.quantizers import list_held_kernels

    names = {pattern.layer for pattern in patterns}
    kernels = list_held_kernels(model, names)
    missing = names - {kernel.layer for kernel in kernels}
    if missing:
        raise ExportError(
            f"qat: the layers {', '.join(sorted(missing))} have patterns to keep, but TF-MOT has made other layers of "
            "them. Put them into skip.",
            expected="layers that keep their names",
            received=", ".join(sorted(missing)),
        )
    shared = {pattern.layer: pattern for pattern in patterns if pattern.kind == "values"}
    return [(kernel, _view(kernel, shared.get(kernel.layer))) for kernel in kernels]


def _check_held(rest: "list[tuple[Kernel, View]]") -> "list[tuple[Kernel, View]]":
    """Returns pairs that no quantizer of kernels holds; those of layers that stay float can be held all the same.

    Raises:
        ExportError: TF-MOT has wrapped a layer, but does not round its kernel.
    """
    from tf_keras.layers import Layer

    for kernel, _ in rest:
        if not isinstance(kernel.owner, Layer):
            raise ExportError(
                f"qat: layer '{kernel.layer}' has a pattern to keep, but TF-MOT rounds only what it returns. Put it "
                "into skip.",
                expected="a layer whose kernel is rounded",
                received=kernel.layer,
            )
    return rest


def _view(kernel: Kernel, shared: Pattern | None) -> "View":
    """Returns the view that keeps shared values and zeros, or zeros alone."""
    from bmp.compression.weights.views import Mask, Sharing

    values = kernel.read()
    if shared is None:
        mask = Mask(values)
        mask.variable.assign((values != 0).astype("float32"))
        return mask
    axis = kernel.outputs_axis if shared.per_channel else None
    count = count_values(values, axis)
    if count > shared.value:
        raise ExportError(
            f"qat: layer '{kernel.layer}' should have {shared.value:g} different values and has {count}: a rewrite of "
            "the model has undone the clustering.",
            expected=f"at most {shared.value:g}",
            received=str(count),
        )
    return Sharing(index_values(values, axis))
