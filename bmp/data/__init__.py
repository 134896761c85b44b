"""Where examples come from, how they are checked and split, and the input pipeline."""

from bmp.data.dataset import Batch, Dataset, Report, Split, load_data
from bmp.data.scan import Bad
from bmp.data.source import BadExampleError, Source, Target
from bmp.data.sources import SOURCES

__all__ = [
    "SOURCES",
    "Bad",
    "BadExampleError",
    "Batch",
    "Dataset",
    "Report",
    "Source",
    "Split",
    "Target",
    "load_data",
]
