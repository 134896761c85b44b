import pytest

from bmp.plan.network import count_sent_bytes, measure_loopback, take_network


def test_a_ring_sends_each_byte_nearly_twice():
    assert [count_sent_bytes(replicas, 100) for replicas in (1, 2, 4, 100)] == [0, 100, 150, pytest.approx(198)]


def test_the_time_of_a_ring_is_bytes_over_bandwidth_and_a_latency_a_message():
    network = take_network(1e9, 1e-4)
    assert network.all_reduce_s(1, 1e9) == 0
    assert network.all_reduce_s(4, 1e9) == pytest.approx(1.5 + 6e-4)
    assert not network.is_local


def test_a_latency_that_is_not_given_is_said_to_be_assumed():
    assert take_network(1e9, None).latency_s == 50e-6 and "assumed" in take_network(1e9, None).origin


def test_loopback_is_measured():
    network = measure_loopback()
    assert network.is_local and network.bandwidth > 1e6 and 0 < network.latency_s < 1
