"""What is annotated is quantized, what is not stays float, and dense layers between floats compute in int8."""

import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_model_optimization as tfmot
import tf_keras as keras

sys.path.append(str(Path(__file__).parents[2] / "models"))
from model_cases import CASES, build, make_batch

from bmp.artifact.saved_model import write_saved_model
from bmp.compression.legalise.quantizable import annotate, find_obstacle

TRAINED = list({case.name: case for case in CASES if case.learns and case.name != "mobilenet_v2"}.values())
TRAINED += [case for case in CASES if case.name == "transformer" and case.signature.objective == "multilabel"]


def quantize(model, **args):
    annotated, notes = annotate(model, **args)
    with tfmot.quantization.keras.quantize_scope():
        return tfmot.quantization.keras.quantize_apply(annotated), notes


@pytest.mark.parametrize("case", TRAINED, ids=str)
def test_every_model_of_the_shelf_can_be_given_quantizers(case):
    model, inputs = build(case), make_batch(case.signature).inputs
    before = model.get_weights()
    quantized, notes = quantize(model)
    quantized(inputs, training=True)  # sets the ranges
    assert np.abs(quantized(inputs).numpy() - model(inputs).numpy()).max() < 0.6 * np.ptp(model(inputs).numpy()) + 0.1
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    wrapped = {layer.layer.name for layer in quantized.layers if hasattr(layer, "quantize_config")}
    named = {name for note in notes for name in note.partition(": ")[2].rpartition(" (")[0].split(", ")}
    assert named == {layer.name for layer in model.layers if layer.weights and layer.name not in wrapped}


def test_every_dense_layer_of_a_transformer_computes_in_int8(tmp_path):
    from ai_edge_litert.interpreter import Interpreter

    (case,) = [case for case in CASES if case.name == "transformer" and case.signature.objective == "regression"]
    model, _ = quantize(build(case))
    model(make_batch(case.signature).inputs, training=True)
    write_saved_model(model, case.signature, tmp_path)
    converter = tf.lite.TFLiteConverter.from_saved_model(str(tmp_path), signature_keys=["serving_default"])
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    interpreter = Interpreter(model_content=converter.convert())
    dtypes = {tensor["index"]: tensor["dtype"] for tensor in interpreter.get_tensor_details()}
    dense = [op for op in interpreter._get_ops_details() if op["op_name"] == "FULLY_CONNECTED"]
    assert len(dense) == 6
    assert {dtypes[op["inputs"][place]] for op in dense for place in (0, 1)} == {np.int8}


def test_a_separable_convolution_is_taken_apart():
    layers = keras.layers
    x = inputs = keras.Input((8, 2))
    x = layers.Reshape((4, 2, 2))(x)
    model = keras.Model(inputs, layers.SeparableConv2D(4, 2, activation="relu", name="two")(x))
    quantized, notes = quantize(model)
    x = np.random.default_rng(0).normal(size=(16, 8, 2)).astype(np.float32)
    quantized(x, training=True)
    wanted = model(x).numpy()
    assert notes == () and np.abs(quantized(x).numpy() - wanted).max() < 0.3 * np.ptp(wanted)
    assert sum("quant" in layer.name and "conv" in layer.name.lower() for layer in quantized.layers) >= 2


def test_a_layer_can_be_left_float():
    case = CASES[0]
    quantized, notes = quantize(build(case), leave=lambda layer: layer.name == "dense_1")
    assert notes == ("Trained as float, without rounding: dense_1 (Dense).",)
    assert [layer.name for layer in quantized.layers if layer.name.endswith("_range")] == ["dense_1_range"]


def test_obstacles_are_said():
    layers = keras.layers
    assert find_obstacle(layers.Dense(3)) is None and find_obstacle(layers.BatchNormalization()) is None
    assert find_obstacle(layers.SeparableConv1D(3, 2)) == "TF-MOT has no quantizers for SeparableConv1D"
    assert find_obstacle(layers.Conv1D(3, 2)) == "TF-MOT has no quantizers for Conv1D"
    assert find_obstacle(layers.Dense(3, activation="elu")).endswith("round the activation elu")
    assert find_obstacle(layers.Activation("elu")).endswith("round the activation elu")
