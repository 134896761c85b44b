"""Building a model, the house's or the user's own, and checking that it is what the signature says."""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from bmp.catalog import Catalog
from bmp.errors import ConfigError
from bmp.models.head import activation_of
from bmp.plugins import load_function, name_the_line
from bmp.signature import Arrays, Signature, TensorSpec

if TYPE_CHECKING:
    import tf_keras as keras

Builder = Callable[..., "keras.Model"]
"""`(signature)`, or `(signature, train)` for one that fits its model itself, to a Keras model."""

_TRIED = 4
"""Examples a new model is tried on."""


def bind_own(reference: str, args: Mapping[str, Any]) -> Builder:
    """Returns the builder that `file.py:function` names, its arguments checked like those of a catalog entry.

    Raises:
        ConfigError: There is no such function, or an argument is unknown, missing or of the wrong type; when the
            builder is called: it fails, and the message names the line.
    """
    bound = Catalog("model", {reference: load_function(reference)}).bind(reference, args)

    @functools.wraps(bound, assigned=())
    def build(*given: Any) -> "keras.Model":
        with name_the_line(reference, ConfigError):
            return bound(*given)

    return build


def build_model(builder: Builder, signature: Signature, train: Any) -> "keras.Model":
    """Returns a model whose weights exist and whose outputs are those of the signature.

    Args:
        builder: Takes the signature, and the training split as well if it has two positional parameters.
        signature: What the model takes and returns.
        train: The training split.

    Raises:
        ConfigError: The builder returned no Keras 2 model, or one that does not fit the signature.
    """
    model = builder(signature, train) if _wants_train(builder) else builder(signature)
    _check_kind(model)
    _check_names(model, signature)
    _check_outputs(model, _call(model, signature), signature)
    _check_range(model, signature)
    return model


def _wants_train(builder: Builder) -> bool:
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    needed = [
        parameter
        for parameter in inspect.signature(builder).parameters.values()
        if parameter.kind in kinds and parameter.default is parameter.empty
    ]
    if len(needed) not in (1, 2):
        names = ", ".join(parameter.name for parameter in needed) or "none"
        raise ConfigError(
            "A builder of models takes the signature, or the signature and the training split, in front of its "
            f"keyword-only arguments: def build_net(signature, /, *, units: int). This one takes {names}.",
            expected="one or two positional parameters",
            received=names,
        )
    return len(needed) == 2


def _check_kind(model: Any) -> None:
    import tf_keras as keras

    if isinstance(model, keras.Model):
        return
    kind = f"{type(model).__module__}.{type(model).__qualname__}"
    hint = "Return an instance of tf_keras.Model."
    if any(base.__module__.partition(".")[0] == "keras" for base in type(model).__mro__):
        kind = f"{kind}, which is Keras 3"
        hint = "bmp works with Keras 2: write `import tf_keras as keras` in place of `import keras`."
    raise ConfigError(
        f"The builder returned {'nothing' if model is None else f'a {kind}'}; expected a Keras model. {hint}",
        expected="tf_keras.Model",
        received=kind,
    )


def _check_names(model: "keras.Model", signature: Signature) -> None:
    """Checks names that Keras would quietly take for others."""
    wanted = [spec.name for spec in signature.inputs]
    named = list(model.input_names or ()) if model._is_graph_network else wanted
    if len(wanted) > 1 and sorted(named) != sorted(wanted):
        raise ConfigError(
            f"The model '{model.name}' has the inputs {', '.join(named)}, but the data has {', '.join(wanted)}. "
            "Name the keras.Input layers as the signature does.",
            expected=", ".join(wanted),
            received=", ".join(named),
        )


def _call(model: "keras.Model", signature: Signature) -> Any:
    """Returns what the model says to symbolic inputs; a subclassed model gets its weights by that."""
    import tf_keras as keras

    inputs = {spec.name: keras.Input(spec.shape, name=spec.name, dtype=spec.dtype) for spec in signature.inputs}
    try:
        return model(_pack(inputs))
    except Exception as error:  # whatever a call of the user's own raises
        received = ", ".join(f"{spec.name} {spec}" for spec in signature.inputs)
        raise ConfigError(
            f"The model '{model.name}' cannot be called on the data's inputs, {received}: "
            f"{' '.join(str(error).split())[:400]}",
            expected=received,
        ) from error


def _pack(inputs: dict[str, Any]) -> Any:
    """Returns one input by itself, several by name: how Keras models are called everywhere in bmp."""
    return inputs if len(inputs) > 1 else next(iter(inputs.values()))


def _check_outputs(model: "keras.Model", outputs: Any, signature: Signature) -> None:
    (wanted,) = signature.outputs
    named = outputs if isinstance(outputs, dict) else {wanted.name: outputs}
    if isinstance(outputs, (list, tuple)) or set(named) != {wanted.name}:
        received = f"{len(outputs)} outputs" if isinstance(outputs, (list, tuple)) else f"outputs {', '.join(named)}"
        raise ConfigError(
            f"The model '{model.name}' returns {received}; expected one, '{wanted.name}' as {wanted}.",
            expected=f"{wanted.name}: {wanted}",
            received=received,
        )
    tensor = named[wanted.name]
    found = TensorSpec(wanted.name, tensor.dtype.name, tuple(tensor.shape[1:]))
    if (found.dtype, found.shape) != (wanted.dtype, wanted.shape):
        raise ConfigError(
            f"The model '{model.name}' returns {found}; expected '{wanted.name}' as {wanted}, which follows from the "
            f"objective '{signature.objective}'. Take the width from signature.outputs[0].shape"
            f"{', and let the last layer compute in float32' if found.dtype != wanted.dtype else ''}.",
            expected=str(wanted),
            received=str(found),
        )


def _check_range(model: "keras.Model", signature: Signature) -> None:
    """Tries the model on a few examples: an objective of probabilities needs probabilities, not logits."""
    activation = activation_of(signature)
    if activation == "linear":
        return
    (output,) = signature.outputs
    answer = model(_pack(_make_examples(signature)), training=False)
    values = np.asarray(answer[output.name] if isinstance(answer, dict) else answer)
    sums = values.sum(axis=-1) if activation == "softmax" else np.ones(1)
    if values.min() < 0 or values.max() > 1 + 1e-3 or np.abs(sums - 1).max() > 1e-2:
        raise ConfigError(
            f"The model '{model.name}' returns numbers from {values.min():.3g} to {values.max():.3g} for "
            f"'{output.name}'; the objective '{signature.objective}' needs probabilities. Give the last layer "
            f'activation="{activation}".',
            expected=f"probabilities, by {activation}",
            received=f"{values.min():.3g} to {values.max():.3g}",
        )


def _make_examples(signature: Signature) -> Arrays:
    random = np.random.default_rng(0)
    examples = {}
    for spec in signature.inputs:
        shape = (_TRIED, *(size or 1 for size in spec.shape))
        is_whole = np.dtype(spec.dtype).kind in "iu"
        drawn = random.integers(spec.vocabulary or 2, size=shape) if is_whole else random.normal(scale=30, size=shape)
        examples[spec.name] = drawn.astype(spec.dtype)
    return examples
