"""gunicorn's settings, made from bmp's. Models load in each worker, after the fork."""

import logging
import os
import sys
from typing import Any

from bmp.errors import ConfigError
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
preload_app = False  # a model loaded before the fork would be shared by processes that must not share it
control_socket_disable = True


def post_fork(server: Any, worker: Any) -> None:
    """Hands the body limit to the worker, which enforces it while it reads; our log goes where gunicorn's goes."""
    worker.max_body_bytes = _settings.max_body_bytes
    logging.getLogger("serving").handlers = worker.log.error_log.handlers
