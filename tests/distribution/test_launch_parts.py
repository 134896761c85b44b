import socket

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from bmp.cli.launch import launch_command
from bmp.distribution.heartbeat import Beat
from bmp.distribution.launch.cores import describe_pools, divide_cores
from bmp.distribution.launch.crew import Crew
from bmp.distribution.launch.gpus import divide_gpus, list_gpus
from bmp.distribution.launch.messages import MAX_FIRST_BYTES, Join, parse
from bmp.distribution.launch.options import Host, Options, choose_run_dir, find_host_index, parse_hosts, parse_workers
from bmp.distribution.launch.ports import choose_ports
from bmp.distribution.launch.progress import say_progress, say_where
from bmp.distribution.launch.roles import Role, Share, build_spec, list_roles, spread
from bmp.distribution.launch.site import Trouble
from bmp.distribution.launch.watch import Watch
from bmp.errors import BmpError, ConfigError, RequestError, TrainingError


@given(st.sets(st.integers(0, 200), min_size=1, max_size=64), st.integers(1, 80), st.integers(0, 8))
def test_cores_are_all_used_and_shared_only_when_there_are_too_few(cores, workers, ps):
    jobs = ["worker"] * workers + ["ps"] * ps
    parts = divide_cores(list(cores), jobs)
    own = parts if len(cores) >= len(jobs) else parts[:workers]
    assert len(parts) == len(jobs) and all(parts)
    assert set().union(*parts) == cores or workers < len(cores)
    if len(own) <= len(cores):
        assert sum(map(len, own)) == len(set().union(*own)) == len(cores)
        assert max(map(len, own)) - min(map(len, own)) <= 1
    else:
        assert {len(part) for part in own} == {1}


def test_where_cores_are_few_only_workers_have_their_own():
    assert divide_cores([0, 1], ["chief", "worker", "worker", "ps"]) == [(0, 1), (0,), (1,), (0, 1)]
    assert describe_pools([4, 5, 6])["OMP_NUM_THREADS"] == "3"


def test_ports_are_free_fresh_and_different():
    first = choose_ports("127.0.0.1", 50)
    second = choose_ports("127.0.0.1", 50, avoid=first)
    assert len({*first, *second}) == 100
    with socket.create_server(("127.0.0.1", first[0])):
        assert first[0] not in choose_ports("127.0.0.1", 50)


def test_ports_of_another_machine():
    with pytest.raises(TrainingError, match=r"198\.51\.100\.1 is no address of this machine"):
        choose_ports("198.51.100.1", 1)


@given(st.dictionaries(st.integers(0, 9), st.tuples(st.integers(0, 4), st.integers(0, 2)), min_size=1))
def test_every_rank_has_one_place_and_one_address(counts):
    shares = {host: Share(int(host == min(counts)), worker, ps) for host, (worker, ps) in counts.items()}
    ports = {host: range(1000 * (host + 1), 1000 * (host + 1) + share.total) for host, share in shares.items()}
    spec = build_spec(shares, {host: f"h{host}" for host in shares}, ports)
    roles = [(host, role) for host in sorted(shares) for role in list_roles(shares, host)]
    assert len({role for _, role in roles}) == len(roles) == sum(map(len, spec.values()))
    for host, role in roles:
        assert spec[role.job][role.index].startswith(f"h{host}:")
    together = [address for addresses in spec.values() for address in addresses]
    assert len(set(together)) == len(together)


def test_numbers_are_spread_in_order():
    assert [spread(7, 3), spread(1, 2), spread(0, 2)] == [[3, 2, 2], [1, 0], [0, 0]]
    assert Role("worker", 1).name == "worker 1" and Role("ps", 0).stem == "ps-0"


@pytest.mark.parametrize("text", ["0", "-1", "a", "1:", "3:2", "0:2", "1:2:3", ""])
def test_what_is_no_number_of_workers(text):
    with pytest.raises(ConfigError, match="--workers is"):
        parse_workers(text)


