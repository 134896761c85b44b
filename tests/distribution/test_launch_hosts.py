import json
import signal
import socket

import pytest
from launching import find_processes, has_begun, launching, read_facts, wait_until

from bmp.distribution.launch.ports import choose_ports

LONG = ("--steps", "10000")


@pytest.fixture
def hosts():
    [port] = choose_ports("127.0.0.1", 1)
    return f"127.0.0.1:{port},127.0.0.2:{port}"


def options(hosts, index, workers="2"):
    quick = ("--peer-timeout", "2", "--join-timeout", "2", "--start-timeout", "20")
    return ("--hosts", hosts, "--host-index", str(index), "--workers", workers, *quick)


def both(run_dir, hosts, workers="2", script=()):
    first = launching(run_dir, *options(hosts, 0, workers), script=script)
    return first, launching(run_dir, *options(hosts, 1, workers), script=script)


def end(launcher):
    out, errors = launcher.communicate(timeout=30)
    return launcher.returncode, out, errors


def speak(hosts, data: bytes) -> bytes:
    """What host 0 answers to these bytes, until it closes the connection."""
    host, _, port = hosts.partition(",")[0].partition(":")
    with socket.create_connection((host, int(port)), timeout=10) as sock:
        sock.sendall(data)
        answer = b""
        try:
            while block := sock.recv(1 << 16):
                answer += block
        except ConnectionResetError:  # it did not read all
            return answer
    return answer


def test_two_hosts_are_one_cluster(tmp_path, hosts):
    run_dir = tmp_path / "run"
    first, second = both(run_dir, hosts, "3", script=("--do", "worker-2:exit=1@2"))
    with second as follower, first as leader:
        code, out, errors = end(leader)
        assert code == 0, errors
        assert out.splitlines()[-1] == "[worker 0] all done"
        assert "host 1 (127.0.0.2) has joined" in errors and "worker 2 ended with exit code 1" in errors
        code, out, errors = end(follower)
        assert (code, out) == (0, "") and "as host 0 says" in errors
    for attempt in (0, 1):
        facts = read_facts(run_dir, "worker-2", attempt)
        addresses = json.loads(facts["TF_CONFIG"])["cluster"]["worker"]
        assert [address.partition(":")[0] for address in addresses] == ["127.0.0.1"] * 2 + ["127.0.0.2"]
        assert (facts["RANK"], facts["LOCAL_RANK"], facts["LOCAL_WORLD_SIZE"]) == ("2", "0", "1")
    assert not find_processes(run_dir)


def test_a_host_that_does_not_come_back_is_left_out(tmp_path, hosts):
    run_dir = tmp_path / "run"
    first, second = both(run_dir, hosts, "1:2", script=("--steps", "100"))
    with second as follower, first as leader:
        wait_until(has_begun(run_dir, "worker-1"))
        follower.kill()
        code, _, errors = end(leader)
    assert code == 0, errors
    assert "host 1 (127.0.0.2) did not come within 2 s: going on with 1 worker" in errors
    assert json.loads(read_facts(run_dir, "worker-0", 1)["TF_CONFIG"])["cluster"]["worker"][1:] == []


def test_a_host_that_is_needed_and_does_not_come_back_ends_the_run(tmp_path, hosts):
    run_dir = tmp_path / "run"
    first, second = both(run_dir, hosts, script=LONG)
    with second as follower, first as leader:
        wait_until(has_begun(run_dir, "worker-1"))
        follower.kill()
        code, _, errors = end(leader)
    assert code == 1
    assert "did not come within 2 s; 1 worker left of the 2 needed" in errors
    assert not find_processes(run_dir)


def test_a_host_that_is_asked_to_stop_leaves_and_may_come_back(tmp_path, hosts):
    run_dir = tmp_path / "run"
    first, second = both(run_dir, hosts, script=("--steps", "100"))
    with first as leader:
        with second as follower:
            wait_until(has_begun(run_dir, "worker-1"))
            follower.send_signal(signal.SIGTERM)
            assert end(follower)[0] == 143
        with launching(run_dir, *options(hosts, 1), script=("--steps", "100")) as follower:
            assert end(follower)[0] == 0
        code, _, errors = end(leader)
    assert code == 0 and "host 1 (127.0.0.2) was asked to stop" in errors


def test_a_host_without_host_0_stops_its_ranks_and_ends(tmp_path, hosts):
    run_dir = tmp_path / "run"
    first, second = both(run_dir, hosts, script=LONG)
    with second as follower, first as leader:
        wait_until(has_begun(run_dir, "worker-1"))
        leader.kill()
        code, _, errors = end(follower)
    assert code == 1
    assert "could not be joined within 2 s" in errors and "Does its launcher run?" in errors
    assert not find_processes(run_dir)


def test_a_silent_host_is_lost(tmp_path, hosts):
    run_dir = tmp_path / "run"
    first, second = both(run_dir, hosts, script=LONG)
    with second as follower, first as leader:
        wait_until(has_begun(run_dir, "worker-1"))
        follower.send_signal(signal.SIGSTOP)
        code, _, errors = end(leader)
    assert code == 1 and "host 1 (127.0.0.2) was not heard for 2 s" in errors


def test_a_stop_on_host_0_stops_all(tmp_path, hosts):
    run_dir = tmp_path / "run"
    first, second = both(run_dir, hosts, script=LONG)
    with second as follower, first as leader:
        wait_until(has_begun(run_dir, "worker-1"))
        wait_until(has_begun(run_dir))
        leader.send_signal(signal.SIGTERM)
        assert end(leader)[0] == end(follower)[0] == 143
    assert not find_processes(run_dir)


def test_another_run_is_refused(tmp_path, hosts):
    with launching(tmp_path / "run", *options(hosts, 0)) as leader:
        with launching(tmp_path / "other", *options(hosts, 1)) as follower:
            code, _, errors = end(follower)
        assert leader.poll() is None
    assert code == 2
    assert "refused this one. Host 0 launches something else: the script" in errors


def test_garbage_at_the_door_changes_nothing(tmp_path, hosts):
    run_dir = tmp_path / "run"
    first, second = both(run_dir, hosts, script=("--steps", "5"))
    with first as leader:
        wait_until(lambda: _listens(hosts))
        assert speak(hosts, b"GET / HTTP/1.1\r\n\r\n") == b""
        assert speak(hosts, b"\xff" * 100_000) == b""
        assert speak(hosts, b"[" * 4000 + b"\n") == b""
        assert b"join" in speak(hosts, b'{"type": "alive"}\n')
        join = {"type": "join", "version": 999, "token": "x", "index": 1}
        assert b"speaks version" in speak(hosts, json.dumps(join).encode() + b"\n")
        with second as follower:
            assert end(follower)[0] == 0
        code, _, errors = end(leader)
    assert code == 0
    assert errors.count("came to the door and does not speak as a launcher") == 2
    assert "sent too much at a time" in errors


def _listens(hosts):
    host, _, port = hosts.partition(",")[0].partition(":")
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except ConnectionRefusedError:
        return False
    return True


def test_the_port_of_host_0_may_be_taken(tmp_path, hosts):
    host, _, port = hosts.partition(",")[0].partition(":")
    with socket.create_server((host, int(port))), launching(tmp_path / "run", *options(hosts, 0)) as leader:
        code, _, errors = end(leader)
    assert code == 2 and f"Cannot listen on {host}:{port} for the other hosts" in errors
