"""Multi-layer perceptron."""

from typing import TYPE_CHECKING, Literal

from pydantic import FiniteFloat, PositiveInt

from bmp.signature import Signature

if TYPE_CHECKING:
    import tf_keras as keras


def build_mlp(
    signature: Signature,
    /,
    *,
    hidden: list[PositiveInt],
    activation: Literal["relu", "sigmoid", "tanh", "elu", "selu", "gelu", "swish", "linear"] = "relu",
    scale: FiniteFloat = 1.0,
) -> "keras.Model":
    """Builds dense layers with a softmax over the classes.

    Args:
        signature: One input of any fixed shape, one output of shape `(classes,)`.
        hidden: Units of each hidden layer.
        activation: Of the hidden layers.
        scale: What inputs are multiplied by first, in the graph, so that clients send raw values.
    """
    import tf_keras as keras

    (spec,), (output,) = signature.inputs, signature.outputs
    # === Layers and graph ===
    inputs = keras.Input(spec.shape, name=spec.name, dtype=spec.dtype)
    x = keras.layers.Flatten(name="flatten")(inputs)  # (B, F)
    if scale != 1.0:
        x = keras.layers.Rescaling(scale, name="scale")(x)
    for number, units in enumerate(hidden, start=1):
        x = keras.layers.Dense(units, activation=activation, name=f"dense_{number}")(x)  # (B, units)
    outputs = keras.layers.Dense(output.shape[0], activation="softmax", name=output.name)(x)
    return keras.Model(inputs, outputs, name="mlp")
