"""Clustering: the weights of a kernel share few values, which are trained on."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
from pydantic import Field, PositiveInt

from bmp.compression.technique import Form, Pattern, Stage, Support, Technique, Workshop
from bmp.compression.weights.codebook import assign_clusters, count_values
from bmp.compression.weights.kernels import Kernel, check_names, judge, level_of, list_kernels, say_left
from bmp.errors import ExportError

if TYPE_CHECKING:
    from collections.abc import Callable

    import tf_keras as keras

Clusters = Annotated[int, Field(ge=2, le=256)]

_ZEROS = ("zeros", "blocks", "two_of_four")


@dataclass(frozen=True, kw_only=True)
class Cluster(Technique):
    """Lets the weights of each kernel share few values, and fine-tunes these.

    The file becomes smaller once it is packed; no runtime computes faster for it. Zeros that an earlier technique has
    made stay zero.

    Args:
        clusters: Different values in each kernel, zero among them; or one number for each layer that is to be
            clustered, by its name.
        per_channel: Whether each output channel has values of its own: better where channels differ much, and larger.
        skip: Layers that stay as they are.
        epochs: Of the fine-tuning.
        learning_rate: Of the fine-tuning.

    Reference:
        Han, Mao, Dally: Deep compression, 2016, section 3.
    """

    stage: ClassVar[Stage] = Stage.SHARED

    clusters: Clusters | dict[str, Clusters] = 16
    per_channel: bool = False
    skip: list[str] = field(default_factory=list)
    epochs: PositiveInt | None = None
    learning_rate: Annotated[float, Field(gt=0)] | None = None

    def support(self, layer: Any) -> Support:
        """Returns whether a layer can be clustered."""
        return judge(layer, "cluster", self.skip)

    def apply(self, form: Form, workshop: Workshop) -> Form:
        """Returns a clustered model; see `Technique.apply`.

        Raises:
            ConfigError: `clusters` or `skip` names a layer that the model has not, or one without a kernel.
        """
        from bmp.compression.weights.fine_tuning import copy_for_training, fine_tune_held
        from bmp.compression.weights.views import Sharing
        from bmp.training.callbacks import KeepBest

        model = copy_for_training(form.model, workshop)
        count_of = level_of("cluster", "clusters", self.clusters, model)
        kernels = self._list(model, count_of)
        sparse = {pattern.layer for pattern in form.patterns if pattern.kind in _ZEROS}
        rng = np.random.default_rng(workshop.seed)
        with workshop.trainer.strategy.scope():
            pairs = [(kernel, Sharing(self._assign(kernel, count_of, sparse, rng))) for kernel in kernels]
        for kernel, view in pairs:
            kernel.variable.assign(view.settle(kernel.read()))
        made, history = fine_tune_held(
            model,
            workshop,
            pairs,
            epochs=self.epochs,
            learning_rate=self.learning_rate,
            callbacks=[KeepBest(workshop.trainer.objective.score)],
        )
        return form.becomes(
            made,
            history,
            patterns=(*form.patterns, *self._count(made, count_of)),
            notes=(*form.notes, *say_left(model, "cluster", self.skip)),
        )

    def distinguishing(self) -> list[str]:
        """Returns the number of values, and whether each channel has its own."""
        count = str(self.clusters) if isinstance(self.clusters, int) else "by layer"
        return [count, "per channel"] if self.per_channel else [count]

    def _list(self, model: "keras.Model", count_of: "Callable[[str], int | None]") -> list[Kernel]:
        """Returns the kernels that are to be clustered.

        Raises:
            ExportError: There is none.
        """
        check_names("cluster", "skip", self.skip, model)
        kernels = [kernel for kernel in list_kernels(model, self.skip) if count_of(kernel.layer)]
        if not kernels:
            raise ExportError(
                f"cluster: the model '{model.name}' has no layer with a kernel to cluster. Leave cluster out.",
                expected="a dense, convolutional, recurrent or embedding layer",
                received="none that skip and clusters leave",
            )
        return kernels

    def _axis(self, kernel: Kernel) -> int | None:
        return kernel.outputs_axis if self.per_channel else None

    def _assign(
        self, kernel: Kernel, count_of: "Callable[[str], int | None]", sparse: set[str], rng: np.random.Generator
    ) -> np.ndarray:
        count = count_of(kernel.layer)
        assert count is not None, "only kernels with a number are listed"
        keeps = kernel.layer in sparse
        return assign_clusters(kernel.read(), count, rng, keeps_zeros=keeps, outputs_axis=self._axis(kernel))

    def _count(self, model: "keras.Model", count_of: "Callable[[str], int | None]") -> list[Pattern]:
        """Returns what was really reached: of the kernels of a layer, by the one with most values.

        Raises:
            ExportError: It is more than was asked for.
        """
        found: dict[str, Pattern] = {}
        for kernel in self._list(model, count_of):
            values, asked = count_values(kernel.read(), self._axis(kernel)), count_of(kernel.layer)
            if asked is None or values > asked:
                raise ExportError(
                    f"cluster: layer '{kernel.layer}' came out with {values} different values instead of {asked}.",
                    expected=str(asked),
                    received=str(values),
                )
            values = max(values, int(found[kernel.layer].value) if kernel.layer in found else 0)
            per_channel = self._axis(kernel) is not None
            found[kernel.layer] = Pattern("values", kernel.layer, values, per_channel)
        return list(found.values())
