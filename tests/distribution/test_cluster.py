import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bmp.distribution.cluster import JOBS, Cluster, read_cluster
from bmp.errors import ConfigError


def config(cluster, kind="worker", index=0):
    return {"TF_CONFIG": json.dumps({"cluster": cluster, "task": {"type": kind, "index": index}})}


def test_nothing_said_is_a_lone_process():
    cluster = read_cluster({})
    assert (cluster.num_processes, cluster.rank, cluster.is_chief, cluster.tf_config()) == (1, 0, True, "{}")
    assert cluster.reason == "a lone process"


@pytest.mark.parametrize("text", ["", " ", "{}", '{"cluster": {}}', '{"environment": "cloud"}'])
def test_a_tf_config_without_a_cluster_is_a_lone_process(text):
    assert read_cluster({"TF_CONFIG": text}).num_processes == 1


def test_worker_0_is_the_chief_where_there_is_none():
    workers = {"worker": ["a:1", "b:1"]}
    clusters = [read_cluster(config(workers, index=index)) for index in range(2)]
    assert [(cluster.is_chief, cluster.rank) for cluster in clusters] == [(True, 0), (False, 1)]
    assert clusters[1].reason == "TF_CONFIG: worker 1 of 2 processes"


def test_the_evaluator_is_taken_out():
    spec = {"evaluator": ["e:1"], "worker": ["a:1"], "chief": ["c:1"], "ps": ["p:1", "p:2"]}
    cluster = read_cluster(config(spec, "ps", 1))
    assert cluster.spec == {"chief": ("c:1",), "worker": ("a:1",), "ps": ("p:1", "p:2")}
    assert (cluster.num_processes, cluster.rank, cluster.is_chief) == (4, 3, False)
    assert "evaluator" not in cluster.tf_config()


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({"TF_CONFIG": "{"}, "TF_CONFIG is not JSON"),
        ({"TF_CONFIG": "[" * 100_000}, "TF_CONFIG is not JSON"),
        ({"TF_CONFIG": "[]"}, "is not a JSON object"),
        ({"TF_CONFIG": '{"cluster": ["a:1"]}'}, "'cluster' that is not an object"),
        ({"TF_CONFIG": '{"cluster": {"worker": ["a:1"]}}'}, "has no task"),
        (config({"worker": "a:1"}), "must list the addresses of 'worker' as texts"),
        (config({"worker": ["a"]}), "the address 'a' of a worker; an address is HOST:PORT"),
        (config({"worker": ["a:70000"]}), "the address 'a:70000'"),
        (config({"worker": ["a:1", "a:1"]}), "names the address a:1 twice"),
        (config({"workers": ["a:1"]}), "unknown type 'workers'; known: chief, worker, ps. Did you mean 'worker'?"),
        (config({"worker": ["a:1"]}, "master"), "'master' is called 'chief' now"),
        (config({"worker": ["a:1"]}, "evaluator"), "makes this process an evaluator"),
        (config({"worker": ["a:1"]}, "chief"), "makes this process a chief, but its cluster has none"),
        (config({"worker": ["a:1"]}, index=1), "the task index 1; the cluster has worker 0."),
        (config({"worker": ["a:1", "b:1"]}, index=-1), "the task index -1; the cluster has worker 0 to 1."),
        (config({"worker": ["a:1"]}, index=True), "the task index True"),
        (config({"worker": ["a:1"]}, index=None), "the task index None"),
        (config({"worker": ["a:1"], "ps": ["p:1"]}), "parameter servers (ps) but no chief"),
        (config({"chief": ["a:1"], "ps": ["p:1"]}, "chief"), "parameter servers (ps) but no worker"),
        (config({"chief": ["a:1", "b:1"]}, "chief"), "names 2 chiefs; there is one"),
    ],
)
def test_mistakes_are_one_sentence(environ, message):
    with pytest.raises(ConfigError) as caught:
        read_cluster(environ)
    assert message in str(caught.value)


@given(st.data(), st.integers(0, 1), st.integers(1, 5), st.integers(0, 3))
def test_what_a_cluster_says_is_read_back(data, chief, workers, ps):
    counts = {"chief": chief or int(ps > 0), "worker": workers, "ps": ps}
    spec = {job: tuple(f"{job}{i}:{1000 + i}" for i in range(count)) for job, count in counts.items() if count}
    job = data.draw(st.sampled_from([job for job in JOBS if job in spec]))
    index = data.draw(st.integers(0, len(spec[job]) - 1))
    cluster = Cluster(job, index, spec)
    again = read_cluster({"TF_CONFIG": cluster.tf_config()})
    assert (again.task_type, again.task_index, again.spec) == (job, index, spec)
    assert 0 <= again.rank < again.num_processes == sum(counts.values())
    assert again.is_chief == (again.rank == 0)


@given(
    st.recursive(
        st.none() | st.integers() | st.text(),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(st.sampled_from(["cluster", "task", "type", "index", "worker", "ps"]) | st.text(), inner)
        ),
    )
)
def test_any_json_is_a_cluster_or_a_sentence(value):
    try:
        assert isinstance(read_cluster({"TF_CONFIG": json.dumps(value)}), Cluster)
    except ConfigError as error:
        assert str(error).startswith("TF_CONFIG ")
