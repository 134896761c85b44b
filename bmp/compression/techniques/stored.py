"""How the exported file stores numbers: the last step of a chain, without training."""

from dataclasses import dataclass, field, replace
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from bmp.artifact.litert import Kind, Storage
from bmp.compression.rounding.fallback import find_fallback
from bmp.compression.technique import Form, Stage, Support, Technique, Workshop
from bmp.errors import ExportError

Count = Annotated[int, Field(ge=1)]

_SMALLEST_DYNAMIC = 1024
"""LiteRT's converter leaves kernels with fewer weights float32 where activations are rounded while the model runs."""

_NO_INT16 = {
    "LayerNormalization": "a squared difference",
    "GroupNormalization": "a squared difference",
    "PaddingMask": "a comparison",
    "MaskedMean": "a sum",
    "SupportVectors": "a squared difference",
    "PairwiseVotes": "a comparison",
    "Trees": "a comparison",
}
"""Layers that int16x8 cannot hold, with the operation that is to blame."""


@dataclass(frozen=True, kw_only=True)
class _Stored(Technique):
    kind: ClassVar[Kind]
    stage: ClassVar[Stage] = Stage.STORED
    is_last: ClassVar[bool] = True
    trains: ClassVar[bool] = False
    takes_trained: ClassVar[bool] = False
    """Whether a model that was trained with the rounding of int8 can be stored so."""

    def support(self, layer: Any) -> Support:
        """Returns whether LiteRT stores the weights of a layer so."""
        if not getattr(getattr(layer, "forward_layer", layer), "unroll", True):
            return Support("no", "LiteRT converts no loop over time with a free batch", "build it with unroll: true")
        return self._support_unrolled(layer)

    def apply(self, form: Form, workshop: Workshop) -> Form:
        """Returns the form with another storage; the model stays as it is. See the base class for the errors."""
        if form.storage.is_trained and not self.takes_trained:
            raise ExportError(
                f"The model was trained for the rounding of int8 and cannot be stored as {self.kind}; write int8, or "
                "leave the training for it out.",
                expected="int8",
                received=self.kind,
            )
        return self._store(form, workshop)

    def _support_unrolled(self, layer: Any) -> Support:
        return Support("applies") if layer.weights else Support("nothing", "it has no weights")

    def _store(self, form: Form, workshop: Workshop) -> Form:
        return replace(form, storage=Storage(self.kind, per_channel=_keeps_channels(form)))


@dataclass(frozen=True, kw_only=True)
class Float16(_Stored):
    """Weights of 16 bits, computed in float32: half the size, and as fast as before."""

    kind: ClassVar[Kind] = "float16"


@dataclass(frozen=True, kw_only=True)
class DynamicRange(_Stored):
    """Weights of 8 bits; activations are rounded while the model runs, each batch by its own range."""

    kind: ClassVar[Kind] = "dynamic"

    def _support_unrolled(self, layer: Any) -> Support:
        largest = max((int(weight.shape.num_elements()) for weight in layer.weights), default=0)
        if 0 < largest < _SMALLEST_DYNAMIC:
            return Support("nothing", f"{largest:,} weights; LiteRT leaves fewer than {_SMALLEST_DYNAMIC:,} float32")
        return super()._support_unrolled(layer)


@dataclass(frozen=True, kw_only=True)
class Int8(_Stored):
    """Weights and activations of 8 bits, with ranges from training examples, or from the training before.

    Args:
        integer_io: Whether inputs and outputs of the file are int8 as well; serving converts.
        calibration_examples: How many examples set the ranges.
        float_layers: Names of layers that stay float32; `auto` finds them by their errors.
    """

    kind: ClassVar[Kind] = "int8"
    takes_trained: ClassVar[bool] = True

    integer_io: bool = False
    calibration_examples: Count = 512
    float_layers: Literal["auto"] | list[str] = field(default_factory=list)

    def distinguishing(self) -> list[str]:
        """Returns what is not the default: `["io", "float auto"]`."""
        names = self.float_layers if isinstance(self.float_layers, str) else "+".join(self.float_layers)
        return [*(["io"] if self.integer_io else []), *([f"float {names}"] if names else [])]

    def _store(self, form: Form, workshop: Workshop) -> Form:
        storage = replace(
            form.storage,
            kind="int8",
            integer_io=self.integer_io,
            calibration_examples=self.calibration_examples,
            per_channel=_keeps_channels(form),
        )
        if form.storage.is_trained and self.float_layers:
            raise ExportError(
                "float_layers is for int8 without training; after training for the rounding every layer has its ranges."
                " Leave float_layers or the training out.",
                expected="no float_layers",
                received=str(self.float_layers),
            )
        if self.float_layers != "auto":
            return replace(form, storage=replace(storage, float_layers=tuple(self.float_layers)))
        signature = workshop.trainer.data.signature
        found = find_fallback(form.model, signature, workshop.calibration(self.calibration_examples))
        storage = replace(storage, float_layers=found.float_layers)
        return replace(form, storage=storage, notes=(*form.notes, *found.notes))


@dataclass(frozen=True, kw_only=True)
class Int16x8(_Stored):
    """Weights of 8 bits and activations of 16: nearer to float32 than int8, and slow, since XNNPACK has no such kernel.

    Args:
        calibration_examples: How many examples set the ranges.
    """

    kind: ClassVar[Kind] = "int16x8"

    calibration_examples: Count = 512

    def _store(self, form: Form, workshop: Workshop) -> Form:
        storage = Storage(self.kind, calibration_examples=self.calibration_examples, per_channel=_keeps_channels(form))
        return replace(form, storage=storage)

    def _support_unrolled(self, layer: Any) -> Support:
        obstacle = _NO_INT16.get(type(layer).__name__)
        if obstacle or getattr(layer, "causal", False):
            reason = f"{obstacle or 'a choice by a mask'} has no sound 16-bit form in LiteRT"
            return Support("no", reason, "store it as int8 or dynamic")
        return super()._support_unrolled(layer)


def _keeps_channels(form: Form) -> bool:
    """Returns whether weights may have a scale for each channel: not where a whole kernel shares its values.

    A norm that is folded into kernels gives channels their own values in any case.
    """
    shares = any(pattern.kind == "values" and not pattern.per_channel for pattern in form.patterns)
    return not shares or any(type(layer).__name__ == "BatchNormalization" for layer in form.model.layers)
