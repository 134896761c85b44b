"""Class by class, agreement and calibration."""

import numpy as np
import pytest
from answers import make_decided, make_pair, take

from bmp.compression.gate import Paired
from bmp.compression.gate.agreement import measure_agreement, measure_calibration_error
from bmp.compression.gate.classes import compare_classes


def lose(count, lost):
    """Returns 2 × `count` examples all right in the original, of whose second class some are lost."""
    true = np.repeat([0, 1], count)
    after = true.copy()
    after[count : count + lost] = 0
    return make_decided(true, true, after)


def test_a_class_that_falls_is_told():
    no, yes = compare_classes(lose(200, 30), 0.05)
    assert (yes.label, yes.examples, yes.lost, yes.gained, yes.fell) == ("yes", 200, 30, 0, True)
    assert (yes.original, yes.candidate) == (1.0, pytest.approx(0.85))
    assert not no.fell and no.lost == 0


def test_what_may_be_chance_is_no_fall():
    assert not any(row.fell for row in compare_classes(lose(200, 12), 0.05))
    assert not any(row.fell for row in compare_classes(lose(10, 2), 0.05))


def test_the_doubt_is_shared_among_classes():
    """What one class alone would be found guilty of, one among many is not."""
    targets, label_count = np.zeros((60, 40), np.float32), 40
    targets[:] = 1
    before = np.full((60, 40), 0.9, np.float32)
    after = before.copy()
    after[:7, 0] = 0.1
    few = Paired(*(take_labels(each[:, :1], targets[:, :1]) for each in (before, after)))
    many = Paired(*(take_labels(each, targets) for each in (before, after)))
    assert compare_classes(few, 0.05)[0].fell
    assert len(compare_classes(many, 0.05)) == label_count and not compare_classes(many, 0.05)[0].fell


def take_labels(outputs, targets):
    from bmp.compression.gate import Recorder

    recorder = Recorder("multilabel", tuple(f"label {place}" for place in range(outputs.shape[1])))
    recorder.update(outputs, targets)
    return recorder.finish()


def test_classes_without_examples_are_listed_as_such():
    paired = make_pair("multiclass", 30)
    targets = np.zeros(30, np.int64)
    record = take("multiclass", np.eye(7, dtype=np.float32)[targets], targets)
    first, *others = compare_classes(Paired(record, record))
    assert first.examples == 30 and first.original == 1
    assert all((row.examples, row.original, row.fell) == (0, None, False) for row in others)
    assert sum(row.examples for row in compare_classes(paired)) == 30


def test_numbers_and_tokens_have_no_classes():
    assert compare_classes(make_pair("regression", 30)) == compare_classes(make_pair("next_token", 30)) == ()


@pytest.mark.parametrize("objective", ["multiclass", "binary", "multilabel", "next_token", "regression"])
def test_agreement_falls_with_change(objective):
    same, little, much = (
        measure_agreement(make_pair(objective, 200, change=change), 0.02) for change in (1e-6, 0.2, 5.0)
    )
    assert same.share == 1 and same.low < 1
    assert same.share >= little.share > much.share
    assert much.low <= much.share < much.high


def test_tokens_of_one_text_widen_the_agreement():
    targets = np.zeros((50, 100), np.int32)
    right = np.tile(np.eye(5, dtype=np.float32)[0], (50, 100, 1))
    whole, scattered = right.copy(), right.copy()
    whole[:5] = np.eye(5, dtype=np.float32)[1]
    scattered[:, :10] = np.eye(5, dtype=np.float32)[1]
    original = take("next_token", right, targets)
    by_text, by_token = (
        measure_agreement(Paired(original, take("next_token", each, targets)), 0.01) for each in (whole, scattered)
    )
    assert by_text.share == by_token.share == pytest.approx(0.9)
    assert by_text.high - by_text.low > 2 * (by_token.high - by_token.low)


def test_calibration_error_by_hand():
    outputs = np.array([[0.9], [0.9], [0.9], [0.9], [0.3]], np.float32)
    record = take("binary", outputs, np.array([1, 1, 1, 0, 0]))
    assert measure_calibration_error(record) == pytest.approx((4 * 0.15 + 0.3) / 5)
    assert measure_calibration_error(make_pair("regression", 30).original) is None


@pytest.mark.parametrize("objective", ["multiclass", "multilabel", "next_token"])
def test_answers_that_are_surer_than_right_are_worse_calibrated(objective):
    paired = make_pair(objective, 500, noise=1, change=6)
    assert measure_calibration_error(paired.candidate) > measure_calibration_error(paired.original) + 0.05
