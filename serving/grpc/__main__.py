"""The gRPC doors alone, in one process: for use beside a server that knows nothing of them."""

import os
import signal
import sys
import threading

from bmp.errors import ConfigError
from serving.app import create_app
from serving.grpc.port import reserve_port, to_address
from serving.grpc.server import GrpcThread
from serving.settings import Settings


def main() -> None:
    """Serves on BMP_GRPC_PORT until SIGTERM or Ctrl-C; any other variable counts as for `bmp serve`.

    Raises:
        ConfigError: A variable cannot be used, or the port is taken.
    """
    settings = Settings.from_environ(os.environ)
    if settings.grpc_port is None:
        raise ConfigError("BMP_GRPC_PORT is not set; expected the port to listen on, such as 8500.")
    held = reserve_port(settings.host, settings.grpc_port)
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    thread = GrpcThread(
        create_app(settings).service,
        to_address(held),
        settings.max_body_bytes,
        threads=settings.threads,
        is_wanted=lambda: not stopping.is_set(),
        grace_s=settings.graceful_timeout_s,
    )
    thread.start()
    thread.join()
    if thread.failed:
        sys.exit(1)


if __name__ == "__main__":
    try:
        main()
    except ConfigError as error:
        sys.exit(f"bmp: {error}")
