"""What every transform promises; a new one in TRANSFORMS fails here until it has a case."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from transform_cases import ALL_CASES, CASES

from bmp.errors import ConfigError
from bmp.transforms import TRANSFORMS, Preprocessing
from bmp.transforms.steps import plan_steps


@pytest.fixture(params=ALL_CASES, ids="-".join)
def case(request):
    kind, name = request.param
    return CASES[kind][name]


def split_up(columns, size):
    count = len(next(iter(columns.values())))
    return [{name: column[start : start + size] for name, column in columns.items()} for start in range(0, count, size)]


def test_every_transform_has_a_case():
    assert set(CASES) == set(TRANSFORMS)
    for kind, cases in CASES.items():
        assert all(kind in [step["kind"] for step in case.steps] for case in cases.values())


def test_outputs_are_what_was_planned(case):
    fitted = case.fit()
    inputs = fitted.run(case.make(np.random.default_rng(1), 7))
    assert list(inputs) == [spec.name for spec in fitted.outputs]
    for spec in fitted.outputs:
        spec.check(inputs[spec.name])


def test_json_brings_the_same_results_back_bit_by_bit(case):
    fitted = case.fit()
    read = Preprocessing.from_dict(json.loads(json.dumps(fitted.to_dict())))
    assert read == fitted
    columns = case.make(np.random.default_rng(2), 20)
    for name, array in fitted.run(columns).items():
        assert read.run(columns)[name].tobytes() == array.tobytes()


def test_an_example_alone_gives_what_it_gives_in_a_batch(case):
    fitted = case.fit()
    columns = case.make(np.random.default_rng(3), 6)
    whole = fitted.run(columns)
    for number, alone in enumerate(split_up(columns, 1)):
        for name, array in fitted.run(alone).items():
            np.testing.assert_allclose(array[0], whole[name][number], rtol=0, atol=1e-6)


def test_fitting_batch_by_batch_is_fitting_to_the_whole(case):
    columns = case.make(np.random.default_rng(4), 101)
    whole = case.build().fit(lambda: iter([columns]))
    pieces = case.build().fit(lambda: iter(split_up(columns, 13)))
    assert whole.outputs == pieces.outputs
    later = case.make(np.random.default_rng(5), 20)
    for name, array in whole.run(later).items():
        np.testing.assert_allclose(pieces.run(later)[name], array, rtol=1e-5, atol=1e-6)


def test_raw_columns_are_left_as_they_were(case):
    fitted = case.fit()
    columns = case.make(np.random.default_rng(6), 5)
    before = {name: column.copy() for name, column in columns.items()}
    fitted.run(columns)
    for name, column in columns.items():
        np.testing.assert_array_equal(column, before[name])


def test_what_is_fitted_is_not_fitted_again(case):
    fitted = case.fit()
    assert fitted.is_fitted

    def read():
        raise AssertionError("the training split was read again")

    assert fitted.fit(read) == fitted


def test_inputs_are_not_known_before_fitting(case):
    unfitted = case.build()
    if not unfitted.is_fitted:
        with pytest.raises(ConfigError, match="not fitted yet"):
            _ = unfitted.outputs


def test_steps_take_features_of_their_own_kind_alone(case):
    step = case.build().steps[-1]
    others = {"number": "text", "category": "number", "text": "image", "image": "audio", "audio": "image"}
    named = plan_steps(case.build().steps[:-1], {field.name: field for field in case.fields})
    name = step.reads[0]
    wrong = named | {name: replace(named[name], kind=others.get(named[name].kind, "audio"))}
    with pytest.raises(ConfigError, match=f"'{step.kind}'.*'{name}'"):
        step.plan(wrong)
    named.pop(name)
    with pytest.raises(ConfigError, match=f"needs the feature '{name}'"):
        step.plan(named)


def test_running_needs_no_tensorflow(tmp_path):
    script = """
import sys, numpy as np
from transform_cases import CASES
for cases in CASES.values():
    for case in cases.values():
        case.fit(30).run(case.make(np.random.default_rng(0), 2))
import bmp.transforms.labels
loaded = {name.partition(".")[0] for name in sys.modules}
print(*sorted(loaded & {"tensorflow", "keras", "tf_keras", "scipy", "pandas"}))
"""
    here = Path(__file__).parent
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(here)!r})\n{script}"],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=here.parents[1],
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == ""