def test_hosts_and_which_of_them_this_is():
    assert parse_workers("2") == (2, 2) and parse_workers("2:4") == (2, 4)
    hosts = parse_hosts("127.0.0.1:1000, 198.51.100.1,[::ffff]:7")
    assert hosts == (Host("127.0.0.1", 1000), Host("198.51.100.1", 29500), Host("::ffff", 7))
    assert hosts[2].in_spec == "[::ffff]"
    assert find_host_index(hosts[:2], None) == 0
    with pytest.raises(ConfigError, match="Of the addresses in --hosts 2 belong to this machine"):
        find_host_index(parse_hosts("127.0.0.1,127.0.0.2"), None)
    with pytest.raises(ConfigError, match="--hosts none belongs to this machine"):
        find_host_index(parse_hosts("198.51.100.1,198.51.100.2"), None)
    with pytest.raises(ConfigError, match="which is no address of this machine"):
        find_host_index(hosts, 1)
    with pytest.raises(ConfigError, match="--host-index is 3; with 3 hosts it is 0 to 2"):
        find_host_index(hosts, 3)


@pytest.mark.parametrize("text", ["", "a:b", "a:0", "a:70000", "a b", "a,,b", "http://a", "a,a"])
def test_what_is_no_list_of_hosts(text):
    with pytest.raises(ConfigError, match="--hosts"):
        parse_hosts(text)


def test_the_run_directory_is_given_once_or_made_up():
    directory, command = choose_run_dir(["train.py", "digits"], "here")
    assert (str(directory), command) == ("here", ("train.py", "digits", "--run-dir", "here"))
    directory, command = choose_run_dir(["train.py", "digits", "--run-dir=there"], None)
    assert (str(directory), command[2:]) == ("there", ("--run-dir=there",))
    directory, command = choose_run_dir(["train.py", "my/own.yaml"], None)
    assert str(directory).startswith("runs/own-") and command[-1] == str(directory)
    with pytest.raises(ConfigError, match="here for the launcher but there for the script"):
        choose_run_dir(["train.py", "--run-dir", "there"], "here")


def options(tmp_path, hosts=1, **more):
    return Options(("s.py",), tmp_path, hosts=tuple(Host(f"h{index}", 1) for index in range(hosts)), **more)


def test_a_worker_that_fails_twice_without_a_new_step_is_dropped(tmp_path):
    crew = Crew(options(tmp_path, 2, min_workers=3, max_workers=4))
    failed = Trouble("it died", "worker 3")
    assert crew.note_failure(1, failed, False, [0, 1]) is None
    assert crew.note_failure(1, failed, True, [0, 1]) is None  # a new step between
    assert "going on with 3 workers" in crew.note_failure(1, failed, False, [0, 1])
    assert {host: share.worker for host, share in crew.share([0, 1]).items()} == {0: 2, 1: 1}
    assert [crew.note_failure(1, failed, False, [0, 1]) for _ in range(3)] == [None] * 3  # never below the least


def test_the_chief_is_never_dropped(tmp_path):
    crew = Crew(options(tmp_path, 2, min_workers=1, max_workers=2))
    assert [crew.note_failure(0, Trouble("it died", "worker 0"), False, [0, 1]) for _ in range(3)] == [None] * 3
    crew = Crew(options(tmp_path, 1, min_workers=1, max_workers=2, ps=1))
    assert [crew.note_failure(0, Trouble("it died", "ps 0"), False, [0]) for _ in range(3)] == [None] * 3


def test_silence_counts_while_a_rank_trains():
    watch = Watch(start_timeout_s=5, watchdog_s=2, now_s=0)
    assert watch.find_silence(4) is None and "no sign of life" in watch.find_silence(6)
    watch.see(Beat("starting", count=1), 6)
    assert watch.find_silence(1000) is None
    watch.see(Beat("training", 7, count=2), 1000)
    watch.see(Beat("training", 7, count=2), 1003)
    assert watch.find_silence(1003) == "made no progress for 2 s (training, step 7; --watchdog)"
    watch.see(Beat("training", 7, count=3), 1003)
    assert watch.find_silence(1004) is None
    watch.see(Beat("saving", 7, count=4), 1004)
    assert watch.find_silence(9999) is None


