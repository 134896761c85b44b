import pytest
from costs import COST

from bmp.plan.fit import SPARE, Load, judge
from bmp.plan.machine import Device


def free(needed: float) -> Device:
    return Device("memory", int(SPARE * needed) + 1)


@pytest.mark.parametrize(
    ("needed", "verdict", "pieces"),
    [
        (300 + 100 + 10 * 64, "fits", 1),
        (300 + 200 + 10 * 32, "DOES NOT FIT as written, fits with train.accumulate: 2", 2),
        (300 + 200 + 10 * 20, "DOES NOT FIT as written, fits with train.accumulate: 4", 4),
        (300 + 200 + 10 * 1, "DOES NOT FIT as written, fits with train.accumulate: 64", 64),
        (300 + 200, "DOES NOT FIT", None),
    ],
)
def test_the_largest_piece_that_fits_is_named(needed, verdict, pieces):
    fit = judge(free(needed), COST, Load(examples=64, pieces=1))
    assert (fit.verdict, fit.pieces) == (verdict, pieces)
    assert fit.fits_as_written == (verdict == "fits")


def test_pieces_of_the_recipe_are_where_the_search_starts():
    fit = judge(free(300 + 200 + 10 * 20), COST, Load(examples=64, pieces=2))
    assert fit.pieces == 4 and "accumulate: 4" in fit.verdict
    assert judge(free(300 + 200 + 10 * 16), COST, Load(examples=64, pieces=4)).verdict == "fits"


def test_replicas_on_one_device_and_what_is_beside_them_add_up():
    load = Load(examples=10, pieces=1, replicas=3, beside_bytes=1000)
    assert judge(Device("memory", 10**6), COST, load).needed_bytes == 1000 + int(SPARE * 3 * 500)


def test_a_device_that_tells_nothing_is_not_judged():
    fit = judge(Device("GPU 0", None), COST, Load(1, 1))
    assert fit.verdict == "unknown" and fit.fits_as_written
