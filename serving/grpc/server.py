"""All doors of gRPC on one port."""

import asyncio
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2

from bmp.errors import ConfigError
from serving.grpc.gather import Gatherer
from serving.grpc.health import Health
from serving.grpc.inference import build_inference_door
from serving.grpc.messages import load_pool
from serving.grpc.tfserving import build_model_door, build_prediction_door
from serving.service import Service

_log = logging.getLogger(__name__)
_LISTENERS = 8
"""Each takes calls one by one, which is what calls would wait for: a connection belongs to one of them."""
_MAX_CALLS = 1000
"""Of a listener at a time, streams among them; one more is refused at once."""
_POLL_S = 0.05


class GrpcServer:
    """The doors, from `start` to `stop`: on an event loop with a thread of its own.

    Args:
        service: What serves.
        address: Where to listen, such as `127.0.0.1:8500`; with port 0 at any free one. Others may listen there too.
        max_bytes: What a message may have, either way.
        threads: How many models run at the same time.
    """

    def __init__(self, service: Service, address: str, max_bytes: int, threads: int = 1) -> None:
        self._service = service
        self._address = address
        self._max_bytes = max_bytes
        self._gatherer = Gatherer(threads)
        self._begun: Future[int] = Future()
        self._grace_s: Future[float] = Future()
        self._thread = threading.Thread(target=self._run, name="bmp-grpc", daemon=True)

    @property
    def port(self) -> int:
        """Where it listens, once it has started."""
        return self._begun.result()

    def start(self) -> None:
        """Takes calls from now on.

        Raises:
            ConfigError: It cannot listen there.
        """
        self._thread.start()
        self._begun.result()

    def stop(self, grace_s: float) -> None:
        """Takes no more calls, and returns once those in flight are answered, or time is over.

        gRPC tells clients to go elsewhere only when it has stopped taking calls: one that arrives in that moment is
        cancelled, and its client has to ask again.
        """
        if not self._grace_s.done():
            self._grace_s.set_result(grace_s)
        self._thread.join()

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except Exception as error:
            if self._begun.done():
                raise
            self._begun.set_exception(error)

    async def _serve(self) -> None:
        servers = [
            grpc.aio.server(options=_options(self._max_bytes), maximum_concurrent_rpcs=_MAX_CALLS)
            for _ in range(_LISTENERS)
        ]
        health = self._add_doors(servers)
        port = self._listen(servers)
        for server in servers:
            await server.start()
        self._begun.set_result(port)
        grace_s = await asyncio.wrap_future(self._grace_s)
        health.stop()
        await asyncio.gather(*(server.stop(grace_s) for server in servers))
        self._gatherer.close()

    def _listen(self, servers: Iterable[grpc.aio.Server]) -> int:
        """Returns the port at which all of them listen."""
        host, _, port = self._address.rpartition(":")
        try:
            for server in servers:
                port = server.add_insecure_port(f"{host}:{port}")
        except RuntimeError as error:
            raise ConfigError(f"Cannot listen for gRPC on {self._address}: {error}.") from error
        return int(port)

    def _add_doors(self, servers: Iterable[grpc.aio.Server]) -> Health:
        doors = [
            build_prediction_door(self._service, self._gatherer, self._max_bytes),
            build_model_door(self._service),
            build_inference_door(self._service, self._gatherer),
        ]
        names = [door.name for door in doors]
        handlers = [grpc.method_handlers_generic_handler(door.name, door.make_handlers()) for door in doors]
        health = Health(self._service, names)
        for server in servers:
            server.add_generic_rpc_handlers(handlers)
            health_pb2_grpc.add_HealthServicer_to_server(health, server)
            _reflect([*names, "grpc.health.v1.Health"], server)
        return health


class GrpcThread(threading.Thread):
    """Runs the doors beside a worker of gunicorn: from when its models have loaded until it is to stop.

    Before, nobody listens: who asks then is answered by a worker that has started.

    Args:
        service: What serves.
        address: Where to listen.
        max_bytes: What a message may have, either way.
        threads: How many models run at the same time.
        is_wanted: Tells whether the worker goes on.
        grace_s: How long calls in flight may take once it does not.
    """

    def __init__(
        self,
        service: Service,
        address: str,
        max_bytes: int,
        *,
        threads: int = 1,
        is_wanted: Callable[[], bool],
        grace_s: float,
    ) -> None:
        super().__init__(name="bmp-grpc-door", daemon=True)
        self.grace_s = grace_s
        self.failed = False
        self._service = service
        self._address = address
        self._max_bytes = max_bytes
        self._threads = threads
        self._is_wanted = is_wanted

    def run(self) -> None:
        """Serves."""
        while self._is_wanted() and not self._service.is_started():
            time.sleep(_POLL_S)
        if not self._is_wanted():
            return
        server = GrpcServer(self._service, self._address, self._max_bytes, self._threads)
        try:
            server.start()
        except ConfigError as error:
            _log.critical("%s", error)
            self.failed = True
            os.kill(os.getpid(), signal.SIGTERM)  # half a server must not pass for a whole one
            return
        _log.info("Listening for gRPC at: %s", self._address)
        while self._is_wanted():
            time.sleep(_POLL_S)
        server.stop(self.grace_s)


def _options(max_bytes: int) -> list[tuple[str, Any]]:
    return [
        ("grpc.so_reuseport", 1),
        ("grpc.max_receive_message_length", max_bytes),
        ("grpc.max_send_message_length", max_bytes),
    ]


def _reflect(names: list[str], server: grpc.aio.Server) -> None:
    """Tells clients that ask what services there are, and what their messages look like."""
    pool = load_pool()
    for module in (health_pb2, reflection_pb2):
        pool.AddSerializedFile(module.DESCRIPTOR.serialized_pb)
    reflection.enable_server_reflection([*names, reflection.SERVICE_NAME], server, pool)
