"""Keras layers that Keras itself has not; importing this registers them, so that `.h5` files with them can be read.

All of this is TensorFlow: imported inside functions only.
"""

from bmp.models.layers.attention import LearnedPositions, MaskedMean, PaddingMask, SelfAttention, TiedEmbedding
from bmp.models.layers.lenet import ScaledTanh, TableConvolution
from bmp.models.layers.multi_head import Attention
from bmp.models.layers.support_vectors import PairwiseVotes, SupportVectors
from bmp.models.layers.trees import Trees

__all__ = [
    "Attention",
    "LearnedPositions",
    "MaskedMean",
    "PaddingMask",
    "PairwiseVotes",
    "ScaledTanh",
    "SelfAttention",
    "SupportVectors",
    "TableConvolution",
    "TiedEmbedding",
    "Trees",
]
