import os
import signal
import subprocess
import sys

import pytest

from bmp.training.stop import StopAgreement, StopRequest


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_is_remembered_and_the_old_handlers_come_back(number, code):
    before = {signal.SIGTERM: signal.getsignal(signal.SIGTERM), signal.SIGINT: signal.getsignal(signal.SIGINT)}
    request = StopRequest()
    with request.listening():
        assert request.exit_code is None
        os.kill(os.getpid(), number)
        assert request.exit_code == code
    assert {number: signal.getsignal(number) for number in before} == before


SECOND = """
import os, signal, sys
from bmp.training.stop import StopRequest
assert "tensorflow" not in sys.modules
request = StopRequest()
with request.listening():
    os.kill(os.getpid(), signal.{first})
    print(request.exit_code, flush=True)
    os.kill(os.getpid(), signal.{second})
    print("never", flush=True)
"""


@pytest.mark.parametrize(
    ("first", "second", "codes"), [("SIGTERM", "SIGTERM", (143, 143)), ("SIGINT", "SIGTERM", (130, 143))]
)
def test_a_second_signal_ends_the_process_at_once(first, second, codes):
    script = SECOND.format(first=first, second=second)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.returncode) == (f"{codes[0]}\n", codes[1])


def test_a_process_by_itself_stops_at_once():
    request = StopRequest()
    agreement = StopAgreement(request, None)
    assert agreement.exit_code(5) is None
    request.exit_code = 130
    assert agreement.exit_code(6) == 130


def gather(directory, count=3):
    """As many workers as one asks for, the chief first."""
    requests = [StopRequest() for _ in range(count)]
    agreements = [
        StopAgreement(request, directory, is_chief=rank == 0, rank=rank) for rank, request in enumerate(requests)
    ]
    return requests, agreements


@pytest.mark.parametrize("asked", [0, 1, 2])
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2)])
def test_all_stop_after_the_same_step_whoever_is_asked_and_in_whatever_order_they_look(tmp_path, asked, order):
    requests, agreements = gather(tmp_path)
    stopped = {}
    for step in range(1, 8):
        if step == 3:
            requests[asked].exit_code = 143
        for rank in order:
            code = agreements[rank].exit_code(step)
            if code is not None:
                stopped.setdefault(rank, (step, code))
        if stopped:
            break
    assert len(stopped) == 3 and len(set(stopped.values())) == 1
    step, code = stopped[0]
    assert code == 143 and 3 < step <= 5


def test_the_notes_of_an_earlier_attempt_do_not_count(tmp_path):
    requests, agreements = gather(tmp_path)
    requests[1].exit_code = 143
    for step in (1, 2, 3):
        for agreement in agreements:
            agreement.exit_code(step)
    assert (tmp_path / "stop.json").exists()
    _, agreements = gather(tmp_path)
    assert [agreement.exit_code(9) for agreement in agreements] == [None] * 3


def test_ctrl_c_keeps_its_code(tmp_path):
    requests, agreements = gather(tmp_path, 2)
    requests[0].exit_code = 130
    assert agreements[0].exit_code(4) is None
    assert [agreement.exit_code(5) for agreement in agreements] == [130, 130]


def test_several_steps_at_a_time_stop_where_the_last_one_ends(tmp_path):
    requests, agreements = gather(tmp_path, 2)
    requests[0].exit_code = 143
    assert [agreement.exit_code(8) for agreement in agreements] == [None, None]
    assert [agreement.exit_code(16) for agreement in agreements] == [143, 143]
