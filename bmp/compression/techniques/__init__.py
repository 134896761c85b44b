"""TECHNIQUES: the ways to compress a model, one file each."""

from bmp.catalog import Catalog
from bmp.compression.techniques.channels import Channels
from bmp.compression.techniques.cluster import Cluster
from bmp.compression.techniques.prune import Prune
from bmp.compression.techniques.qat import QuantizationAwareTraining
from bmp.compression.techniques.stored import DynamicRange, Float16, Int8, Int16x8
from bmp.compression.techniques.student import Student
from bmp.compression.techniques.two_of_four import TwoOfFour

TECHNIQUES: Catalog = Catalog(
    "technique",
    {
        "student": Student,
        "channels": Channels,
        "prune": Prune,
        "two_of_four": TwoOfFour,
        "cluster": Cluster,
        "qat": QuantizationAwareTraining,
        "float16": Float16,
        "dynamic": DynamicRange,
        "int8": Int8,
        "int16x8": Int16x8,
    },
)
