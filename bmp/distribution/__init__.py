"""STRATEGIES: which devices take part in training."""

from bmp.catalog import Catalog
from bmp.distribution.strategies import build_mirrored, build_one_device

__all__ = ["STRATEGIES"]

STRATEGIES = Catalog("strategy", {"mirrored": build_mirrored, "one_device": build_one_device})
