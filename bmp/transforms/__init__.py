"""What happens to raw features before a model: described as data, run by numpy.

TensorFlow's twins of the same steps, for training, stand in bmp/data/twins. `labels` reads what a model returns.
"""

from bmp.transforms.base import Columns, Field, Fields, Kind, Step
from bmp.transforms.preprocessing import Preprocessing
from bmp.transforms.steps import TRANSFORMS, build_steps

__all__ = ["TRANSFORMS", "Columns", "Field", "Fields", "Kind", "Preprocessing", "Step", "build_steps"]
