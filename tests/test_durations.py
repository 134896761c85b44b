"""Durations: what is written is read back, what is wrong gets a sentence, and steps are rounded once."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bmp.durations import Clock, Duration, read_duration
from bmp.errors import ConfigError

WORDS = {
    "steps": ["step", "steps"],
    "epochs": ["epoch", "epochs", "Epochs", "EPOCH"],
    "percent": ["percent", "%"],
    "seconds": ["second", "seconds", "s"],
}
SCALES = {"minute": 60, "minutes": 60, "min": 60, "hour": 3600, "hours": 3600, "h": 3600}


@pytest.mark.parametrize(("unit", "word"), [(unit, word) for unit, words in WORDS.items() for word in words])
@pytest.mark.parametrize("space", ["", " ", "  "])
def test_every_word_is_read(unit, word, space):
    assert read_duration(f" 2.5{space}{word} ") == Duration(Fraction(5, 2), unit)


@pytest.mark.parametrize("word", SCALES)
def test_minutes_and_hours_are_seconds(word):
    assert read_duration(f"1.5 {word}") == Duration(Fraction(3, 2) * SCALES[word], "seconds")


@given(st.integers(0, 10**15 - 1), st.integers(0, 10**9 - 1), st.sampled_from(["steps", "epochs", "seconds"]))
def test_what_is_written_is_read_back(whole, billionths, unit):
    duration = Duration(whole + Fraction(billionths, 10**9), unit)
    assert read_duration(str(duration)) == duration


@given(st.integers(0, 100 * 10**9))
def test_percents_too(billionths):
    duration = Duration(Fraction(billionths, 10**9), "percent")
    assert read_duration(str(duration)) == duration


@given(st.from_regex(r"([0-9]{1,11}(\.[0-9]{1,9})?|\.[0-9]{1,9}) ?(epochs|steps|s|min|hour)", fullmatch=True))
def test_reading_and_writing_keeps_the_amount(text):
    first = read_duration(text)
    assert read_duration(str(first)) == first


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("1 epochs", "1 epoch"),
        ("1.0 step", "1 step"),
        ("1 %", "1 percent"),
        ("0.50 epochs", "0.5 epochs"),
        ("1 hour", "3600 seconds"),
        ("123456789012345 steps", "123456789012345 steps"),
        (".000000001 epochs", "0.000000001 epochs"),
    ],
)
def test_is_written_in_plain_digits(text, written):
    assert str(read_duration(text)) == written


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "3", "epochs", "epochs 3", "-3 epochs", "+3 epochs", "1e3 steps", "3 epochs 2", "3,5 epochs"),
        *("nan steps", "3. epochs", "1/2 epochs", "٣ epochs", "3 epo-chs", "3\nepochs;"),
        *("9" * 16 + " steps", "1." + "1" * 10 + " steps"),
    ],
)
def test_what_is_no_duration_is_told(text):
    with pytest.raises(ConfigError, match="is no duration; expected a number and a unit") as caught:
        read_duration(text)
    assert caught.value.received == text


@given(st.text(max_size=20))
def test_any_text_is_a_duration_or_told_in_one_sentence(text):
    try:
        duration = read_duration(text)
    except ConfigError as error:
        assert text in error.message and "expected" in error.message and error.expected
    else:
        assert duration.amount >= 0


@pytest.mark.parametrize(
    ("text", "guess"), [("3 epoch_", None), ("3 epocs", "epochs"), ("3 stepps", "steps"), ("2 percnt", "percent")]
)
def test_an_unknown_unit_is_guessed(text, guess):
    wanted = "is no duration" if guess is None else f"Did you mean '{guess}'?"
    with pytest.raises(ConfigError) as caught:
        read_duration(text)
    assert wanted in caught.value.message


def test_an_unknown_unit_is_told_which_there_are():
    with pytest.raises(ConfigError, match="'2 days' has no unit of time that bmp knows; expected steps, epochs"):
        read_duration("2 days")


def test_more_than_the_whole_and_more_than_can_be_counted_is_told():
    assert read_duration("100 percent").amount == 100
    with pytest.raises(ConfigError, match=r"'100\.1%' is more than the whole training; expected at most 100"):
        read_duration("100.1%")
    with pytest.raises(ConfigError, match="is longer than bmp can count; expected less than 1,000,000,000,000,000 sec"):
        read_duration("999999999999 hours")


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("0 epochs", 0),
        ("0.000000001 steps", 1),
        ("0.1 percent", 1),
        ("1 percent", 3),
        ("50%", 150),
        ("100 percent", 300),
        ("33.3 percent", 100),
        ("1 epoch", 30),
        ("0.5 epochs", 15),
        ("0.25 epochs", 8),
        ("0.01 epochs", 1),
        ("20 epochs", 600),
        ("7 steps", 7),
        ("7.4 steps", 7),
        ("7.6 steps", 8),
    ],
)
def test_a_clock_counts_in_whole_steps(text, steps):
    clock = Clock(total_steps=300, steps_per_epoch=30)
    assert clock.to_steps(text) == clock.to_steps(read_duration(text)) == steps


@given(st.integers(1, 10**9), st.integers(1, 10**6), st.integers(0, 10**6), st.sampled_from(["epochs", "percent"]))
def test_a_clock_errs_by_half_a_step_at_most(total, per_epoch, millionths, unit):
    amount = Fraction(millionths, 10**6)
    exact = amount * (per_epoch if unit == "epochs" else Fraction(total, 100))
    steps = Clock(total, per_epoch).to_steps(Duration(amount, unit))
    assert (steps == 0) == (exact == 0)
    assert abs(steps - exact) <= (Fraction(1, 2) if exact > Fraction(1, 2) else 1)


def test_seconds_are_no_steps():
    with pytest.raises(ConfigError, match="'60 seconds' cannot be counted in steps before they are timed; write steps"):
        Clock(10, 5).to_steps("1 minute")
