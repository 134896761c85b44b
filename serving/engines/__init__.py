"""ENGINES: what runs a model in serving."""

from bmp.catalog import Catalog
from serving.engines.litert import LiteRTEngine

__all__ = ["ENGINES", "LiteRTEngine"]

ENGINES = Catalog("engine", {"litert": LiteRTEngine})
