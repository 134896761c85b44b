"""Where examples come from, how they are split, and the input pipeline."""

from bmp.data.dataset import Dataset, Examples, Split, load_data
from bmp.data.sources import SOURCES

__all__ = ["SOURCES", "Dataset", "Examples", "Split", "load_data"]
