"""grpc.health.v1: whether this server, each of its doors, and each model can answer."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import suppress
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from bmp.errors import NotFoundError, NotReadyError
from serving.service import Service

_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
_WATCH_S = 0.25


class Health(health_pb2_grpc.HealthServicer):
    """Says how the service is doing at the moment it is asked.

    What may be asked for is the server, whose name is empty, a door by the name of its service, or a model by its own.

    Args:
        service: What serves.
        doors: Names of services.
    """

    def __init__(self, service: Service, doors: Iterable[str]) -> None:
        self._service = service
        self._doors = ("", *doors)
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Says from now on that nothing can answer, and lets those go who watch."""
        self._stopping.set()

    async def Check(self, request: Any, context: grpc.aio.ServicerContext) -> Any:  # noqa: D102
        status = self._look(request.service)
        if status is None:
            names = ", ".join([*self._doors[1:], *self._service.names()])
            await context.abort(
                grpc.StatusCode.NOT_FOUND, f"Nothing is named '{request.service[:80]}'. There is {names}."
            )
        return health_pb2.HealthCheckResponse(status=status)

    async def List(self, request: Any, context: grpc.aio.ServicerContext) -> Any:  # noqa: D102
        names = [*self._doors, *self._service.names(), *self._service.failures()]
        statuses = {name: health_pb2.HealthCheckResponse(status=self._look(name)) for name in names}
        return health_pb2.HealthListResponse(statuses=statuses)

    async def Watch(self, request: Any, context: grpc.aio.ServicerContext) -> AsyncIterator[Any]:  # noqa: D102
        said = None
        is_last = False
        while not is_last:
            is_last = self._stopping.is_set()  # asked first: it may be set while an answer is sent
            status = self._look(request.service)
            status = _UNKNOWN if status is None else status
            if status != said:
                yield health_pb2.HealthCheckResponse(status=status)
            said = status
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), _WATCH_S)

    def _look(self, name: str) -> Any | None:
        """Returns how something is doing; None where nothing has this name."""
        if self._stopping.is_set():
            return _NOT_SERVING
        try:
            if name in self._doors:
                self._service.check_ready()
            else:
                self._service.get(name, wake=False)
        except NotFoundError:
            return None
        except NotReadyError:
            return _NOT_SERVING
        return _SERVING
