import pytest

from bmp.plan.line import draw_line


def test_a_line_goes_through_its_points():
    line = draw_line({4: 10.0, 16: 22.0})
    assert (line.fixed, line.each) == (6.0, 1.0) and line.at(10) == 16.0


@pytest.mark.parametrize(
    ("points", "fixed", "each"),
    [({8: 16.0}, 0, 2), ({4: 10.0, 16: 8.0}, 8, 0), ({4: 1.0, 16: 16.0}, 0, 1)],
    ids=["one point", "noise", "more than in proportion"],
)
def test_neither_part_is_below_zero(points, fixed, each):
    line = draw_line(points)
    assert (line.fixed, line.each) == (fixed, each)
