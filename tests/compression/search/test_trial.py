"""Trials: written down and read back."""

import json
import math

import pytest

from bmp.artifact.proof import Latency
from bmp.compression.search.trial import Trial

MEASURED = Trial(
    "prune-0.8_int8",
    ({"prune": {"sparsity": 0.8}}, "int8"),
    file="prune-0.8_int8-12345678.tflite",
    score=0.97,
    drop=-0.002,
    max_abs_diff=0.04,
    sparsity=0.8,
    raw_bytes=900,
    gzip_bytes=400,
    bits_bytes=380,
    latency={1: Latency(0.5, 0.7), 32: Latency(4.0, 5.0)},
    epochs=2,
    duration_s=1.5,
    is_final=False,
    notes=("Left as it is: norm.",),
)


@pytest.mark.parametrize("trial", [MEASURED, Trial("float32", file="float32.tflite", score=1.0, drop=0.0)])
def test_what_was_measured_is_read_as_it_was_written(trial):
    back = Trial.from_json(json.loads(json.dumps(trial.to_json())))
    assert {**vars(back), "max_abs_diff": 0} == {**vars(trial), "max_abs_diff": 0}
    assert back.max_abs_diff == trial.max_abs_diff or math.isnan(trial.max_abs_diff)


def test_a_failure_is_written_in_plain_json():
    row = json.loads(json.dumps(Trial("int8", ("int8",), failure="It cannot be.").to_json(), allow_nan=False))
    assert (row["score"], row["drop"], row["file"], row["failure"]) == (None, None, None, "It cannot be.")
    back = Trial.from_json(row)
    assert math.isnan(back.score) and math.isinf(back.drop) and back.failure == "It cannot be."


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"latency": {"one": {"p50_ms": 1, "p95_ms": 2}}}, ValueError),
        ({"latency": {"1": {"ms": 1}}}, TypeError),
        ({"colour": "red"}, TypeError),
        ({"spec": None}, KeyError),
    ],
)
def test_what_is_no_trial_is_not_read(change, error):
    with pytest.raises(error):
        Trial.from_json({**MEASURED.to_json(), **change})
