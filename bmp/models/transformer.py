"""Encoder: classes or numbers for a text, a series or an image."""

from typing import TYPE_CHECKING, Any

from pydantic import FiniteFloat, PositiveInt

from bmp.errors import ConfigError
from bmp.models.blocks import add_block, add_norm, check_heads
from bmp.models.head import add_head
from bmp.models.inputs import Share, add_scale, take_one
from bmp.signature import Signature, TensorSpec

if TYPE_CHECKING:
    import tf_keras as keras


def build_transformer(
    signature: Signature,
    /,
    *,
    layers: PositiveInt = 4,
    heads: PositiveInt = 4,
    width: PositiveInt = 128,
    dropout: Share = 0.0,
    patch: PositiveInt | None = None,
    padding: bool = True,
    scale: FiniteFloat = 1.0,
) -> "keras.Model":
    """Builds an encoder with learned positions, normalisation before each part, and a head on the mean over positions.

    Args:
        signature: One input: tokens `(T,)` with a vocabulary; a series `(T, D)`; or, with `patch`, an image `(H, W)`
            or `(H, W, C)`. One output of shape `(width,)`.
        layers: Blocks.
        heads: Of attention, in each block.
        width: Numbers that stand for a position; a multiple of `heads`.
        dropout: Share dropped of embeddings, attention weights and what blocks add, in training only.
        patch: Side in pixels of the squares an image is cut into, each a position; divides height and width.
        padding: Whether token 0 is padding, which nothing looks at and the mean leaves out.
        scale: What numbers are multiplied by first, in the graph, so that clients send raw values.

    Raises:
        ConfigError: The input is none of these, the patches do not fit or the heads do not divide the width.

    Reference:
        Vaswani et al.: Attention is all you need, 2017; Xiong et al.: On layer normalization in the transformer
        architecture, 2020 (normalisation first); Dosovitskiy et al.: An image is worth 16x16 words, 2021 (patches).
    """
    import tf_keras as keras

    from bmp.models.layers import LearnedPositions, MaskedMean, PaddingMask

    spec = take_one(signature, model="transformer")
    _check_input(spec, patch)
    check_heads(width, heads, model="transformer")
    # === Layers and graph ===
    inputs = keras.Input(spec.shape, name=spec.name, dtype=spec.dtype)
    mask = PaddingMask(name="mask")(inputs) if padding and spec.vocabulary is not None else None  # (B, T)
    x = LearnedPositions(name="positions")(_embed(inputs, spec, width, patch, scale))  # (B, T, width)
    if dropout:
        x = keras.layers.Dropout(dropout, name="dropout")(x)
    for number in range(1, layers + 1):
        x = add_block(x, f"block_{number}", heads=heads, layers=layers, dropout=dropout, mask=mask)
    x = add_norm(x, "norm")
    mean = keras.layers.GlobalAveragePooling1D if mask is None else MaskedMean
    x = mean(name="mean")(x if mask is None else [x, mask])  # (B, width)
    return keras.Model(inputs, add_head(x, signature, model="transformer"), name="transformer")


def _check_input(spec: TensorSpec, patch: int | None) -> None:
    rank = len(spec.shape)
    fits = rank == 1 if spec.vocabulary is not None else rank in (2, 3) if patch else rank == 2
    if not fits or (patch and spec.vocabulary is not None):
        raise ConfigError(
            "The model 'transformer' needs tokens (B, T) with a vocabulary, a series (B, T, D), or with "
            f"model.args.patch an image (B, H, W) or (B, H, W, C), but input '{spec.name}' is {spec}"
            f"{'' if patch is None else f' and patch is {patch}'}. Use model.build: mlp for rows of features.",
            expected="tokens, a series, or an image and a patch size",
            received=str(spec),
        )
    sizes = [size for size in spec.shape[:2] if size is not None]
    if patch and any(size % patch for size in sizes):
        raise ConfigError(
            f"The model 'transformer' cannot cut images of {sizes[0]}x{sizes[1]} into patches of {patch}x{patch}; "
            "set model.args.patch to a number that divides both.",
            expected=f"a divisor of {sizes[0]} and {sizes[1]}",
            received=str(patch),
        )


def _embed(x: Any, spec: TensorSpec, width: int, patch: int | None, scale: float) -> Any:
    """Returns a vector for each token, moment or patch: `(B, T, width)`."""
    import tf_keras as keras

    if spec.vocabulary is not None:
        return keras.layers.Embedding(spec.vocabulary, width, name="embed")(x)
    if patch and len(spec.shape) == 2:
        x = keras.layers.Reshape((*spec.shape, 1), name="add_channel")(x)  # (B, H, W, 1)
    x = add_scale(x, scale)
    if not patch:
        return keras.layers.Dense(width, name="embed")(x)
    x = keras.layers.Conv2D(width, patch, strides=patch, name="embed")(x)  # (B, H/patch, W/patch, width)
    return keras.layers.Reshape((-1, width), name="patches")(x)
