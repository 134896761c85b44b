"""The last layer of every network: as many outputs as the signature says, with the activation of its objective."""

from typing import Any

from bmp.errors import ConfigError
from bmp.objectives import OBJECTIVES
from bmp.signature import Signature


def add_head(x: Any, signature: Signature, *, model: str) -> Any:
    """Returns the outputs `(B, width)` of a dense layer over features `(B, F)`, named as in the signature.

    Raises:
        ConfigError: The objective wants an answer for every token, which only a decoder gives.
    """
    import tf_keras as keras

    (output,) = signature.outputs
    if len(output.shape) != 1:
        raise ConfigError(
            f"The model '{model}' gives one answer for an example, but the objective '{signature.objective}' wants "
            f"'{output.name}' as {output}. Use model.build: gpt for text that goes on.",
            expected="an output of shape (B, width)",
            received=str(output),
        )
    # float32 under every precision policy: probabilities and the loss need it.
    return keras.layers.Dense(output.shape[0], activation=activation_of(signature), name=output.name, dtype="float32")(
        x
    )


def activation_of(signature: Signature) -> str:
    """Returns `softmax`, `sigmoid` or `linear`."""
    return OBJECTIVES[signature.objective].activation
