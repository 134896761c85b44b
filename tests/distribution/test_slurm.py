import pytest
from hypothesis import given
from hypothesis import strategies as st

from bmp.distribution.cluster import read_cluster
from bmp.distribution.slurm import expand_nodes, expand_tasks
from bmp.errors import ConfigError


def step(task, tasks=5, nodes="n[1-2]", per_node="3,2", **more):
    return {
        "SLURM_PROCID": str(task),
        "SLURM_STEP_NUM_TASKS": str(tasks),
        "SLURM_STEP_NODELIST": nodes,
        "SLURM_STEP_TASKS_PER_NODE": per_node,
        **more,
    }


@pytest.mark.parametrize(
    ("text", "nodes"),
    [
        ("login", ["login"]),
        ("node[1-3,7]", ["node1", "node2", "node3", "node7"]),
        ("n[08-10],gpu-a", ["n08", "n09", "n10", "gpu-a"]),
        ("r[1-2]n[1-2]-ib.x", ["r1n1-ib.x", "r1n2-ib.x", "r2n1-ib.x", "r2n2-ib.x"]),
    ],
)
def test_lists_of_nodes(text, nodes):
    assert expand_nodes(text) == nodes


@pytest.mark.parametrize(
    "text", ["", ",", "a,", "n[", "n[1", "n]", "n[3-1]", "n[a]", "n[]", "n[-1]", "a b", "n[1-99999999]"]
)
def test_what_is_no_list_of_nodes(text):
    with pytest.raises(ConfigError):
        expand_nodes(text)


def test_a_short_text_does_not_become_millions_of_names():
    with pytest.raises(ConfigError, match="more than 65,536 nodes"):
        expand_nodes("n[1-300]m[1-300]")
    with pytest.raises(ConfigError):
        expand_tasks("1(x999999)")


@given(st.lists(st.integers(1, 999), min_size=1, max_size=8), st.integers(1, 4))
def test_names_come_back_from_their_list(numbers, width):
    inside = ",".join(str(number).zfill(width) for number in numbers)
    assert expand_nodes(f"n[{inside}]") == [f"n{str(number).zfill(width)}" for number in numbers]


@given(st.integers(0, 500), st.integers(0, 60))
def test_a_range_is_all_its_numbers(first, more):
    assert expand_nodes(f"x[{first}-{first + more}]") == [f"x{number}" for number in range(first, first + more + 1)]


@given(st.lists(st.tuples(st.integers(1, 64), st.integers(1, 9)), min_size=1, max_size=6))
def test_tasks_for_each_node(runs):
    text = ",".join(f"{count}(x{times})" if times > 1 else str(count) for count, times in runs)
    assert expand_tasks(text) == [count for count, times in runs for _ in range(times)]


@given(st.text(alphabet="n0123456789[],-(x) ", max_size=20))
def test_any_text_is_a_list_or_a_sentence(text):
    for expand in (expand_nodes, expand_tasks):
        try:
            assert expand(text)
        except ConfigError as error:
            assert str(error).endswith(".")


def test_tasks_are_numbered_node_by_node():
    cluster = read_cluster(step(3))
    assert cluster.spec == {"worker": ("n1:8888", "n1:8889", "n1:8890", "n2:8888", "n2:8889")}
    assert (cluster.task_type, cluster.task_index, cluster.reason) == ("worker", 3, "SLURM step, task 3 of 5")


def test_the_first_port_and_the_parameter_servers_can_be_set():
    environ = {"BMP_PORT_BASE": "20000", "BMP_PS": "2"}
    clusters = [read_cluster(step(task, **environ)) for task in range(5)]
    assert [(cluster.task_type, cluster.task_index) for cluster in clusters] == [
        ("chief", 0),
        ("worker", 0),
        ("worker", 1),
        ("ps", 0),
        ("ps", 1),
    ]
    assert clusters[0].spec["ps"] == ("n2:20000", "n2:20001")
    assert [cluster.rank for cluster in clusters] == list(range(5))


def test_without_a_step_of_several_tasks_it_is_a_lone_process():
    assert read_cluster({"SLURM_PROCID": "0", "SLURM_NTASKS": "4"}).num_processes == 1  # the batch script itself
    assert read_cluster(step(0, 1, "n1", "1")).num_processes == 1


def test_tf_config_counts_before_slurm():
    text = '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 0}}'
    assert read_cluster(step(3, TF_CONFIG=text)).spec == {"worker": ("a:1",)}


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        (step(5), "contradict each other: task 5 of 5"),
        (step(0, 4), "contradict each other"),
        (step(0, nodes="n1"), "contradict each other"),
        (step("x"), "SLURM_PROCID is 'x'; expected a whole number from 0"),
        (step(0, "0"), "SLURM_STEP_NUM_TASKS is '0'; expected a whole number from 1"),
        (step(0, BMP_PORT_BASE="65534"), "BMP_PORT_BASE is 65534; with 3 tasks on a node it can be 65533 at most"),
        (step(0, BMP_PS="4"), "BMP_PS is 4, but of 5 tasks"),
        (step(1, SLURMD_NODENAME="n2"), "srun --distribution=block"),
        (step(0, per_node="three"), "does not say how many tasks"),
    ],
)
def test_mistakes_are_one_sentence(environ, message):
    with pytest.raises(ConfigError, match=message.replace("(", r"\(")):
        read_cluster(environ)
