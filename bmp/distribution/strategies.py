"""tf.distribute strategies, and the choice among them from what is here."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from bmp.distribution.cluster import Cluster
from bmp.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np
    import tensorflow as tf

_REGISTER_TIMEOUT_MS = 120_000
_HEARTBEAT_TIMEOUT_MS = 10_000
_PYTHON_CALLS = 4096


@dataclass(frozen=True)
class Chosen:
    """A strategy, and why.

    Args:
        name: An entry of STRATEGIES, never `auto`.
        strategy: Of TensorFlow.
        reason: Words for the log.
    """

    name: str
    strategy: "tf.distribute.Strategy"
    reason: str


def build_auto(cluster: Cluster, cpu_replicas: int | None, /) -> Chosen:
    """Decides from the cluster this process is in and the devices it has."""
    name, reason = choose(cluster, cpu_replicas, os.environ.get("TPU_NAME"), _count_gpus)
    builders: dict[str, Callable[[Cluster, int | None], Chosen]] = {
        "one_device": build_one_device,
        "mirrored": build_mirrored,
        "multi_worker": build_multi_worker,
        "parameter_server": build_parameter_server,
        "tpu": build_tpu,
    }
    return Chosen(name, builders[name](cluster, cpu_replicas).strategy, reason)


def choose(
    cluster: Cluster, cpu_replicas: int | None, tpu: str | None, count_gpus: Callable[[], int]
) -> tuple[str, str]:
    """Returns the entry of STRATEGIES that fits, and why.

    Args:
        cluster: This process and the others.
        cpu_replicas: Replicas on the CPU that the recipe asks for.
        tpu: The TPU that the environment names.
        count_gpus: Asked last: it starts TensorFlow.
    """
    if "ps" in cluster.spec:
        return "parameter_server", f"{cluster.reason} has parameter servers"
    workers = len(cluster.spec.get("worker", ())) + len(cluster.spec.get("chief", ()))
    if workers > 1:
        return "multi_worker", f"{cluster.reason} has {workers} workers"
    if tpu:
        return "tpu", f"TPU_NAME is {tpu}"
    if cpu_replicas and cpu_replicas > 1:
        return "mirrored", f"distribution.cpu_replicas is {cpu_replicas}"
    gpus = count_gpus()
    if gpus > 1:
        return "mirrored", f"this machine has {gpus} GPUs"
    return "one_device", "this machine has one GPU" if gpus else "this machine has no GPU"


def build_one_device(cluster: Cluster, cpu_replicas: int | None, /) -> Chosen:
    """Everything on the first GPU, or on the CPU where there is none."""
    import tensorflow as tf

    _refuse_cluster("one_device", cluster)
    if cpu_replicas and cpu_replicas > 1:
        raise ConfigError(
            f"distribution.cpu_replicas is {cpu_replicas}, but distribution.strategy is one_device, which has one "
            "replica. Choose mirrored.",
            expected="mirrored",
            received="one_device",
        )
    gpus = tf.config.list_logical_devices("GPU")
    strategy = tf.distribute.OneDeviceStrategy(gpus[0].name if gpus and not cpu_replicas else "/cpu:0")
    return Chosen("one_device", strategy, "as the recipe says")


def build_mirrored(cluster: Cluster, cpu_replicas: int | None, /) -> Chosen:
    """One replica on each GPU, or as many on the CPU as the recipe says; gradients are summed every step."""
    import tensorflow as tf

    _refuse_cluster("mirrored", cluster)
    gpus = [] if cpu_replicas else tf.config.list_logical_devices("GPU")
    devices = [gpu.name for gpu in gpus] or _make_cpus(cpu_replicas or 1)
    return Chosen("mirrored", tf.distribute.MirroredStrategy(devices), "as the recipe says")


def build_multi_worker(cluster: Cluster, cpu_replicas: int | None, /) -> Chosen:
    """Several processes, each with its devices; gradients are summed over all of them every step.

    To be built before TensorFlow does anything else: it starts a server that the others connect to.

    Raises:
        ConfigError: This process is in no cluster, or the cluster has parameter servers.
    """
    import tensorflow as tf

    if "ps" in cluster.spec or len(cluster.spec) == 0:
        what = "has parameter servers" if "ps" in cluster.spec else "is not there: this is a lone process"
        raise ConfigError(
            f"distribution.strategy is multi_worker, but its cluster {what}. Start the run with "
            "'bmp launch --workers 2 train.py …', or set TF_CONFIG.",
            expected="a cluster of workers",
            received=cluster.reason,
        )
    if cpu_replicas and cpu_replicas > 1:
        raise ConfigError(
            "distribution.cpu_replicas is for one process; with several workers each has one replica on its CPU. "
            "Start more workers."
        )
    _watch_peers(cluster)
    os.environ["TF_CONFIG"] = cluster.tf_config()  # as TensorFlow takes it: no evaluator, whoever wrote it
    return Chosen("multi_worker", tf.distribute.MultiWorkerMirroredStrategy(), "as the recipe says")


def build_parameter_server(cluster: Cluster, cpu_replicas: int | None, /) -> Chosen:
    """Variables on parameter servers, updated by each worker on its own time: fast with stragglers, not exact.

    Raises:
        ConfigError: This process is not in a cluster with parameter servers.
    """
    import tensorflow as tf

    if "ps" not in cluster.spec:
        raise ConfigError(
            "distribution.strategy is parameter_server, but there are no parameter servers. Start the run with "
            "'bmp launch --workers 2 --ps 1 train.py …', or set TF_CONFIG with the jobs chief, worker and ps.",
            expected="a cluster with the jobs chief, worker and ps",
            received=cluster.reason,
        )
    os.environ["TF_CONFIG"] = cluster.tf_config()
    resolver = tf.distribute.cluster_resolver.TFConfigClusterResolver()
    return Chosen("parameter_server", tf.distribute.ParameterServerStrategy(resolver), "as the recipe says")


def build_tpu(cluster: Cluster, cpu_replicas: int | None, /) -> Chosen:
    """All cores of a TPU.

    Raises:
        ConfigError: There is none.
    """
    import tensorflow as tf

    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver.connect(os.environ.get("TPU_NAME", "local"))
    except (ValueError, tf.errors.OpError) as error:
        raise ConfigError(
            f"distribution.strategy is tpu, but none can be reached: {' '.join(str(error).split())[:200]}. Set "
            "TPU_NAME, or choose auto.",
            expected="a TPU",
        ) from error
    return Chosen("tpu", tf.distribute.TPUStrategy(resolver), "as the recipe says")


def serve_cluster(cluster: Cluster, open_data: "Callable[[], Callable[[np.ndarray], list[np.ndarray]]]") -> NoReturn:
    """Serves the coordinator of a cluster with parameter servers, until the process is ended.

    Args:
        cluster: This process and the others.
        open_data: Called by a worker, which reads the examples itself; returns what reads those at some positions.
    """
    import tensorflow as tf

    reader = open_data() if cluster.task_type == "worker" else None
    if reader is not None:
        _answer_python_calls(reader)
    addresses: dict[str, list[str]] = {job: list(tasks) for job, tasks in cluster.spec.items()}
    server = tf.distribute.Server(
        tf.train.ClusterSpec(addresses),
        job_name=cluster.task_type,
        task_index=cluster.task_index,
        protocol="grpc",
        start=True,
    )
    server.join()
    raise AssertionError("a server ended that never ends")


def _answer_python_calls(function: Callable[..., Any]) -> None:
    """Lets this process answer the one Python function that graphs of the coordinator call: reading examples.

    A graph names such a function by a number that the coordinator gave it; TensorFlow looks it up where the graph runs
    (tensorflow 2.21, ops/script_ops.py). Every function that a training sends here is that one.
    """
    from tensorflow.python.ops import script_ops

    registry = script_ops._py_funcs
    registry._keeps_alive = function  # the registry itself holds weak references
    for number in range(_PYTHON_CALLS):
        registry._funcs[f"pyfunc_{number}"] = function


def _refuse_cluster(name: str, cluster: Cluster) -> None:
    if cluster.num_processes > 1:
        raise ConfigError(
            f"distribution.strategy is {name}, which is for one process, but {cluster.reason} has "
            f"{cluster.num_processes}. Choose auto.",
            expected="auto",
            received=name,
        )


def _count_gpus() -> int:
    import tensorflow as tf

    return len(tf.config.list_physical_devices("GPU"))


def _make_cpus(count: int) -> list[str]:
    """Divides the CPU into logical devices; possible once in a process, before TensorFlow is used.

    Raises:
        ConfigError: This process has divided it otherwise.
    """
    import tensorflow as tf

    if count > 1:
        cpu = tf.config.list_physical_devices("CPU")[0]
        try:
            tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * count)
        except RuntimeError as error:
            if len(tf.config.list_logical_devices("CPU")) < count:
                raise ConfigError(
                    f"distribution.cpu_replicas is {count}, but TensorFlow was used in this process before. Start a "
                    "new process."
                ) from error
    return [f"/cpu:{number}" for number in range(count)]


def _watch_peers(cluster: Cluster) -> None:
    """Shortens TensorFlow's patience with a worker that never comes, or no longer answers.

    By the settings that the strategy itself would make, which have no public name (tensorflow 2.21, eager/context.py).
    """
    from tensorflow.compiler.xla.tsl.protobuf import coordination_config_pb2
    from tensorflow.python.eager import context

    if context.context().coordination_service is not None:
        return
    jobs = [job for job in ("chief", "worker") if job in cluster.spec]
    context.context().configure_coordination_service(
        service_type="standalone",
        service_leader=f"/job:{jobs[0]}/replica:0/task:0",
        cluster_register_timeout_in_ms=_REGISTER_TIMEOUT_MS,
        heartbeat_timeout_in_ms=_HEARTBEAT_TIMEOUT_MS,
        coordinated_jobs=[
            coordination_config_pb2.CoordinatedJob(name=job, num_tasks=len(cluster.spec[job])) for job in jobs
        ],
    )


def describe_devices(strategy: Any) -> list[str]:
    """Returns the devices of this process that compute, as TensorFlow names them."""
    return [str(device) for device in strategy.extended.worker_devices]
