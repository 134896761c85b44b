"""The same run on a cluster that somebody else manages: a Kubernetes manifest, a SLURM batch script."""

import json
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import yaml

from bmp.distribution.launch.site import PERMANENT
from bmp.errors import ConfigError

PORT = 2222


@dataclass(frozen=True)
class Job:
    """What is to run.

    Args:
        command: The script and its arguments, the run directory among them.
        run_dir: The run directory, on storage that all ranks share.
        workers: How many.
        ps: Parameter servers; with them there is a chief as well.
        max_restarts: How often a failed run is started again.
        grace_s: From the request to stop to the kill.
        image: The container image, for Kubernetes.
    """

    command: Sequence[str]
    run_dir: PurePosixPath
    workers: int
    ps: int = 0
    max_restarts: int = 3
    grace_s: float = 30
    image: str = "bmp:latest"

    @property
    def ranks(self) -> int:
        """Processes in all."""
        return self.workers + self.ps + (self.ps > 0)

    @property
    def name(self) -> str:
        """A name for it that every cluster takes: lower-case letters, digits and hyphens."""
        name = re.sub(r"[^a-z0-9]+", "-", self.run_dir.name.lower()).strip("-")[:40].strip("-")
        return name if name[:1].isalpha() else f"run-{name}".strip("-")


def render_kubernetes(job: Job) -> str:
    """Returns a headless Service and an Indexed Job.

    The pod's index says which rank it is. A pod that fails is started again by itself, under the same name and
    address; its peers lose their connection, fail as well, and all meet again at the last checkpoint.

    Raises:
        ConfigError: The run directory is not absolute, or at the root.
    """
    if not job.run_dir.is_absolute() or job.run_dir.parent == PurePosixPath("/"):
        raise ConfigError(
            f"The run directory {job.run_dir} must be an absolute path below a shared volume; "
            "expected for example --run-dir /runs/digits."
        )
    header = (
        f"# {shlex.join(job.command)} in {job.ranks} pods. Apply with kubectl apply -f FILE.\n"
        f"# Wants the image {job.image} with bmp and the script in its working directory, and a\n"
        "# PersistentVolumeClaim bmp-runs that all pods can write (ReadWriteMany).\n"
    )
    return header + yaml.safe_dump_all([_service(job), _indexed_job(job)], sort_keys=False, width=120)


def _service(job: Job) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": job.name},
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": True,  # ranks wait for each other before any of them is ready
            "selector": {"job-name": job.name},
            "ports": [{"name": "tensorflow", "port": PORT}],
        },
    }


def _indexed_job(job: Job) -> dict[str, Any]:
    spec: dict[str, Any] = {
        "completionMode": "Indexed",
        "completions": job.ranks,
        "parallelism": job.ranks,
        "backoffLimit": job.max_restarts * job.ranks,
        "podFailurePolicy": {
            "rules": [
                {
                    "action": "FailJob",
                    "onExitCodes": {"containerName": "rank", "operator": "In", "values": list(PERMANENT)},
                },
                {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]},
            ]
        },
        "template": {"spec": _pod(job)},
    }
    if job.ps:  # parameter servers serve for ever: the run is done when the chief is
        spec["successPolicy"] = {"rules": [{"succeededIndexes": "0"}]}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": job.name}, "spec": spec}


def _pod(job: Job) -> dict[str, Any]:
    environ = {"TF_USE_LEGACY_KERAS": "1", "PYTHONUNBUFFERED": "1", "BMP_CLUSTER": json.dumps(_pod_spec(job))}
    return {
        "subdomain": job.name,
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": round(job.grace_s),
        "containers": [
            {
                "name": "rank",
                "image": job.image,
                "command": ["/bin/sh", "-c", _index_script(job)],
                "args": ["rank", "python", *job.command],
                "env": [{"name": name, "value": value} for name, value in environ.items()],
                "ports": [{"containerPort": PORT}],
                "volumeMounts": [{"name": "runs", "mountPath": str(job.run_dir.parent)}],
            }
        ],
        "volumes": [{"name": "runs", "persistentVolumeClaim": {"claimName": "bmp-runs"}}],
    }


