import json
import os
import subprocess
from pathlib import PurePosixPath

import pytest
import yaml

from bmp.distribution.cluster import read_cluster
from bmp.distribution.manifests import Job, render_kubernetes, render_slurm
from bmp.errors import ConfigError

COMMAND = ("train.py", "my recipe.yaml", "--set", "a='b'", "--run-dir", "/runs/Digits_1")


def job(**more):
    return Job(**{"command": COMMAND, "run_dir": PurePosixPath("/runs/Digits_1"), "workers": 3, **more})


@pytest.mark.parametrize("ps", [0, 2])
def test_each_pod_finds_its_place(ps):
    service, indexed = yaml.safe_load_all(render_kubernetes(job(ps=ps)))
    assert (service["kind"], service["spec"]["clusterIP"], indexed["kind"]) == ("Service", "None", "Job")
    spec = indexed["spec"]
    pod = spec["template"]["spec"]
    assert pod["subdomain"] == service["metadata"]["name"] == indexed["metadata"]["name"] == "digits-1"
    [container] = pod["containers"]
    ranks = [run_pod(container, index) for index in range(spec["completions"])]
    assert [rank.rank for rank in ranks] == list(range(3 + (1 + ps if ps else 0)))
    assert len({rank.spec["worker"] for rank in ranks}) == 1 and len(ranks[0].spec["worker"]) == 3
    assert [rank.is_chief for rank in ranks] == [True] + [False] * (len(ranks) - 1)
    assert ("successPolicy" in spec) == (ps > 0)
    assert container["args"][1:] == ["python", *COMMAND]


def run_pod(container, index):
    """Runs the container's own shell script; instead of training it shows what it was told."""
    environ = {entry["name"]: entry["value"] for entry in container["env"]}
    environ |= {"JOB_COMPLETION_INDEX": str(index), "PATH": os.environ["PATH"]}
    done = subprocess.run(
        [*container["command"], "rank", "sh", "-c", 'printf %s "$TF_CONFIG"'],
        env=environ,
        capture_output=True,
        text=True,
        timeout=20,
        check=True,
    )
    return read_cluster({"TF_CONFIG": done.stdout})


@pytest.mark.parametrize("directory", ["runs/a", "/a"])
def test_a_run_directory_that_pods_cannot_share(directory):
    with pytest.raises(ConfigError, match="must be an absolute path below a shared volume"):
        render_kubernetes(job(run_dir=PurePosixPath(directory)))


SRUN = """#!/bin/bash
# Stands in for srun: every task in turn, on one node; the highest exit code.
while [ "$1" != bash ]; do shift; done
worst=0
for task in $(seq 0 $((TASKS - 1))); do
  SLURM_PROCID=$task SLURM_STEP_NUM_TASKS=$TASKS SLURM_STEP_NODELIST=n1 SLURM_STEP_TASKS_PER_NODE=$TASKS "$@"
  code=$?
  [ $code -le $worst ] || worst=$code
done
exit $worst
"""
PYTHON = """#!/bin/bash
echo "$SLURM_PROCID $BMP_ATTEMPT $BMP_PORT_BASE $*" >> ranks
eval "$RANK"
"""


def run_batch(tmp_path, rank, **more):
    """Runs the batch script with stand-ins for srun and python; returns its exit code and what ranks were told."""
    run_dir = tmp_path / "run"
    for name, text in {"srun": SRUN, "python": PYTHON}.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    (tmp_path / "job.sh").write_text(render_slurm(job(run_dir=PurePosixPath(run_dir), workers=2, **more)))
    subprocess.run(["bash", "-n", "job.sh"], cwd=tmp_path, check=True, timeout=20)
    environ = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_JOB_ID": "7", "TASKS": "2", "RANK": rank}
    done = subprocess.run(["bash", "job.sh"], cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=60)
    return done.returncode, [line.split(" ", 3) for line in (tmp_path / "ranks").read_text().splitlines()]


def test_a_batch_script_starts_every_rank_once_if_all_is_well(tmp_path):
    code, ranks = run_batch(tmp_path, "exit 0")
    assert code == 0
    assert [(task, attempt) for task, attempt, _, _ in ranks] == [("0", "0"), ("1", "0")]
    assert ranks[0][3] == " ".join(COMMAND)


def test_a_batch_script_starts_again_on_fresh_ports_and_ends(tmp_path):
    code, ranks = run_batch(tmp_path, "exit $((SLURM_PROCID * 9))", max_restarts=2)
    assert code == 0  # the chief is done
    code, ranks = run_batch(tmp_path, "[ $BMP_ATTEMPT = 1 ] || exit 9", max_restarts=2)
    assert code == 0 and {attempt for _, attempt, _, _ in ranks} == {"0", "1"}
    ports = {attempt: int(port) for _, attempt, port, _ in ranks}
    assert ports["1"] >= ports["0"] + 2
    assert run_batch(tmp_path, "exit 9", max_restarts=1)[0] == 9


def test_a_batch_script_does_not_repeat_what_would_end_the_same_way(tmp_path):
    code, ranks = run_batch(tmp_path, "[ $SLURM_PROCID = 0 ] && exit 3; exit 137")
    assert code == 3 and len(ranks) == 2


def test_a_batch_script_counts_the_parameter_servers(tmp_path):
    text = render_slurm(job(ps=2))
    assert "#SBATCH --ntasks=6" in text and "export BMP_PS=2" in text
    assert json.dumps("my recipe.yaml") not in text and "'my recipe.yaml'" in text
