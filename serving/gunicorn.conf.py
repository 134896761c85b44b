"""gunicorn's settings, made from bmp's. Models load in each worker, after the fork."""

import logging
import os
import sys
from typing import Any

from bmp.errors import ConfigError
from serving.grpc.port import reserve_port, to_address
from serving.metrics import shared_counts
from serving.models import control
from serving.settings import Settings

try:
    _settings = Settings.from_environ(os.environ)
except ConfigError as error:  # gunicorn would show a traceback for what is the operator's slip
    sys.exit(f"bmp: {error}")

wsgi_app = "serving.app:create_app()"
worker_class = "serving.worker.BufferedWorker"
bind = f"{_settings.host}:{_settings.port}"
workers = _settings.workers
threads = _settings.threads
timeout = _settings.timeout_s
graceful_timeout = _settings.graceful_timeout_s
keepalive = _settings.keep_alive_s
loglevel = _settings.log_level
accesslog = _settings.access_log
preload_app = False  # a model loaded before the fork would be shared by processes that must not share it
control_socket_disable = True


def on_starting(server: Any) -> None:
    """Holds the port of the gRPC doors, before any worker needs it; a new arbiter takes it over from the old one."""
    if _settings.grpc_port is None:
        return
    try:
        server.grpc_socket = reserve_port(_settings.host, _settings.grpc_port, shared=bool(server.master_pid))
    except ConfigError as error:
        sys.exit(f"bmp: {error}")


def when_ready(server: Any) -> None:
    """Makes the places where workers count, and agree on what clients want loaded, before there is one."""
    shared_counts.open_directory()
    if _settings.model_control == "explicit":
        control.open_file()


def child_exit(server: Any, worker: Any) -> None:
    """Forgets what a worker said of itself that is true no more; its counts stay."""
    shared_counts.forget_process(worker.pid)


def on_exit(server: Any) -> None:
    """Removes these places, unless a new arbiter goes on with them."""
    if not server.reexec_pid:
        shared_counts.close_directory()
        control.close_file()


def post_fork(server: Any, worker: Any) -> None:
    """Hands the body limit to the worker, which enforces it while it reads; our log goes where gunicorn's goes."""
    worker.max_body_bytes = _settings.max_body_bytes
    logging.getLogger("serving").handlers = worker.log.error_log.handlers
    worker.grpc = None
    if _settings.grpc_port is not None:
        worker.grpc_address = to_address(server.grpc_socket)


def post_worker_init(worker: Any) -> None:
    """Has refusals counted, and starts the gRPC doors, if there are any; only then their library takes memory."""
    from serving.metrics import meters  # not before the place is named where it counts

    worker.observe_refusal = meters.record_refusal
    if _settings.grpc_port is None:
        return
    from serving.grpc.server import GrpcThread

    worker.grpc = GrpcThread(
        worker.wsgi.service,
        worker.grpc_address,
        _settings.max_body_bytes,
        threads=_settings.threads,
        is_wanted=lambda: worker.alive,
        grace_s=max(0.0, _settings.graceful_timeout_s - 1.0),
    )
    worker.grpc.start()


def worker_int(worker: Any) -> None:
    """Lets no call keep a worker that was told to quit at once."""
    if worker.grpc is not None:
        worker.grpc.grace_s = 0.0


def worker_exit(server: Any, worker: Any) -> None:
    """Waits for the calls in flight."""
    if worker.grpc is not None:
        worker.grpc.join()
