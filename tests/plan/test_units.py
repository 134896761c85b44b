import pytest
from hypothesis import given
from hypothesis import strategies as st

from bmp.errors import ConfigError
from bmp.plan.units import read_bandwidth, read_time, say_bytes, say_count, say_time


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10Gbit", 1.25e9),
        ("10 Gbit/s", 1.25e9),
        ("25Gbps", 3.125e9),
        ("100mb", 12.5e6),
        ("800MB/s", 800e6),
        ("1GiB", 2.0**30),
        ("1.5 GByte/s", 1.5e9),
        ("8 bit", 1.0),
    ],
)
def test_a_bandwidth_is_bytes_a_second(text, expected):
    assert read_bandwidth(text) == pytest.approx(expected)


@pytest.mark.parametrize("text", ["10", "Gbit", "-1Gbit", "0 Gbit", "10 Gbit per hour", "1e9bit", "ibit", "3ibit", ""])
def test_what_is_no_bandwidth_is_said_to_be_none(text):
    with pytest.raises(ConfigError, match=r"is no bandwidth; expected a number over 0 and a unit, such as 10Gbit"):
        read_bandwidth(text)


@pytest.mark.parametrize(
    ("text", "expected"), [("50us", 50e-6), ("0.2 ms", 2e-4), ("1s", 1.0), ("7ns", 7e-9), ("3µs", 3e-6)]
)
def test_a_time_is_seconds(text, expected):
    assert read_time(text) == pytest.approx(expected)


@pytest.mark.parametrize("text", ["50", "fast", "-1us", "1 hour", ""])
def test_what_is_no_time_is_said_to_be_none(text):
    with pytest.raises(ConfigError, match="is no time; expected a number and a unit, such as 50us"):
        read_time(text)


@given(st.text())
def test_any_text_is_a_bandwidth_and_a_time_or_a_clear_error(text):
    for read in (read_bandwidth, read_time):
        try:
            assert read(text) >= 0
        except ConfigError as error:
            assert error.received == text


@given(st.floats(1, 1e17))
def test_bytes_are_said_in_three_figures(size_bytes):
    number, unit = say_bytes(size_bytes).replace(",", "").split()
    scale = {"B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12, "PB": 1e15}[unit]
    assert float(number) * scale == pytest.approx(size_bytes, rel=0.006, abs=0.6)


def test_quantities_are_said_in_the_unit_that_suits_them():
    assert [say_bytes(value) for value in (0, 812, 1420, 999_600, 23.1e9)] == [
        "0 B",
        "812 B",
        "1.42 kB",
        "1 MB",
        "23.1 GB",
    ]
    assert [say_count(value) for value in (812, 1.42e6)] == ["812", "1.42 M"]
    times = (0, 43e-6, 12.3e-3, 4.51, 720, 12240, 181440)
    assert [say_time(value) for value in times] == ["0 µs", "43 µs", "12.3 ms", "4.51 s", "12 min", "3.4 h", "2.1 days"]
