import pytest
from costs import COST

from bmp.plan.line import Line
from bmp.plan.network import Network, take_network
from bmp.plan.scaling import Pace, choose_replicas, count_replicas, predict_strong, predict_weak

LOCAL = Network(1e9, 0.0, True, "test")
ALONE = Pace(Line(0.0, 1.0), Line(0.0, 1.5), None)
SHARED = Pace(Line(0.0, 1.0), Line(0.0, 1.5), 2)


def test_replicas_double_up_to_the_last_one():
    assert [count_replicas(most) for most in (1, 2, 6, 8)] == [[1], [1, 2], [1, 2, 4, 6], [1, 2, 4, 8]]


def test_strong_scaling_by_hand():
    network = take_network(100.0, 0.5)
    one, two, four = predict_strong(COST, ALONE, network, batch=32, pieces=1, most=4)
    assert (one.step_s, one.efficiency, one.all_reduce_s, one.sent_bytes) == (32, 1, 0, 0)
    assert (two.compute_s, two.all_reduce_s) == (16, 1 + 1)
    assert two.efficiency == pytest.approx(32 / 2 / 18) and two.examples_per_s == pytest.approx(32 / 18)
    assert (four.examples, four.compute_s, four.all_reduce_s, four.sent_bytes) == (8, 8, 1.5 + 3, 150)
    assert (four.pulled_bytes, four.pushed_bytes) == (48, 48)


def test_weak_scaling_by_hand():
    one, two = predict_weak(COST, ALONE, take_network(100.0, 0.5), batch=32, pieces=1, most=2)
    assert (two.examples, two.total, two.step_s) == (32, 64, 34)
    assert two.efficiency == pytest.approx(32 / 34) and one.efficiency == 1


def test_a_batch_is_not_dealt_out_to_more_replicas_than_it_has_examples():
    assert [row.replicas for row in predict_strong(COST, ALONE, LOCAL, batch=3, pieces=1, most=8)] == [1, 2]


def test_workers_that_share_cores_compute_no_faster_than_all_cores_do():
    one, two, four = predict_strong(COST, SHARED, LOCAL, batch=32, pieces=1, most=4)
    assert (one.compute_s, two.compute_s, four.compute_s) == (32, 24, 24)  # 48 seconds of a core, on two


def test_pieces_each_cost_what_a_step_costs_at_all_events():
    pace = Pace(Line(2.0, 1.0), Line(2.0, 1.0), None)
    assert predict_strong(COST, pace, LOCAL, batch=8, pieces=4, most=1)[0].step_s == 4 * 2 + 8


def test_more_replicas_are_chosen_only_where_they_pay():
    fast, slow = take_network(1e9, 0.0), take_network(1.0, 10.0)
    assert choose_replicas(predict_strong(COST, ALONE, fast, batch=32, pieces=1, most=8)).replicas == 8
    assert choose_replicas(predict_strong(COST, ALONE, slow, batch=32, pieces=1, most=8)).replicas == 1
    assert choose_replicas(predict_strong(COST, SHARED, LOCAL, batch=32, pieces=1, most=8)).replicas == 2
