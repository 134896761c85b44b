import pytest

from bmp.errors import ConfigError
from bmp.training import SCHEDULES


def rates(name, learning_rate, total_steps, steps, **args):
    schedule = SCHEDULES.bind(name, args)(learning_rate, total_steps)
    return [float(schedule(step)) if callable(schedule) else schedule for step in steps]


def test_constant_stays():
    assert rates("constant", 0.1, 10, [0, 5, 10]) == [0.1] * 3


def test_cosine_goes_half_way_down_and_ends_at_its_final_rate():
    found = rates("cosine", 1.0, 100, [0, 50, 100, 200], final=0.1)
    assert found == pytest.approx([1.0, 0.55, 0.1, 0.1], abs=1e-6)


def test_cosine_warms_up_in_a_line_and_still_ends_with_the_training():
    found = rates("cosine", 1.0, 110, [0, 5, 10, 60, 110], final=0.2, warmup_steps=10)
    assert found == pytest.approx([0.0, 0.5, 1.0, 0.6, 0.2], abs=1e-6)


@pytest.mark.parametrize("args", [{"warmup_steps": 10}, {"final": 2.0}])
def test_a_schedule_that_cannot_be_says_so(args):
    with pytest.raises(ConfigError, match="shorter than the training, and a final rate of at most"):
        rates("cosine", 1.0, 10, [0], **args)


def test_a_wrong_argument_is_guessed():
    with pytest.raises(ConfigError, match="Did you mean 'warmup_steps'"):
        SCHEDULES.bind("cosine", {"warmup_step": 3})
