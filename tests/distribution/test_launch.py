import json
import os
import re
import signal
import time

import psutil
import pytest
from launching import find_processes, has_begun, launch, launching, read_facts, read_log, wait_until


def spec_of(run_dir, rank, attempt=0):
    return json.loads(read_facts(run_dir, rank, attempt)["TF_CONFIG"])


def test_each_worker_is_told_its_place(tmp_path):
    done = launch(tmp_path / "run", "--workers", "2")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "[worker 0] from step 0\n[worker 0] all done\n"
    assert "bmp: finished at step 10." in done.stderr
    facts = [read_facts(tmp_path / "run", f"worker-{index}") for index in range(2)]
    configs = [json.loads(fact["TF_CONFIG"]) for fact in facts]
    assert [config["task"] for config in configs] == [{"type": "worker", "index": index} for index in range(2)]
    assert configs[0]["cluster"] == configs[1]["cluster"]
    assert list(configs[0]["cluster"]) == ["worker"] and len(set(configs[0]["cluster"]["worker"])) == 2
    assert [(fact["RANK"], fact["LOCAL_RANK"], fact["WORLD_SIZE"], fact["LOCAL_WORLD_SIZE"]) for fact in facts] == [
        ("0", "0", "2", "2"),
        ("1", "1", "2", "2"),
    ]
    assert {fact["TF_USE_LEGACY_KERAS"] for fact in facts} == {"1"}
    assert all(fact["pid"] == fact["session"] for fact in facts)
    assert all(address.startswith("127.0.0.1:") for address in configs[0]["cluster"]["worker"])
    check_cores(facts)


def check_cores(facts):
    mine = os.sched_getaffinity(0)
    if len(mine) > 1:
        assert not set(facts[0]["cores"]) & set(facts[1]["cores"])
    assert set(facts[0]["cores"]) | set(facts[1]["cores"]) == mine
    for fact in facts:
        assert fact["TF_NUM_INTRAOP_THREADS"] == fact["OMP_NUM_THREADS"] == str(len(fact["cores"]))
        assert int(fact["TF_NUM_INTEROP_THREADS"]) >= 2


def test_with_parameter_servers_a_chief_leads_and_the_others_are_stopped_when_it_is_done(tmp_path):
    done = launch(tmp_path / "run", "--workers", "1", "--ps", "2")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "[chief 0] from step 0\n[chief 0] all done\n"
    cluster = spec_of(tmp_path / "run", "ps-1")["cluster"]
    assert {job: len(addresses) for job, addresses in cluster.items()} == {"chief": 1, "worker": 1, "ps": 2}
    ranks = [read_facts(tmp_path / "run", rank)["RANK"] for rank in ("chief-0", "worker-0", "ps-0", "ps-1")]
    assert ranks == ["0", "1", "2", "3"]


@pytest.mark.parametrize("what", ["exit=1", "exit=143", "kill"])
def test_when_one_rank_dies_all_start_again_on_fresh_ports_and_go_on(tmp_path, what):
    run_dir = tmp_path / "run"
    done = launch(run_dir, "--workers", "2", script=("--do", f"worker-1:{what}@5"))
    assert done.returncode == 0, done.stderr
    assert "restart 1 of 3" in done.stderr and "finished at step 10, after 1 restart." in done.stderr
    first, second = (set(spec_of(run_dir, "worker-0", attempt)["cluster"]["worker"]) for attempt in range(2))
    assert not first & second
    starts = [line for line in done.stdout.splitlines() if "from step" in line]
    assert starts[0] == "[worker 0] from step 0" and starts[1] != starts[0]
    assert "worker-1 does" in read_log(run_dir, "worker-1")
    assert "--- worker 1, " in read_log(run_dir, "worker-1", 1)


def test_after_the_last_restart_the_end_is_clear(tmp_path):
    done = launch(tmp_path / "run", "--workers", "2", "--max-restarts", "1", script=("--do", "worker-1:exit=7@5*"))
    assert done.returncode == 7
    last = done.stderr.splitlines()[-1]
    assert last.startswith("bmp: worker 1 ended with exit code 7, at step ")
    assert last.endswith("after 1 restart (--max-restarts). Exit code 7.")
    assert "[worker 1]   worker-1 does exit" in done.stderr
    assert "[worker 0] the last lines of" in done.stderr
    assert not (tmp_path / "run" / "logs" / "attempt-2").exists()


@pytest.mark.parametrize("code", [2, 3, 75])
def test_what_a_restart_cannot_mend_is_not_restarted(tmp_path, code):
    done = launch(tmp_path / "run", "--workers", "2", script=("--do", f"worker-1:exit={code}@2"))
    assert done.returncode == code
    assert "so it was not restarted" in done.stderr and "restart 1" not in done.stderr
    assert "[worker 1]   worker-1 does exit" in done.stderr and "[worker 0] the last" not in done.stderr


