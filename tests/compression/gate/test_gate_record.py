"""Records: every metric is what the meter of the objective says, however the batches fall."""

from types import SimpleNamespace

import numpy as np
import pytest
from answers import LABELS, make_outputs, make_pair, make_targets, take

from bmp.compression.gate import Paired, Recorder, measure_metric, record
from bmp.errors import ConfigError
from bmp.objectives import OBJECTIVES, list_metrics


@pytest.fixture(params=sorted(OBJECTIVES))
def objective(request):
    return request.param


@pytest.mark.parametrize("size", [1, 13, 200])
def test_every_metric_is_what_the_meter_says(objective, size):
    random = np.random.default_rng(0)
    targets = make_targets(objective, random, 60)
    outputs = make_outputs(objective, targets, random, 3)
    meter = OBJECTIVES[objective].meter(LABELS[objective])
    meter.update(outputs, targets)
    expected, taken = meter.result(), take(objective, outputs, targets, size)
    assert set(expected) == set(list_metrics(objective, LABELS[objective]))
    assert {name: measure_metric(taken, name) for name in expected} == pytest.approx(expected)


def test_classes_that_nobody_has_are_left_out_of_f1_as_the_meter_does():
    targets = np.array([0, 1, 1, 0])
    outputs = np.eye(7, dtype=np.float32)[[0, 1, 0, 0]]
    meter = OBJECTIVES["multiclass"].meter(LABELS["multiclass"])
    meter.update(outputs, targets)
    assert measure_metric(take("multiclass", outputs, targets), "f1") == pytest.approx(meter.result()["f1"])


def test_a_model_is_run_over_a_split_batch_by_batch():
    targets = np.arange(300) % 2
    sizes = []

    def run(inputs):
        sizes.append(len(inputs["x"]))
        return {"probability": inputs["x"]}

    def batches(size):
        for start in range(0, 300, size):
            yield SimpleNamespace(
                inputs={"x": (targets[start : start + size, None] * 0.5 + 0.2).astype(np.float32)},
                targets=targets[start : start + size],
            )

    runner = SimpleNamespace(signature=SimpleNamespace(objective="binary"), run=run)
    split = SimpleNamespace(batches=batches, source=SimpleNamespace(target=SimpleNamespace(labels=("no", "yes"))))
    taken = record(runner, split)
    assert len(taken) == 300 and len(sizes) > 1
    assert measure_metric(taken, "accuracy") == 1


def test_answers_that_are_not_finite_are_counted(objective):
    random = np.random.default_rng(0)
    targets = make_targets(objective, random, 10)
    outputs = make_outputs(objective, targets, random, 1)
    outputs[3].flat[0], outputs[7].flat[-1] = np.nan, np.inf
    assert take(objective, outputs, targets).broken == 2


def test_an_empty_split_is_refused():
    recorder = Recorder("binary", LABELS["binary"])
    with pytest.raises(ConfigError, match="the split is empty"):
        recorder.finish()
    recorder.update(np.zeros((0, 1), np.float32), np.zeros(0, np.int64))
    with pytest.raises(ConfigError, match="the split is empty"):
        recorder.finish()


def test_records_of_different_examples_are_refused():
    one, other = make_pair("binary", 30, seed=0), make_pair("binary", 30, seed=1)
    with pytest.raises(ConfigError, match="not of the same examples"):
        Paired(one.original, other.candidate)
    with pytest.raises(ConfigError, match="not of the same examples"):
        Paired(one.original, make_pair("binary", 20).candidate)
