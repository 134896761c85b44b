"""Recurrent networks."""

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, FiniteFloat, PositiveInt

from bmp.errors import ConfigError
from bmp.models.head import add_head
from bmp.models.inputs import Share, add_scale, take_one
from bmp.signature import Signature, TensorSpec

if TYPE_CHECKING:
    import tf_keras as keras

MAX_UNROLLED_STEPS = 256
"""Longest series that `unroll: auto` lays out step by step: the graph grows with every step."""


def build_rnn(
    signature: Signature,
    /,
    *,
    units: Annotated[list[PositiveInt], Field(min_length=1)],
    cell: Literal["lstm", "gru"] = "lstm",
    bidirectional: bool = False,
    dropout: Share = 0.0,
    embedding: PositiveInt = 64,
    padding: bool = True,
    scale: FiniteFloat = 1.0,
    unroll: bool | Literal["auto"] = "auto",
) -> "keras.Model":
    """Builds recurrent layers with a head on the last state.

    Args:
        signature: One input: tokens `(T,)` with a vocabulary, or a series `(T, D)`; an image `(H, W)` is a series of
            its rows. One output of shape `(width,)`.
        units: Of each recurrent layer.
        cell: Long short-term memory, or gated recurrent unit.
        bidirectional: Whether each layer reads the series backwards as well, with as many units again.
        dropout: Share of activations dropped after each layer, in training only.
        embedding: Numbers that stand for one token.
        padding: Whether token 0 is padding, over which the state stays as it is.
        scale: What numbers are multiplied by first, in the graph, so that clients send raw values.
        unroll: Whether the steps are laid out one after the other in the graph: LiteRT converts no loop with a free
            batch dimension, and the graph grows with every step. `auto` does so for up to 256 steps; a longer
            series, or `false`, is served by the SavedModel engine.

    Raises:
        ConfigError: The input is neither.

    Reference:
        Hochreiter and Schmidhuber: Long short-term memory, 1997; Cho et al.: Learning phrase representations using
        RNN encoder-decoder, 2014, section 2.3 (the gated recurrent unit).
    """
    import tf_keras as keras

    spec = take_one(signature, model="rnn")
    if len(spec.shape) != (2 if spec.vocabulary is None else 1):
        raise ConfigError(
            f"The model 'rnn' needs tokens (B, T) with a vocabulary, or a series (B, T, D), but input '{spec.name}' "
            f"is {spec}. Use model.build: mlp for rows of features, cnn for images.",
            expected="(B, T) tokens or (B, T, D)",
            received=str(spec),
        )
    if unroll == "auto":
        unroll = (spec.shape[0] or 0) <= MAX_UNROLLED_STEPS
    kind = {"lstm": keras.layers.LSTM, "gru": keras.layers.GRU}[cell]
    # === Layers and graph ===
    inputs = keras.Input(spec.shape, name=spec.name, dtype=spec.dtype)
    x = _embed(inputs, spec, embedding, padding, scale)  # (B, T, D)
    for number, count in enumerate(units, start=1):
        name = f"{cell}_{number}"
        layer = kind(count, return_sequences=number < len(units), unroll=unroll, name=name)
        x = (keras.layers.Bidirectional(layer, name=f"both_{name}") if bidirectional else layer)(x)
        if dropout:
            x = keras.layers.Dropout(dropout, name=f"dropout_{number}")(x)
    return keras.Model(inputs, add_head(x, signature, model="rnn"), name="rnn")


def _embed(x: Any, spec: TensorSpec, embedding: int, padding: bool, scale: float) -> Any:
    import tf_keras as keras

    if spec.vocabulary is None:
        return add_scale(x, scale)
    # With mask_zero, Keras hands the mask of token 0 on to every layer above.
    return keras.layers.Embedding(spec.vocabulary, embedding, mask_zero=padding, name="embed")(x)
