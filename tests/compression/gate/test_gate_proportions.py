"""Intervals for shares, against published values, another way to compute them, and simulation."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special

from bmp.compression.gate.proportions import count_needed, tango, wilson

COUNTS = st.integers(1, 2000).flatmap(
    lambda n: st.tuples(st.just(n), st.integers(0, n)).flatmap(
        lambda nb: st.tuples(st.just(nb[0]), st.just(nb[1]), st.integers(0, nb[0] - nb[1]))
    )
)


def test_airway_reactivity():
    """Fagerland, Lydersen and Laake: Recommended tests and confidence intervals for paired binomial proportions,
    2014: 1 and 7 of 21, Tango's interval is -0.517 to -0.026.
    """
    assert tango(1, 7, 21, 0.975) == pytest.approx((-0.517, -0.026), abs=5e-4)


@pytest.mark.parametrize(
    ("lost", "gained", "count"), [(1, 7, 21), (16, 6, 161), (40, 20, 160), (3, 3, 100), (0, 5, 44)]
)
def test_ends_are_roots_of_the_quartic(lost, gained, count):
    """Yang, Sun and Hardin: A non-iterative implementation of Tango's score confidence interval, 2012: the ends are
    roots of a polynomial of degree four.
    """
    g = special.ndtri(0.975) ** 2
    d, both = lost - gained, lost + gained
    polynomial = [
        count**2 * (count / g + 1) ** 2,
        -count * d * (count / g + 1) * (4 * count / g + 1),
        2 * count * d**2 * (3 * count / g + 2) / g - count**2 * (both / g + 1),
        count * d * (2 * both / g + 1) - d**3 * (4 * count / g + 1) / g,
        d**2 * (d**2 / g - both) / g,
    ]
    # Where nothing was lost or gained the roots coincide in part; the sum of absolute terms is the scale.
    for end in tango(lost, gained, count, 0.975):
        powers = end ** np.arange(4, -1, -1)
        assert abs(np.dot(polynomial, powers)) <= 1e-6 * np.dot(np.abs(polynomial), np.abs(powers))


@settings(max_examples=60, deadline=None)
@given(COUNTS, st.sampled_from([0.9, 0.95, 0.975]))
def test_the_interval_holds_the_drop_and_mirrors(counts, confidence):
    count, lost, gained = counts
    low, high = tango(lost, gained, count, confidence)
    assert -1 <= low <= (lost - gained) / count <= high <= 1
    assert tango(gained, lost, count, confidence) == pytest.approx((-high, -low), abs=1e-9)


@settings(max_examples=40, deadline=None)
@given(COUNTS)
def test_more_confidence_is_wider_and_more_examples_narrower(counts):
    count, lost, gained = counts
    narrow, wide = tango(lost, gained, count, 0.9), tango(lost, gained, count, 0.99)
    assert wide.low <= narrow.low and narrow.high <= wide.high
    more = tango(4 * lost, 4 * gained, 4 * count, 0.9)
    assert more.high - more.low <= narrow.high - narrow.low + 1e-9


def test_no_change_seen_is_not_no_change():
    z2 = special.ndtri(0.95) ** 2
    for count in (5, 100, 10_000):
        assert tango(0, 0, count, 0.95).high == pytest.approx(z2 / (count + z2), abs=1e-9)


@pytest.mark.parametrize(("lost", "gained"), [(0.03, 0.01), (0.06, 0.04), (0.2, 0.18)])
def test_errors_are_as_rare_as_promised(lost, gained):
    """At the margin itself a proof, like a failure, is wrong: at most one in twenty, and not much rarer."""
    random, count, runs = np.random.default_rng(0), 400, 1500
    draws = random.multinomial(count, [lost, gained, 1 - lost - gained], size=runs)
    ends = [tango(b, c, count, 0.95) for b, c, _ in draws]
    proven = np.mean([high <= lost - gained for _, high in ends])
    failed = np.mean([low > lost - gained for low, _ in ends])
    noise = 3 * math.sqrt(0.05 * 0.95 / runs)
    assert 0.02 <= proven <= 0.05 + noise and failed <= 0.05 + noise


@pytest.mark.parametrize(("lost", "gained", "count"), [(0, 0, 100), (3, 3, 400), (5, 4, 300), (2, 8, 90)])
def test_what_is_needed_is_just_enough(lost, gained, count):
    needed = count_needed(lost, gained, count, 0.005, 0.95)

    def high(examples):
        return tango(lost * examples / count, gained * examples / count, examples, 0.95).high

    assert high(needed) <= 0.005 < high(needed * 0.998 - 1)


def test_no_number_is_enough_for_a_drop_that_is_there():
    assert count_needed(5, 0, 100, 0.05, 0.95) is None
    assert count_needed(0, 0, 100, 0.0, 0.95) is None


def test_wilson():
    """Against the formula solved by hand for 8 of 10: 0.490 to 0.943 at 95 % from both sides."""
    assert wilson(8, 10, 0.975) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert wilson(0, 10, 0.975).low == pytest.approx(0) and wilson(10, 10, 0.975).high == pytest.approx(1)
