"""Compression: pruning and quantization, and the choice among what they yield."""

from bmp.compression.candidates import Candidate, make_candidates
from bmp.compression.choice import Choice, choose

__all__ = ["Candidate", "Choice", "choose", "make_candidates"]
