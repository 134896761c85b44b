"""The gate: whether a compressed model keeps its promise, tested on the same examples as the original."""

from bmp.compression.gate.agreement import Agreement
from bmp.compression.gate.classes import CLASS_FLOOR, ClassDrop
from bmp.compression.gate.drop import Drop, estimate_drop, measure_metric, point_drop
from bmp.compression.gate.interval import Interval
from bmp.compression.gate.promise import Promise
from bmp.compression.gate.record import Paired, Record, Recorder, record
from bmp.compression.gate.verdict import Verdict, judge

__all__ = [
    "CLASS_FLOOR",
    "Agreement",
    "ClassDrop",
    "Drop",
    "Interval",
    "Paired",
    "Promise",
    "Record",
    "Recorder",
    "Verdict",
    "estimate_drop",
    "judge",
    "measure_metric",
    "point_drop",
    "record",
]
