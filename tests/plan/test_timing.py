import tensorflow as tf
from networks import make_mlp, ready

from bmp.plan.timing import measure_step


def test_at_least_three_steps_are_timed_after_the_warm_up():
    batches = [(tf.zeros((8, 100)), tf.zeros((8,), tf.int64))] * 2
    found = measure_step(ready(make_mlp()), batches, jit=False, budget_s=0.0)
    assert found.steps == 3 and found.wall_s > 0 and found.cpu_s > 0
