"""Sensitivity: what each layer costs the score when compressed alone, and how to share compression out by it."""

from bmp.compression.sensitivity.allocation import allocate
from bmp.compression.sensitivity.measuring import LEVELS, measure_sensitivity
from bmp.compression.sensitivity.plot import plot_sensitivity
from bmp.compression.sensitivity.sensitivity import Joint, Row, Sensitivity

__all__ = ["LEVELS", "Joint", "Row", "Sensitivity", "allocate", "measure_sensitivity", "plot_sensitivity"]