def test_the_line_of_progress():
    figures = {"loss": 0.123456, "examples_per_s": 5120.4}
    beats = {f"worker {index}": Beat("training", 120, 1000, figures) for index in (0, 1, 2)}
    beats |= {"worker 4": Beat("training"), "worker 3": Beat("saving", 119), "ps 0": Beat("waiting")}
    assert say_where(beats) == "training: worker 0-2,4; saving: worker 3; waiting: ps 0"
    assert say_progress(beats, 2.0) == (
        "step 120/1,000  loss 0.1235  5,120 examples/s  ETA 7 min 20 s  "
        "training: worker 0-2,4; saving: worker 3; waiting: ps 0"
    )
    assert say_progress({"worker 0": Beat("starting")}, 0) == "starting: worker 0"


@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_an_error(line):
    with pytest.raises(RequestError, match="no message of a launcher"):
        parse(line)


def test_a_message_is_read_back_and_fits_in_the_first_line():
    join = Join(version=1, token="x" * 1000, index=3)
    line = join.model_dump_json().encode()
    assert parse(line) == join and len(line) < MAX_FIRST_BYTES


def run(*arguments):
    result = CliRunner().invoke(launch_command, arguments)
    if isinstance(result.exception, BmpError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--worker", "2", __file__], "There is no option --worker. Did you mean '--workers'?"),
        (["nothing.py"], "There is no script nothing.py"),
        (["--host-index", "0", __file__], "give --hosts as well"),
        (["--hosts", "127.0.0.1:1,198.51.100.1:1", __file__], "name it with --run-dir"),
        (["--hosts", "127.0.0.1:1,198.51.100.1:1", "--run-dir", "r", __file__], "2 hosts share 1 worker;"),
        (["--workers", "5000", __file__], "5,000 ranks are too many"),
        (["--print", "slurm", "--hosts", "a:1", __file__], "have no place here"),
        (["--print", "kubernetes", __file__], "must be an absolute path"),
    ],
)
def test_mistakes_are_one_sentence(arguments, message):
    with pytest.raises(ConfigError) as caught:
        run(*arguments)
    assert message in str(caught.value)


def test_manifests_are_printed():
    text = run("--workers", "2:4", "--print", "slurm", "--run-dir", "runs/x", __file__, "digits", "--set", "a=b")
    assert "#SBATCH --ntasks=4" in text and "digits --set a=b --run-dir runs/x" in text
    assert "kind: Job" in run("--print", "kubernetes", "--run-dir", "/runs/x", __file__)


@pytest.mark.parametrize(
    ("gpus", "jobs", "expected"),
    [
        ("", ["worker", "worker"], [None, None]),
        ("0,1", ["worker", "worker"], ["0", "1"]),
        ("0,1,2,3,4", ["worker", "worker"], ["0,1", "2,3"]),
        ("3", ["chief", "worker", "worker", "ps"], ["-1", "3", "-1", "-1"]),
        ("0,1", ["chief", "worker", "worker", "ps"], ["-1", "0", "1", "-1"]),
        ("GPU-ab,GPU-cd", ["worker"], ["GPU-ab,GPU-cd"]),
    ],
)
def test_every_worker_has_gpus_of_its_own(gpus, jobs, expected):
    found = divide_gpus(list_gpus({"CUDA_VISIBLE_DEVICES": gpus}), jobs, has_servers="ps" in jobs)
    assert [own.get("CUDA_VISIBLE_DEVICES") for own in found] == expected


def test_some_workers_on_gpus_and_others_on_the_cpu_are_refused():
    """TensorFlow's collectives know one kind of device: it failed at the first variable, and again at each restart."""
    with pytest.raises(ConfigError, match=r"1 GPU for 2 workers.*--workers 1, or set CUDA_VISIBLE_DEVICES=-1"):
        divide_gpus(["3"], ["worker", "worker"], has_servers=False)
    assert divide_gpus(["3"], ["worker", "worker"], has_servers=True)[1] == {"CUDA_VISIBLE_DEVICES": "-1"}


def test_gpus_are_seen_where_linux_shows_them(tmp_path):
    for name in ("nvidia1", "nvidia0", "nvidia10", "nvidiactl", "nvidia-uvm", "null"):
        (tmp_path / name).touch()
    assert list_gpus({}, tmp_path) == ["0", "1", "10"]
    assert list_gpus({"CUDA_VISIBLE_DEVICES": "-1"}, tmp_path) == []
