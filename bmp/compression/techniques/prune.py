"""Magnitude pruning: weights of small magnitude go to zero while the model is fine-tuned."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, PositiveInt

from bmp.compression.technique import Form, Pattern, Stage, Support, Technique, Workshop
from bmp.compression.weights.kernels import (
    GROUP,
    Kernel,
    check_names,
    find_kernels,
    judge,
    level_of,
    list_kernels,
    say_left,
)
from bmp.errors import ExportError

if TYPE_CHECKING:
    import numpy as np
    import tf_keras as keras

Sparsity = Annotated[float, Field(gt=0, lt=1)]


@dataclass(frozen=True, kw_only=True)
class Prune(Technique):
    """Sets the smallest weights of each kernel to zero, and fine-tunes the others.

    Zeros make the file smaller once it is packed; most CPUs compute no faster for them.

    Args:
        sparsity: Share of zeros in each kernel; or one for each layer that is to be pruned, by its name.
        spread: `even`: the same share of every kernel; `sensitive`: more where it costs the score less, as measured
            before, so that `sparsity` is the mean over all weights.
        schedule: `polynomial`: zeros become more during the first part of the fine-tuning; `constant`: all of them are
            there from the start.
        block: What goes together: a weight, or a run of four inputs of an output, which some runtimes can use.
        skip: Layers that stay as they are.
        epochs: Of the fine-tuning.
        learning_rate: Of the fine-tuning.

    Reference:
        Zhu and Gupta: To prune, or not to prune, 2017, section 3.
    """

    stage: ClassVar[Stage] = Stage.ZEROS

    sparsity: Sparsity | dict[str, Sparsity] = 0.8
    spread: Literal["even", "sensitive"] = "even"
    schedule: Literal["polynomial", "constant"] = "polynomial"
    block: Literal["1x1", "1x4"] = "1x1"
    skip: list[str] = field(default_factory=list)
    epochs: PositiveInt | None = None
    learning_rate: Annotated[float, Field(gt=0)] | None = None

    def support(self, layer: Any) -> Support:
        """Returns whether a layer can be pruned."""
        support = judge(layer, "prune", self.skip)
        if self.block == "1x4" and support.verdict == "applies" and not any(map(self._fits, find_kernels(layer))):
            return Support("no", f"none of its kernels has {GROUP} inputs to an output", "use block: 1x1")
        return support

    def apply(self, form: Form, workshop: Workshop) -> Form:
        """Returns a pruned model; see `Technique.apply`.

        Raises:
            ConfigError: `sparsity` or `skip` names a layer that the model has not, or one without a kernel.
        """
        from bmp.compression.weights.fine_tuning import copy_for_training
        from bmp.compression.weights.masks import keep_largest, keep_largest_blocks
        from bmp.compression.weights.zeroing import zero_out

        model = copy_for_training(form.model, workshop)
        if self.spread == "sensitive" and not isinstance(self.sparsity, Mapping):
            shares = workshop.share_out(form.model, "prune", self.sparsity)
            return replace(self, sparsity=shares, spread="even").apply(form, workshop)
        share_of = level_of("prune", "sparsity", self.sparsity, model)
        kernels, short = self._list(model, share_of)

        def choose(kernel: Kernel, values: "np.ndarray", progress: float) -> "np.ndarray":
            share = (share_of(kernel.layer) or 0.0) * progress
            if self.block == "1x1":
                return keep_largest(values, share)
            return kernel.from_rows(keep_largest_blocks(kernel.to_rows(values), share))

        pruned, history = zero_out(
            model,
            kernels,
            choose,
            workshop,
            epochs=self.epochs,
            learning_rate=self.learning_rate,
            at_once=self.schedule == "constant",
        )
        return form.becomes(
            pruned,
            history,
            patterns=(*form.patterns, *self._count(pruned, {kernel.layer for kernel in kernels})),
            notes=(*form.notes, *say_left(model, "prune", self.skip), *_say_short(short)),
        )

    def distinguishing(self) -> list[str]:
        """Returns the share, and what is not as usual."""
        share = f"{self.sparsity:g}" if isinstance(self.sparsity, (int, float)) else "by layer"
        usual = {"even", "1x1", "polynomial"}
        return [share, *(value for value in (self.spread, self.block, self.schedule) if value not in usual)]

    def _fits(self, kernel: Kernel) -> bool:
        if self.block == "1x1":
            return True
        return kernel.inputs_axis is not None and kernel.variable.shape[kernel.inputs_axis] >= GROUP

    def _list(self, model: "keras.Model", share_of: Any) -> tuple[list[Kernel], list[Kernel]]:
        """Returns the kernels that are to be pruned, and those that cannot be, in blocks.

        Raises:
            ExportError: There is none to be pruned.
        """
        check_names("prune", "skip", self.skip, model)
        wanted = [kernel for kernel in list_kernels(model, self.skip) if share_of(kernel.layer)]
        kernels = [kernel for kernel in wanted if self._fits(kernel)]
        if not kernels:
            raise ExportError(
                f"prune: the model '{model.name}' has no layer with a kernel to prune"
                f"{' in blocks of 1x4' if self.block != '1x1' else ''}. Leave prune out.",
                expected="a dense, convolutional, recurrent or embedding layer",
                received="none that skip and sparsity leave",
            )
        return kernels, [kernel for kernel in wanted if not self._fits(kernel)]

    def _count(self, model: "keras.Model", layers: set[str]) -> list[Pattern]:
        """Returns what was really reached."""
        from bmp.compression.weights.zeroing import count_patterns

        kernels = [kernel for kernel in list_kernels(model) if kernel.layer in layers and self._fits(kernel)]
        return count_patterns(kernels, "zeros" if self.block == "1x1" else "blocks")


def _say_short(kernels: list[Kernel]) -> list[str]:
    names = dict.fromkeys(kernel.layer for kernel in kernels)
    return [f"prune: left as it is, with fewer than {GROUP} inputs to an output: {', '.join(names)}."] if names else []
