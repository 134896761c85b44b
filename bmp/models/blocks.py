"""The block that encoders and decoders are stacked from."""

from typing import Any

from bmp.errors import ConfigError

_SPREAD = 0.02
"""Standard deviation of initial weights."""


def check_heads(width: int, heads: int, *, model: str) -> None:
    """Checks that the heads share the width equally.

    Raises:
        ConfigError: They do not.
    """
    if width % heads:
        raise ConfigError(
            f"The model '{model}' cannot divide a width of {width} among {heads} heads; make width a multiple of "
            "heads.",
            expected=f"a multiple of {heads}",
            received=str(width),
        )


def add_block(
    x: Any,
    name: str,
    *,
    heads: int,
    layers: int,
    dropout: float,
    bias: bool = True,
    causal: bool = False,
    mask: Any = None,
) -> Any:
    """Returns `(B, T, width)` after attention and a two-layer perceptron, each normalised before and added after.

    Args:
        x: `(B, T, width)`.
        name: Of the block; its layers' names begin with it.
        heads: Of attention.
        layers: Blocks there are; what is added to the residual stream starts smaller the more there are.
        dropout: Share of attention weights and of what is added, in training only.
        bias: Whether dense layers and normalisations have one.
        causal: Whether a position sees only itself and those before it.
        mask: Bool `(B, T)`, true where a position may be looked at.

    Reference:
        Radford et al.: Language models are unsupervised multitask learners, 2019, section 2.3.
    """
    import tf_keras as keras

    from bmp.models.layers import SelfAttention

    width = x.shape[-1]

    def add_dense(y: Any, units: int, part: str, spread: float = _SPREAD, activation: str | None = None) -> Any:
        kernel = keras.initializers.RandomNormal(stddev=spread)
        return keras.layers.Dense(
            units, activation=activation, use_bias=bias, kernel_initializer=kernel, name=f"{name}_{part}"
        )(y)

    def add_residual(y: Any, part: str) -> Any:
        y = add_dense(y, width, f"{part}_out", spread=_SPREAD / (2 * layers) ** 0.5)
        if dropout:
            y = keras.layers.Dropout(dropout, name=f"{name}_{part}_dropout")(y)
        return keras.layers.Add(name=f"{name}_{part}_add")([x, y])

    y = add_norm(x, f"{name}_attention_norm", bias=bias)
    y = add_dense(y, 3 * width, "attention_in")
    attention = SelfAttention(heads, causal, dropout, name=f"{name}_attention")
    x = add_residual(attention(y if mask is None else [y, mask]), "attention")
    y = add_norm(x, f"{name}_dense_norm", bias=bias)
    return add_residual(add_dense(y, 4 * width, "dense_in", activation="gelu"), "dense")


def add_norm(x: Any, name: str, *, bias: bool = True) -> Any:
    """Returns `(B, T, width)` with mean 0 and variance 1 over the width, times a scale, plus a bias."""
    import tf_keras as keras

    return keras.layers.LayerNormalization(epsilon=1e-5, center=bias, name=name)(x)
