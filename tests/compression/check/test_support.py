"""What can be done to every model of the shelf, and to the recipes' own."""

import functools
import io
import sys
from pathlib import Path

import numpy as np
import pytest
import tf_keras as keras
from rich.console import Console

sys.path += [str(Path(__file__).parent.parent / "models"), str(Path(__file__).parent / "legalise")]
import legal_networks as networks
from model_cases import CASES, build, make_batch

from bmp.artifact.litert import LiteRTRunner, Storage, write_litert
from bmp.compression.check.support import check_support, find_float_layers
from bmp.compression.check.table import build_support_table, explain, to_rows
from bmp.compression.techniques import TECHNIQUES
from bmp.config import load_recipe
from bmp.models import MODELS, build_model, look_up_model
from bmp.signature import Signature, TensorSpec

# One of each entry, the hard ones: a loop over time, several inputs, attention, trees.
SHELF = {case.name: case for case in CASES if case.name not in ("rnn", "classical")} | {
    case.name: case for case in CASES if case.no_litert or "random_forest" in case.args.values()
}


QUICK = {
    name: TECHNIQUES.bind(name, {})() for name in TECHNIQUES if name not in ("student", "float16", "dynamic", "int16x8")
}
"""Each storage takes a conversion; all of them are asked of the subclassed recipe below."""


@functools.cache
def report_on(name):
    return check_support(build(SHELF[name]), SHELF[name].signature, techniques=QUICK)


def test_every_model_of_the_shelf_is_checked():
    assert set(SHELF) == set(MODELS)


@pytest.mark.parametrize("name", SHELF)
def test_every_model_of_the_shelf_can_be_stored_in_eight_bits(name):
    report = report_on(name)
    assert report.works("int8") and report.verdicts["int8"].tried and not report.notes


@pytest.mark.parametrize("name", SHELF)
def test_the_table_fits_and_every_row_says_why(name):
    report = report_on(name)
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(build_support_table(report))
    text = console.export_text()
    assert max(map(len, text.splitlines())) <= 100 and "…" not in text
    rows = to_rows(report)
    assert len(rows) == len(report.verdicts) + sum(len(row.supports) for row in report.rows)
    assert all(row["reason"] for row in rows if row["verdict"] == "no")
    assert all(not line.endswith((":", ";")) and "None" not in line for line in explain(report))


def test_a_subclassed_recipe_is_traced_and_then_like_any_other():
    recipe = load_recipe("subclassed")
    features, answer = TensorSpec("features", "float32", (10,)), TensorSpec("probability", "float32", (1,))
    signature = Signature((features,), (answer,), "binary")
    model = build_model(look_up_model(recipe.model.build, recipe.model.args), signature, None)
    report = check_support(model, signature)
    assert list(report.verdicts) == list(TECHNIQUES)  # every one is asked
    for technique in ("float16", "dynamic", "int8", "int16x8"):
        assert report.works(technique) and report.verdicts[technique].tried
    assert report.verdicts["prune"].verdict == "rewrite"
    assert "after trace" in report.verdicts["prune"].reason
    assert any(line.startswith("rewrite trace: ") for line in explain(report))


def test_a_rewrite_makes_room_for_techniques():
    report = check_support(networks.attention(), networks.sign(6, 8), techniques=QUICK)
    (row,) = [row for row in report.rows if row.layer == "self"]
    assert row.supports["qat"].verdict == "rewrite" and row.supports["qat"].reason == "split_attention"
    assert report.verdicts["qat"].verdict == "rewrite"
    assert any(line.startswith("rewrite split_attention: self, cross") for line in explain(report))


class Loose(keras.Model):
    """Has a variable that belongs to no layer: it can be exported, and not rewritten."""

    def __init__(self):
        super().__init__(name="loose")
        self.dense = keras.layers.Dense(3, name="dense")
        self.scale = self.add_weight("scale", (3,))

    def call(self, inputs):
        return self.dense(inputs) * self.scale


class Branching(Loose):
    """Decides by what it is given: it is not even a graph."""

    def call(self, inputs):
        return super().call(inputs) if keras.backend.mean(inputs) > 0 else inputs[:, :3]


@pytest.mark.parametrize("kind, is_stored", [(Loose, True), (Branching, False)])
def test_what_cannot_be_traced_is_refused_to_training_and_storage_still_tried(kind, is_stored):
    model = kind()
    model(np.ones((1, 5), np.float32))
    report = check_support(model, networks.sign(5))
    assert report.legal is None and len(report.notes) == 1
    assert report.verdicts["prune"].verdict == "no" and report.verdicts["prune"].fix == "write it as a functional model"
    assert report.verdicts["dynamic"].tried and report.works("dynamic") == is_stored
    assert [row.layer for row in report.rows] == ["dense"]


def test_what_must_stay_float_does_and_answers_are_kept(tmp_path):
    case = SHELF["classical"]
    model, inputs = build(case), make_batch(case.signature).inputs
    kept = find_float_layers(model)
    assert kept["flatten"] == "it feeds trees" and "threshold" in kept["trees"] and "values" not in kept
    wanted, errors = model(inputs).numpy(), []
    for layers in ((), tuple(kept)):
        path = tmp_path / f"{len(layers)}.tflite"
        write_litert(model, case.signature, path, storage=Storage("int8", float_layers=layers), calibration=inputs)
        (answer,) = LiteRTRunner(path, case.signature).run(inputs).values()
        errors.append(np.abs(answer - wanted).max())
    assert errors[0] > 0.1 and errors[1] < 1e-5


def test_nothing_is_trained_where_nothing_can_be():
    report = report_on("classical")
    for technique in ("channels", "prune", "cluster", "qat"):
        assert report.verdicts[technique].verdict == "no"
        assert "no trainable weights" in report.verdicts[technique].reason
