"""Networks whose cost is known, and what traces and compiles them."""

from typing import Any

import tensorflow as tf
import tf_keras as keras

from bmp.models import look_up_model
from bmp.plan.flops import Flops, count_flops
from bmp.plan.trace import trace_forward
from bmp.signature import Signature, TensorSpec


def make_mlp(inputs: int = 100, hidden: int = 50, classes: int = 10) -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((inputs,)),
            keras.layers.Dense(hidden, activation="relu"),
            keras.layers.Dense(classes, activation="softmax"),
        ]
    )


def build(name: str, inputs: TensorSpec, output: tuple[int, ...], objective: str = "multiclass", **args: Any) -> Any:
    signature = Signature((inputs,), (TensorSpec("output", "float32", output),), objective)
    return look_up_model(name, args)(signature)


def ready(model: keras.Model, optimizer: Any = "adam") -> keras.Model:
    model.compile(optimizer, "sparse_categorical_crossentropy")
    model.optimizer.build(model.trainable_variables)
    return model


def flops_of(model: keras.Model, *shape: int, dtype: str = "float32") -> Flops:
    return count_flops(trace_forward(model, tf.TensorSpec((1, *shape), dtype)))


def flops_of_function(function: Any, *specs: tf.TensorSpec) -> Flops:
    return count_flops(tf.function(function).get_concrete_function(*specs).graph)
