"""Decoder: a language model."""

from typing import TYPE_CHECKING

from pydantic import PositiveInt

from bmp.errors import ConfigError
from bmp.models.blocks import add_block, add_norm, check_heads
from bmp.models.inputs import Share, take_one
from bmp.signature import Signature

if TYPE_CHECKING:
    import tf_keras as keras


def build_gpt(
    signature: Signature,
    /,
    *,
    layers: PositiveInt = 6,
    heads: PositiveInt = 6,
    width: PositiveInt = 384,
    dropout: Share = 0.0,
    bias: bool = False,
) -> "keras.Model":
    """Builds a causal transformer that gives, after each token, the probabilities of the next one.

    The structure of GPT-2: learned positions, normalisation before attention and before the perceptron, GELU, and
    one table for the embedding and the output. The signature says the context (tokens it looks at) and vocabulary.

    Args:
        signature: One input of tokens, `(T,)` whole numbers with a vocabulary V; one output `(T, V)`.
        layers: Blocks.
        heads: Of attention, in each block.
        width: Numbers that stand for a token; a multiple of `heads`.
        dropout: Share dropped of embeddings, attention weights and what blocks add, in training only.
        bias: Whether dense layers and normalisations have one; GPT-2 has, and is no better for it.

    Raises:
        ConfigError: The data holds no text to go on with, or the heads do not divide the width.

    Reference:
        Radford et al.: Language models are unsupervised multitask learners, 2019, section 2.3.
    """
    import tf_keras as keras

    from bmp.models.layers import LearnedPositions, TiedEmbedding

    spec, (output,) = take_one(signature, model="gpt"), signature.outputs
    if spec.vocabulary is None or output.shape != (*spec.shape, spec.vocabulary):
        raise ConfigError(
            f"The model 'gpt' needs tokens (B, T) with a vocabulary V and answers (B, T, V), but input '{spec.name}' "
            f"is {spec} and output '{output.name}' is {output}. Use a source of text with the objective next_token, "
            "or model.build: transformer to classify text.",
            expected="(B, T) tokens and (B, T, V) probabilities",
            received=f"{spec} and {output}",
        )
    check_heads(width, heads, model="gpt")
    # === Layers and graph ===
    embedding = TiedEmbedding(
        spec.vocabulary, width, embeddings_initializer=keras.initializers.RandomNormal(stddev=0.02), name="embed"
    )
    inputs = keras.Input(spec.shape, name=spec.name, dtype=spec.dtype)
    x = LearnedPositions(name="positions")(embedding(inputs))  # (B, T, width)
    if dropout:
        x = keras.layers.Dropout(dropout, name="dropout")(x)
    for number in range(1, layers + 1):
        x = add_block(x, f"block_{number}", heads=heads, layers=layers, dropout=dropout, bias=bias, causal=True)
    logits = embedding(add_norm(x, "norm", bias=bias), reverse=True)  # (B, T, V)
    # float32 under every precision policy: probabilities and the loss need it.
    outputs = keras.layers.Activation("softmax", name=output.name, dtype="float32")(logits)
    return keras.Model(inputs, outputs, name="gpt")