def _pod_spec(job: Job) -> dict[str, list[str]]:
    addresses = [f"{job.name}-{index}.{job.name}:{PORT}" for index in range(job.ranks)]
    if not job.ps:
        return {"worker": addresses}
    return {"chief": addresses[:1], "worker": addresses[1 : 1 + job.workers], "ps": addresses[1 + job.workers :]}


def _index_script(job: Job) -> str:
    """Turns the pod's index into its task, then becomes the script, so that SIGTERM reaches it."""
    choose = "type=worker index=$i\n"
    if job.ps:
        choose = (
            'if [ "$i" -eq 0 ]; then type=chief index=0\n'
            f'elif [ "$i" -le {job.workers} ]; then type=worker index=$((i - 1))\n'
            f"else type=ps index=$((i - {job.workers + 1})); fi\n"
        )
    task = r"{\"type\": \"$type\", \"index\": $index}"
    return (
        "i=$JOB_COMPLETION_INDEX\n"
        f"{choose}"
        f'export TF_CONFIG="{{\\"cluster\\": $BMP_CLUSTER, \\"task\\": {task}}}"\n'
        'exec "$@"\n'
    )


def render_slurm(job: Job) -> str:
    """Returns a batch script that starts the ranks with srun, again if they fail.

    A rank finds its place in SLURM's own variables. The exit code of srun is the highest of all ranks, those it has
    killed among them, so each rank leaves the code that matters in a file.
    """
    logs = shlex.quote(f"{job.run_dir}/logs")
    ps = f"export BMP_PS={job.ps}\n" if job.ps else ""
    command = shlex.join(["python", *job.command])
    return f"""#!/bin/bash
# {command} in {job.ranks} tasks. Submit with sbatch FILE, from a directory that all nodes share.
#SBATCH --job-name={job.name}
#SBATCH --ntasks={job.ranks}
#SBATCH --output={job.name}-%j.log
#SBATCH --open-mode=append
#SBATCH --requeue
#SBATCH --signal=B:TERM@{round(job.grace_s) + 30}

export TF_USE_LEGACY_KERAS=1 PYTHONUNBUFFERED=1
{ps}logs={logs}
mkdir -p "$logs" || exit 1

# 0: the chief is done; the others: a restart would end in the same way.
run_rank='
trap : TERM
"$@"
code=$?
case $code in
  0) [ "$SLURM_PROCID" != 0 ] || echo 0 > "$BMP_CODE_FILE" ;;
  {"|".join(map(str, PERMANENT))}) [ -s "$BMP_CODE_FILE" ] || echo "$code" > "$BMP_CODE_FILE" ;;
esac
exit "$code"
'

# Before the time is up the ranks write a checkpoint; submit again, with the same run directory, to go on.
stopped=
trap 'stopped=1; kill -TERM "$step"' TERM

for attempt in $(seq 0 {job.max_restarts}); do
  export BMP_ATTEMPT=$attempt
  export BMP_PORT_BASE=$((10000 + (SLURM_JOB_ID * 64 + attempt * {job.ranks}) % 20000))  # never the last ones
  export BMP_CODE_FILE=$logs/slurm-$SLURM_JOB_ID-$attempt.code
  rm -f "$BMP_CODE_FILE"
  srun --label --distribution=block --kill-on-bad-exit=1 --wait={max(1, round(job.grace_s))} \\
    bash -c "$run_rank" rank {command} &
  step=$!
  wait "$step"
  code=$?
  while kill -0 "$step" 2> /dev/null; do wait "$step"; code=$?; done  # a signal ends a wait early
  if [ -s "$BMP_CODE_FILE" ]; then exit "$(cat "$BMP_CODE_FILE")"; fi
  if [ "$stopped" ]; then exit 143; fi
  echo "bmp: attempt $attempt ended with exit code $code; at most {job.max_restarts} restarts" >&2
done
exit "$code"
"""
