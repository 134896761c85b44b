"""A model rewritten so that techniques know its layers; each rewrite is proven to change no answer, or refused."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bmp.compression.legalise.attention import split_attention
from bmp.compression.legalise.convolution import widen_convolutions
from bmp.compression.legalise.draft import Allows, Draft
from bmp.compression.legalise.equality import MAX_DIFFERENCE, answer, draw_inputs, measure_difference
from bmp.compression.legalise.flat import flatten, trace
from bmp.compression.legalise.fold import fold_norms, fold_scales, norms_to_convolutions
from bmp.compression.legalise.unroll import unroll_loops
from bmp.errors import ConfigError, ExportError, suggest
from bmp.signature import Arrays, Signature

if TYPE_CHECKING:
    import numpy as np
    import tf_keras as keras

TRACE = "trace"
"""The rewrite that all others need: a subclassed model as a functional one."""

REWRITES: dict[str, Callable[["keras.Model", Signature, Allows], Draft | None]] = {
    "flatten": flatten,
    "fold_norms": fold_norms,
    "norms_to_convolutions": norms_to_convolutions,
    "widen_convolutions": widen_convolutions,
    "split_attention": split_attention,
    "unroll_loops": unroll_loops,
    "fold_scales": fold_scales,
}
"""In the order they are tried."""

DEFAULT = tuple(name for name in REWRITES if name != "fold_scales")
"""Those that leave a model as good to train as it was."""


@dataclass(frozen=True)
class Rewrite:
    """A rewrite that was proven and done.

    Args:
        name: An entry of REWRITES, or `trace`.
        layers: Names of the layers that each changed layer has become: itself in another form, or the neighbour that
            took it in.
        difference: Between answers before and after; see `measure_difference`.
    """

    name: str
    layers: dict[str, tuple[str, ...]]
    difference: float


@dataclass(frozen=True)
class Legal:
    """A model after rewrites.

    Args:
        model: In float32. The model given itself, if nothing was rewritten.
        steps: What was done, in order.
        notes: What could not be done, in whole sentences.
    """

    model: "keras.Model"
    steps: tuple[Rewrite, ...] = ()
    notes: tuple[str, ...] = ()

    def find(self, layer: str) -> tuple[str, ...]:
        """Returns the names of what a layer of the original model has become."""
        names = [layer]
        for step in self.steps:
            names = [new for name in names for new in step.layers.get(name, (name,))]
        return tuple(dict.fromkeys(names))

    def explain(self, layer: str) -> tuple[str, ...]:
        """Returns the names of the rewrites that a layer of the original model went through."""
        names, found = {layer}, []
        for step in self.steps:
            if names & set(step.layers):
                found.append(step.name)
            names = {new for name in names for new in step.layers.get(name, (name,))}
        return tuple(found)


def legalise(
    model: "keras.Model",
    signature: Signature,
    *,
    rewrites: Collection[str] = DEFAULT,
    examples: Arrays | None = None,
) -> Legal:
    """Rewrites a model, as far as each rewrite is proven; the model given is not touched.

    Args:
        model: Any Keras model; a subclassed one is traced first.
        signature: Of the model.
        rewrites: Those to try, of REWRITES.
        examples: Real inputs by name, a few, which rewrites are proven on beside random ones.

    Raises:
        ConfigError: There is no such rewrite.
        ExportError: The model is subclassed and cannot be traced.
    """
    for name in rewrites:
        if name not in REWRITES:
            raise ConfigError(f"There is no rewrite '{name}'.{suggest(name, REWRITES)}", received=name)
    proof = _Proof(model, [draw_inputs(signature), *([examples] if examples else [])])
    legal = _trace(model, signature, proof)
    for name, rewrite in REWRITES.items():
        if name in rewrites:
            legal = _try(legal, name, rewrite, signature, proof)
    return legal


@dataclass
class _Proof:
    """Compares models with the original one, whose answers are asked for once."""

    original: "keras.Model"
    batches: Sequence[Arrays]
    _answers: "list[np.ndarray]" = field(default_factory=list)

    def measure(self, model: "keras.Model") -> float:
        self._answers = self._answers or answer(self.original, self.batches)
        return measure_difference(self._answers, answer(model, self.batches))


def _trace(model: "keras.Model", signature: Signature, proof: _Proof) -> Legal:
    draft = trace(model, signature)
    if draft is None:
        return Legal(model)
    difference = proof.measure(draft.model)
    if difference > MAX_DIFFERENCE:
        raise ExportError(
            f"The model '{model.name}', followed layer by layer, answers otherwise (by {difference:.1e}): its call "
            "decides something in Python that depends on the inputs. Write it as a functional model.",
            expected=f"at most {MAX_DIFFERENCE:g}",
            received=f"{difference:.1e}",
        )
    return Legal(draft.model, (Rewrite(TRACE, draft.layers, difference),))


def _try(
    legal: Legal,
    name: str,
    rewrite: Callable[["keras.Model", Signature, Allows], Draft | None],
    signature: Signature,
    proof: _Proof,
) -> Legal:
    """Returns the model after a rewrite of every layer it fits; of each layer by itself, if not all are proven."""
    draft = rewrite(legal.model, signature, lambda layer: True)
    if draft is None:
        return legal
    difference = proof.measure(draft.model)
    if difference <= MAX_DIFFERENCE:
        done = Legal(draft.model, (*legal.steps, Rewrite(name, draft.layers, difference)), legal.notes)
        return _try(done, name, rewrite, signature, proof)  # a neighbour may have become free by it
    if len(draft.layers) == 1:
        (layer,) = draft.layers
        note = f"Layer '{layer}' was not rewritten by {name}: answers would change by {difference:.1e}."
        return Legal(legal.model, legal.steps, (*legal.notes, note))
    for layer in draft.layers:
        legal = _try(legal, name, _only(rewrite, layer), signature, proof)
    return legal


def _only(rewrite: Callable[..., Draft | None], name: str) -> Callable[..., Draft | None]:
    def rewrite_one(model: Any, signature: Signature, allows: Allows) -> Draft | None:
        return rewrite(model, signature, lambda layer: layer.name == name)

    return rewrite_one