def test_a_hang_dumps_the_stacks_of_all_ranks_and_restarts(tmp_path):
    run_dir = tmp_path / "run"
    done = launch(run_dir, "--workers", "2", "--watchdog", "1", script=("--do", "worker-1:hang@5"))
    assert done.returncode == 0, done.stderr
    assert re.search(r"worker . made no progress for 1 s \(training, step \d; --watchdog\)", done.stderr)
    for rank in ("worker-0", "worker-1"):
        assert "most recent call first" in read_log(run_dir, rank)
    assert "in perform" in read_log(run_dir, "worker-1")


def test_a_rank_that_never_speaks_is_found(tmp_path):
    done = launch(tmp_path / "run", "--start-timeout", "1.5", script=("--do", "worker-0:mute@0"))
    assert done.returncode == 0, done.stderr
    assert "worker 0 gave no sign of life in the 1.5 s after its start" in done.stderr


def test_a_rank_that_ignores_sigterm_is_killed_after_the_grace(tmp_path):
    script = ("--do", "worker-0:deaf@3", "--do", "worker-1:exit=1@3")
    done = launch(tmp_path / "run", "--workers", "2", "--grace", "0.5", script=script)
    assert done.returncode == 0, done.stderr
    assert "worker 1 ended with exit code 1" in done.stderr


def test_who_waits_for_a_lost_rank_has_only_a_short_grace(tmp_path):
    # the helper's own time runs out before this grace does
    script = ("--do", "worker-0:deaf@3", "--do", "worker-1:exit=1@3")
    done = launch(tmp_path / "run", "--workers", "2", "--grace", "300", script=script)
    assert done.returncode == 0, done.stderr


def test_workers_shrink_when_one_cannot_be_had_again(tmp_path):
    run_dir = tmp_path / "run"
    done = launch(run_dir, "--workers", "1:2", script=("--do", "worker-1:exit=1@0*"))
    assert done.returncode == 0, done.stderr
    assert "worker 1 failed twice without a new step between: going on with 1 worker" in done.stderr
    last = max(int(path.name.partition("-")[2]) for path in (run_dir / "logs").iterdir())
    sizes = [len(spec_of(run_dir, "worker-0", attempt)["cluster"]["worker"]) for attempt in range(last + 1)]
    assert sizes == [2] * last + [1]


def test_much_output_is_shown_and_kept(tmp_path):
    done = launch(tmp_path / "run", script=("--do", "worker-0:write=50000@2"))
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert lines[1:50001] == [f"[worker 0] line {number}" for number in range(50000)]
    assert read_log(tmp_path / "run", "worker-0").count("\nline ") == 50000


def test_children_of_a_rank_end_with_it(tmp_path):
    script = ("--do", "worker-0:child@1", "--do", "worker-0:exit=3@2")
    assert launch(tmp_path / "run", script=script).returncode == 3
    child = int((tmp_path / "run" / "child").read_text())
    assert not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE


def test_nothing_outlives_a_killed_launcher(tmp_path):
    run_dir = tmp_path / "run"
    script = ("--steps", "10000", "--do", "worker-1:child@1", "--do", "worker-0:deaf@2")
    with launching(run_dir, "--workers", "2", script=script) as launcher:
        wait_until((run_dir / "child").exists)
        wait_until(has_begun(run_dir))
        children = psutil.Process(launcher.pid).children(recursive=True)
        assert len(children) == 4  # two ranks, the child of one, the keeper
        launcher.kill()
        launcher.wait()
        psutil.wait_procs(children, timeout=10)
        assert not find_processes(run_dir)
        assert not [child for child in children if child.is_running()]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_lets_the_ranks_write_a_checkpoint(tmp_path, number, code):
    run_dir = tmp_path / "run"
    with launching(run_dir, "--workers", "2", script=("--steps", "10000")) as launcher:
        wait_until(has_begun(run_dir))
        wait_until(has_begun(run_dir, "worker-1"))
        launcher.send_signal(number)
        _, errors = launcher.communicate(timeout=20)
    assert launcher.returncode == code
    assert f"stopped by {number.name}" in errors and "restart" not in errors
    assert not find_processes(run_dir)


def test_a_second_signal_kills_at_once(tmp_path):
    run_dir = tmp_path / "run"
    with launching(run_dir, "--grace", "300", script=("--do", "worker-0:deaf@1")) as launcher:
        wait_until(lambda: "deaf" in read_log(run_dir, "worker-0") if has_begun(run_dir)() else False)
        launcher.send_signal(signal.SIGTERM)
        time.sleep(0.5)  # two signals at the same moment are one
        assert launcher.poll() is None
        launcher.send_signal(signal.SIGTERM)
        wait_until(lambda: launcher.poll() is not None)
    assert launcher.returncode == 143
    assert not find_processes(run_dir)


def test_a_launch_goes_on_in_its_run_directory(tmp_path):
    run_dir = tmp_path / "run"
    assert launch(run_dir, "--max-restarts", "0", script=("--do", "worker-0:exit=1@5")).returncode == 1
    done = launch(run_dir, "--max-restarts", "0")
    assert done.returncode == 0 and done.stdout.splitlines()[0] == "[worker 0] from step 4"
    assert read_log(run_dir, "worker-0").count("--- worker 0, ") == 2
