"""Quantities as people write and read them: bandwidths, times, bytes."""

import re

from bmp.errors import ConfigError

_NUMBER = r"\s*(\d{1,15}(?:\.\d{1,9})?)\s*"
_SCALES = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9, "t": 1e12, "ki": 2.0**10, "mi": 2.0**20, "gi": 2.0**30, "ti": 2.0**40}
_BANDWIDTH = re.compile(_NUMBER + r"([kmgt]?i?)(bits?|bytes?|b)(?:/s|ps)?\s*", re.IGNORECASE)
_TIME = re.compile(_NUMBER + r"(ns|us|µs|μs|ms|s)\s*", re.IGNORECASE)
_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0}


def read_bandwidth(text: str) -> float:
    """Reads `10Gbit`, `1.5 Gbit/s`, `10Gbps`, `800MB/s`, `1GiB`: bytes a second. A small b alone is a bit.

    Raises:
        ConfigError: The text is no bandwidth.
    """
    match = _BANDWIDTH.fullmatch(text)
    value = 0.0
    if match and match[2].lower() in _SCALES:
        is_bytes = match[3].lower().startswith("byte") or match[3] == "B"
        value = float(match[1]) * _SCALES[match[2].lower()] / (1 if is_bytes else 8)
    if value <= 0:
        raise ConfigError(
            f"'{text}' is no bandwidth; expected a number over 0 and a unit, such as 10Gbit, 25Gbit/s or 800MB/s.",
            expected="a number and Mbit, Gbit, MB or GB",
            received=text,
        )
    return value


def read_time(text: str) -> float:
    """Reads `50us`, `0.1 ms`, `1s`: seconds.

    Raises:
        ConfigError: The text is no time.
    """
    match = _TIME.fullmatch(text)
    if match is None:
        raise ConfigError(
            f"'{text}' is no time; expected a number and a unit, such as 50us, 0.2ms or 1s.",
            expected="a number and ns, us, ms or s",
            received=text,
        )
    return float(match[1]) * _SECONDS[match[2].lower()]


def say_bytes(size_bytes: float) -> str:
    """Returns bytes in three figures: `812 B`, `1.42 MB`, `23.1 GB`."""
    return _say(size_bytes, "B")


def say_count(count: float) -> str:
    """Returns a number in three figures: `812`, `1.42 M`, `23.1 G`."""
    return _say(count, "").strip()


def _say(value: float, unit: str) -> str:
    for prefix in ("", "k", "M", "G", "T"):
        if value < 999.5:
            return f"{value:.0f} {unit}" if not prefix else f"{value:.3g} {prefix}{unit}"
        value /= 1000
    return f"{value:,.3g} P{unit}"


def say_time(seconds: float) -> str:
    """Returns a time in the unit that suits it: `43 µs`, `12.3 ms`, `4.51 s`, `12 min`, `3.4 h`, `2.1 days`."""
    for limit, scale, unit in (
        (1e-3, 1e-6, "µs"),
        (1, 1e-3, "ms"),
        (120, 1, "s"),
        (7200, 60, "min"),
        (172800, 3600, "h"),
    ):
        if seconds < limit:
            return f"{seconds / scale:.3g} {unit}"
    return f"{seconds / 86400:.3g} days"
