"""Multi-layer perceptron."""

from typing import TYPE_CHECKING, Any, Literal

from pydantic import FiniteFloat, PositiveInt

from bmp.models.head import add_head
from bmp.models.inputs import Share, add_scale, check_numbers, join_numbers
from bmp.signature import Signature, TensorSpec

if TYPE_CHECKING:
    import tf_keras as keras


def build_mlp(
    signature: Signature,
    /,
    *,
    hidden: list[PositiveInt],
    activation: Literal["relu", "sigmoid", "tanh", "elu", "selu", "gelu", "swish", "linear"] = "relu",
    scale: FiniteFloat = 1.0,
    dropout: Share = 0.0,
    embedding: PositiveInt = 16,
) -> "keras.Model":
    """Builds dense layers over everything the data has: inputs of any fixed shape, flattened and joined.

    Args:
        signature: Inputs of any fixed shape; one output of shape `(width,)`.
        hidden: Units of each hidden layer.
        activation: Of the hidden layers.
        scale: What numbers are multiplied by first, in the graph, so that clients send raw values.
        dropout: Share of activations dropped after each hidden layer, in training only.
        embedding: Numbers that stand for one token, for inputs with a vocabulary.

    Raises:
        ConfigError: An input is no tensor of numbers of fixed shape.
    """
    import tf_keras as keras

    # === Layers and graph ===
    inputs = [keras.Input(spec.shape, name=spec.name, dtype=spec.dtype) for spec in signature.inputs]
    x = _join(signature.inputs, inputs, scale, embedding)  # (B, F)
    for number, units in enumerate(hidden, start=1):
        x = keras.layers.Dense(units, activation=activation, name=f"dense_{number}")(x)  # (B, units)
        if dropout:
            x = keras.layers.Dropout(dropout, name=f"dropout_{number}")(x)
    return keras.Model(inputs, add_head(x, signature, model="mlp"), name="mlp")


def _join(specs: tuple[TensorSpec, ...], inputs: list[Any], scale: float, embedding: int) -> Any:
    """Returns `(B, F)`: all numbers, scaled, then the embedding of each token."""
    import tf_keras as keras

    for spec in specs:
        check_numbers(spec, model="mlp")
    pairs = list(zip(specs, inputs, strict=True))
    numbers = [x for spec, x in pairs if spec.vocabulary is None]
    parts = [add_scale(join_numbers(numbers), scale)] if numbers else []
    tokens = [(spec.vocabulary, x) for spec, x in pairs if spec.vocabulary is not None]
    for number, (vocabulary, x) in enumerate(tokens, start=1):
        x = keras.layers.Embedding(vocabulary, embedding, name=f"embed_{number}")(x)  # (B, …, embedding)
        parts.append(keras.layers.Flatten(name=f"flatten_embedding_{number}")(x))
    return keras.layers.Concatenate(name="join")(parts) if len(parts) > 1 else parts[0]
