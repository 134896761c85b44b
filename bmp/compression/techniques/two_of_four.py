"""2:4 sparsity: of each four consecutive inputs of an output, two weights go to zero while the model is fine-tuned."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field, PositiveInt

from bmp.compression.technique import Form, Stage, Support, Technique, Workshop
from bmp.compression.weights.kernels import GROUP, Kernel, check_names, find_kernels, judge, list_kernels, say_left
from bmp.errors import ExportError

if TYPE_CHECKING:
    import numpy as np
    import tf_keras as keras


@dataclass(frozen=True, kw_only=True)
class TwoOfFour(Technique):
    """Sets two of each four weights to zero, and fine-tunes the others.

    The pattern that sparse tensor cores of GPUs compute twice as fast; a CPU gains bytes only. It comes gradually:
    those that may go are the smaller two of each four, as they are at the time, the smallest of all first.

    Args:
        skip: Layers that stay as they are.
        epochs: Of the fine-tuning.
        learning_rate: Of the fine-tuning.

    Reference:
        Mishra et al.: Accelerating sparse deep neural networks, 2021, section 3 (the pattern).
    """

    stage: ClassVar[Stage] = Stage.ZEROS

    skip: list[str] = field(default_factory=list)
    epochs: PositiveInt | None = None
    learning_rate: Annotated[float, Field(gt=0)] | None = None

    def support(self, layer: Any) -> Support:
        """Returns whether a layer can have the pattern."""
        support = judge(layer, "two_of_four", self.skip)
        kernels = find_kernels(layer)
        if support.verdict != "applies" or any(map(Kernel.has_groups, kernels)):
            return support
        if all(kernel.inputs_axis is None for kernel in kernels):
            return Support("no", "its kernel has no one axis of inputs", "split attention into dense layers")
        sizes = ", ".join(str(kernel.variable.shape[kernel.inputs_axis]) for kernel in kernels)
        return Support("no", f"it has {sizes} inputs to an output", f"a multiple of {GROUP} fits")

    def apply(self, form: Form, workshop: Workshop) -> Form:
        """Returns a model with the pattern; see `Technique.apply`.

        Raises:
            ConfigError: `skip` names a layer that the model has not.
        """
        from bmp.compression.weights.fine_tuning import copy_for_training
        from bmp.compression.weights.masks import keep_two_of_four
        from bmp.compression.weights.zeroing import count_patterns, zero_out

        model = copy_for_training(form.model, workshop)
        check_names("two_of_four", "skip", self.skip, model)
        kernels = _list(model, self.skip)

        def choose(kernel: Kernel, values: "np.ndarray", progress: float) -> "np.ndarray":
            return kernel.from_rows(keep_two_of_four(kernel.to_rows(values), progress))

        made, history = zero_out(model, kernels, choose, workshop, epochs=self.epochs, learning_rate=self.learning_rate)
        names = {kernel.layer for kernel in kernels}
        reached = [kernel for kernel in list_kernels(made) if kernel.layer in names and kernel.has_groups()]
        return form.becomes(
            made,
            history,
            patterns=(*form.patterns, *count_patterns(reached, "two_of_four")),
            notes=(*form.notes, *say_left(model, "two_of_four", self.skip), *self._say_uneven(model)),
        )

    def _say_uneven(self, model: "keras.Model") -> list[str]:
        """Returns a sentence on each layer with kernels whose inputs are not a multiple of four."""
        return [
            f"two_of_four: left as it is: {layer.name}: {support.reason}; {support.fix}."
            for layer in model.layers
            if layer.name not in self.skip and find_kernels(layer)
            for support in [self.support(layer)]
            if support.verdict == "no"
        ]


def _list(model: "keras.Model", skip: list[str]) -> list[Kernel]:
    """Returns the kernels that can have the pattern.

    Raises:
        ExportError: There is none.
    """
    kernels = [kernel for kernel in list_kernels(model, skip) if kernel.has_groups()]
    if not kernels:
        raise ExportError(
            f"two_of_four: the model '{model.name}' has no layer whose inputs are a multiple of {GROUP}. Leave "
            "two_of_four out.",
            expected=f"a dense, convolutional or recurrent layer of a multiple of {GROUP} inputs",
            received="none that skip leaves",
        )
    return kernels
