"""MODELS: networks built from a signature."""

from bmp.catalog import Catalog
from bmp.models.cnn import build_cnn
from bmp.models.mlp import build_mlp

__all__ = ["MODELS"]

MODELS = Catalog("model", {"cnn": build_cnn, "mlp": build_mlp})
