"""TensorFlow's twins of bmp.transforms: the same steps with equal results, in a graph, on whole batches.

Used inside `tf.data.Dataset.map`. No twin holds a resource (a lookup table): a dataset would not keep it alive.
"""

from bmp.data.twins.augment import augments, mix_up, mixup_alpha
from bmp.data.twins.run import TWINS, count_fixed, run_fixed_twins, run_twins

__all__ = ["TWINS", "augments", "count_fixed", "mix_up", "mixup_alpha", "run_fixed_twins", "run_twins"]
