import pytest

from bmp.pace import Pace, say_duration


@pytest.mark.parametrize(
    ("duration_s", "said"),
    [
        (0, "0 s"),
        (0.4, "0 s"),
        (9, "9 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (130, "2 min 10 s"),
        (3599.6, "1 h 00 min"),
        (3840, "1 h 04 min"),
        (86400 + 3 * 3600, "1 d 03 h"),
        (-1, "0 s"),
    ],
)
def test_says_a_duration_in_two_units(duration_s, said):
    assert say_duration(duration_s) == said


def make_pace(*steps, every_s=1.0, window_s=10.0):
    pace = Pace(window_s)
    pace.begin(0.0)
    for number, step in enumerate(steps, start=1):
        pace.add(step, number * every_s)
    return pace


def test_knows_no_rate_before_there_is_one():
    assert make_pace().steps_per_s is None and make_pace(5).steps_per_s is None
    assert make_pace(5).estimate_s(10, 0) is None


def test_the_first_steps_do_not_count():
    pace = Pace()
    pace.begin(0.0)
    pace.add(4, 60.0)  # a minute of compiling
    pace.add(8, 61.0)
    assert pace.steps_per_s == pytest.approx(4) and pace.estimate_s(40, 0) == pytest.approx(10)


def test_only_recent_steps_count():
    slow_then_fast = [*range(1, 21), *range(30, 230, 10)]
    assert make_pace(*slow_then_fast).steps_per_s == pytest.approx(10)


@pytest.mark.parametrize("every_s", [0.001, 0.1, 1.0, 60.0])
def test_any_jump_and_any_speed_will_do(every_s):
    steps = [3, 7, 8, 30, 31, 33, 70]
    assert make_pace(*steps, every_s=every_s, window_s=1e9).steps_per_s == pytest.approx(67 / (6 * every_s))


def test_a_pause_is_no_training_but_takes_time():
    pace = make_pace(10, 20)
    pace.begin(7.0)  # five seconds of validation
    pace.add(30, 8.0)
    assert pace.train_s == pytest.approx(3) and pace.steps_per_s == pytest.approx(10)
    assert pace.estimate_s(20, 2) == pytest.approx(2 + 2 * 5)


def test_steps_in_no_time_have_no_rate():
    assert make_pace(1, 2, every_s=0.0).steps_per_s is None


def test_executions_longer_than_the_window_have_the_rate_of_the_last_one():
    assert make_pace(10, 20, 80, every_s=60.0).steps_per_s == pytest.approx(1)
