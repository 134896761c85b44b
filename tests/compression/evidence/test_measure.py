"""The measuring of trials: what is said of a file is what the file does."""

import gzip
import math
from dataclasses import replace

import numpy as np
import pytest
import tf_keras as keras

from bmp.artifact.artifact import export_variant
from bmp.artifact.proof import PARITY_TOLERANCE, evaluate
from bmp.compression.chain import read_chain
from bmp.compression.evidence.measure import BATCH_SIZES, Measurer, time_all
from bmp.compression.search.workbench import Made, open_workbench
from bmp.compression.technique import Form, Pattern
from bmp.config import load_recipe
from bmp.errors import ProofError, UnknownNameError

KEY = "0123456789abcdef"


@pytest.fixture(scope="module")
def bench(tiny_run, tiny_trainer):
    return open_workbench(tiny_run.model, load_recipe(str(tiny_run.directory / "recipe.yaml")), tiny_trainer)


@pytest.fixture
def start(tiny_run, bench, tmp_path):
    """`start(metric)` is a measurer that has measured the original."""

    def start(metric="auto"):
        measurer = Measurer(tiny_run.data, bench.workshop, metric, tmp_path)
        original = export_variant("float32", tiny_run.model, tiny_run.data.signature, tmp_path)
        return measurer, measurer.measure_original(original)

    return start


def scale_weights(model, factor):
    other = keras.models.clone_model(model)
    other.set_weights([weight * factor for weight in model.get_weights()])
    return other


def test_the_original_is_measured_first_and_loses_nothing(start, tiny_run):
    measurer, base = start()
    assert (base.name, base.file, base.drop, base.failure) == ("float32", "float32.tflite", 0.0, None)
    assert base.score == evaluate(measurer.load(base), tiny_run.data.validation).result()["accuracy"]
    assert 0 <= base.max_abs_diff <= PARITY_TOLERANCE and base.sparsity < 0.2
    packed = measurer.path_of(base).read_bytes()
    assert (base.raw_bytes, base.gzip_bytes) == (len(packed), len(gzip.compress(packed, 9, mtime=0)))


def test_a_file_that_is_not_its_model_is_caught(tiny_run, bench, tmp_path):
    other = export_variant("float32", scale_weights(tiny_run.model, 1.1), tiny_run.data.signature, tmp_path)
    with pytest.raises(ProofError, match=r"float32\.tflite differs from the Keras model by up to"):
        Measurer(tiny_run.data, bench.workshop, "auto", tmp_path).measure_original(replace(other, model=tiny_run.model))


def test_a_trial_says_what_its_file_does(start, bench, tiny_run):
    measurer, base = start()
    made = bench.make(read_chain([{"prune": {"sparsity": 0.5}}, "int8"]))
    trial = measurer.measure(made, KEY, is_final=False)
    assert (trial.name, trial.file) == ("prune-0.5_int8", "prune-0.5_int8-01234567.tflite")
    assert trial.spec == ({"prune": {"sparsity": 0.5}}, "int8")
    assert (trial.epochs, trial.is_final, trial.latency) == (2, False, None)
    found = evaluate(measurer.load(trial), tiny_run.data.validation).result()["accuracy"]
    assert (trial.score, trial.drop) == (found, pytest.approx(base.score - found))
    assert trial.sparsity == pytest.approx(0.5, abs=0.05)
    assert trial.gzip_bytes < base.gzip_bytes / 2 and trial.raw_bytes < base.raw_bytes / 2
    assert PARITY_TOLERANCE < trial.max_abs_diff < 0.5
    assert trial.duration_s > 0


def test_the_drop_is_in_the_terms_of_the_metric(start, bench):
    measurer, base = start("log_loss")
    trial = measurer.measure(bench.make(read_chain(["int8"])), KEY)
    assert trial.drop == pytest.approx((trial.score - base.score) / base.score), "a share of what it was"


def test_latency_is_measured_where_it_is_wanted(start, bench):
    measurer, base = start()
    trial = measurer.measure(bench.make(read_chain(["int8"])), KEY, is_timed=True)
    timed = time_all({trial.name: measurer.load(trial), base.name: measurer.load(base)}, measurer.data)
    assert list(timed) == ["int8", "float32"]
    for latency in (trial.latency, *timed.values()):
        assert tuple(latency) == BATCH_SIZES
        assert all(0 < taken.p50_ms <= taken.p95_ms for taken in latency.values())


def test_what_could_not_be_made_is_a_trial_that_failed(start):
    measurer, _ = start()
    made = Made(read_chain(["int8"]), None, 3, "It has no kernel.")
    found = measurer.measure(made, KEY)
    assert (found.failure, found.file, found.epochs) == ("It has no kernel.", None, 3)
    assert math.isinf(found.drop)
    assert measurer.recall(KEY) is None


def test_a_pattern_that_is_gone_from_the_file_fails_loudly(start, tiny_run):
    measurer, _ = start()
    (name,) = (layer.name for layer in tiny_run.model.layers if layer.name == "dense_1")
    made = Made(read_chain(["prune"]), Form(tiny_run.model, patterns=(Pattern("zeros", name, 0.8),)))
    trial = measurer.measure(made, KEY)
    assert trial.file is None
    assert "layer 'dense_1' should have 80.0% zeros and has" in trial.failure
    assert "a later step has undone what an earlier one reached" in trial.failure


def test_outputs_that_are_no_numbers_fail(start, tiny_run):
    measurer, _ = start()
    made = Made(read_chain(["float16"]), Form(scale_weights(tiny_run.model, np.nan)))
    trial = measurer.measure(made, KEY)
    assert trial.failure is not None and trial.file is None


def test_an_earlier_call_is_remembered(start, bench):
    measurer, _ = start()
    trial = measurer.measure(bench.make(read_chain(["int8"])), KEY)
    again, _ = start()
    assert again.recall(KEY) == replace(trial, duration_s=0.0)
    assert again.recall("another") is None
    assert start("f1")[0].recall(KEY) is None, "its drop is one of another metric"
    (note,) = measurer.directory.glob("*.json")
    text = note.read_text()
    for damaged in ("{", "{}", "[]", text.replace('"latency": null', '"latency": {"x": 1}')):
        note.write_text(damaged)
        assert again.recall(KEY) is None
    note.write_text(text)
    measurer.path_of(trial).unlink()
    assert again.recall(KEY) is None


def test_a_metric_of_another_objective_is_refused(tiny_run, bench, tmp_path):
    with pytest.raises(UnknownNameError, match="'mae' is no metric of the objective multiclass; it has accuracy"):
        Measurer(tiny_run.data, bench.workshop, "mae", tmp_path)
