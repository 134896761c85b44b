"""One call of gRPC: read, answered within its deadline, or refused with gRPC's code."""

import logging
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from inspect import iscoroutine
from time import perf_counter
from typing import Any, NamedTuple

import grpc

from bmp.errors import (
    BmpError,
    DeadlineError,
    InferenceError,
    NotFoundError,
    NotReadyError,
    OverloadError,
    RequestError,
    SignatureError,
)
from serving import deadline
from serving.grpc.messages import load_pool, message_type, parse
from serving.metrics import meters
from serving.models.control import ControlError
from serving.models.model import LoadedModel

_log = logging.getLogger(__name__)
_CODES: dict[type[BmpError], grpc.StatusCode] = {
    RequestError: grpc.StatusCode.INVALID_ARGUMENT,
    SignatureError: grpc.StatusCode.INVALID_ARGUMENT,
    InferenceError: grpc.StatusCode.INVALID_ARGUMENT,  # a served model has answered its own samples: it is the inputs
    NotFoundError: grpc.StatusCode.NOT_FOUND,
    NotReadyError: grpc.StatusCode.UNAVAILABLE,
    OverloadError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    DeadlineError: grpc.StatusCode.DEADLINE_EXCEEDED,
    ControlError: grpc.StatusCode.FAILED_PRECONDITION,
}
_COME_AGAIN = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED)
_RETRY_AFTER = (("grpc-retry-pushback-ms", "1000"),)
_UNBOUNDED = nullcontext()
_FOR_EVER_S = 1e8  # gRPC says about so much where a call has no deadline


@dataclass
class Call:
    """A call while it is answered.

    Args:
        metadata: What came with it, as HTTP's headers do; names are in small letters.
        model: Which it turned out to be for.
        quality: Which variant of the model was asked for, if any was.
    """

    metadata: Iterable[tuple[str, Any]]
    model: LoadedModel | None = None
    quality: str | None = None

    def use(self, model: LoadedModel) -> LoadedModel:
        """Returns the model, and remembers that the call is for it."""
        self.model = model
        return model

    def explain_variant(self) -> tuple[tuple[str, str], ...]:
        """Returns which variant answers, as metadata, for whoever asked for a quality."""
        if self.quality is None or self.model is None:
            return ()
        return (("bmp-model", f"{self.model.name}/{self.model.version}/{self.model.variant.name}"),)


Reply = Callable[[Any, Call], Any]
"""Answers a message with a message, at once or as a coroutine, or raises a BmpError."""


@dataclass(frozen=True)
class Door:
    """A service of gRPC.

    Args:
        name: Of the service.
        label: What its calls are counted under.
        answers: What answers, by the name of the method.
        refuse: Makes a message of a stream that says why one of the client's is refused.
    """

    name: str
    label: str
    answers: Mapping[str, Reply]
    refuse: Callable[[str], Any] | None = None

    def make_handlers(self) -> dict[str, grpc.RpcMethodHandler]:
        """Returns what gRPC calls on an event loop, by the name of the method."""
        described = load_pool().FindServiceByName(self.name).methods_by_name
        return {name: _Method(self, described[name]).make_handler() for name in self.answers}


class _Problem(NamedTuple):
    status: grpc.StatusCode
    code: str
    message: str


class _Method:
    """A method of a door; messages come and go as bytes, so that what cannot be read is explained here."""

    def __init__(self, door: Door, described: Any) -> None:
        self._door = door
        self._answer = door.answers[described.name]
        self._kind = message_type(described.input_type.full_name)
        self._path = f"/{door.name}/{described.name}"
        self._is_stream = described.client_streaming

    def make_handler(self) -> grpc.RpcMethodHandler:
        if self._is_stream:
            return grpc.stream_stream_rpc_method_handler(self._respond_to_each)
        return grpc.unary_unary_rpc_method_handler(self._respond)

    async def _respond(self, data: bytes, context: grpc.aio.ServicerContext) -> bytes:
        call = Call(context.invocation_metadata())
        result = await self._run(data, call, context)
        if isinstance(result, bytes):
            if call.quality is not None:
                context.set_trailing_metadata(call.explain_variant())
            return result
        if result.status in _COME_AGAIN:
            context.set_trailing_metadata(_RETRY_AFTER)
        context.set_code(result.status)
        context.set_details(result.message)
        return b""

    async def _respond_to_each(
        self, stream: AsyncIterator[bytes], context: grpc.aio.ServicerContext
    ) -> AsyncIterator[bytes]:
        assert self._door.refuse is not None, "a door with streams refuses their messages one by one"
        async for data in stream:
            result = await self._run(data, Call(context.invocation_metadata()), context)
            yield result if isinstance(result, bytes) else self._door.refuse(result.message).SerializeToString()

    async def _run(self, data: bytes, call: Call, context: grpc.aio.ServicerContext) -> bytes | _Problem:
        """Answers a message, and counts it."""
        start, outcome = perf_counter(), meters.OK
        result: bytes | _Problem
        try:
            with _within(context):
                deadline.check()
                answer = self._answer(parse(self._kind, data), call)
                result = (await answer if iscoroutine(answer) else answer).SerializeToString()
        except Exception as error:
            result = _explain(error, self._path)
            outcome = result.code
        meters.record(self._door.label, outcome, perf_counter() - start, call.model)
        return result


def _within(context: grpc.aio.ServicerContext) -> AbstractContextManager[None]:
    """Bounds what is done for a call by its deadline."""
    timeout_s = context.time_remaining()
    if timeout_s is None or timeout_s > _FOR_EVER_S:
        return _UNBOUNDED
    return deadline.within(timeout_s)


def _explain(error: Exception, path: str) -> _Problem:
    """Returns what an error means for whoever called; the log is told of those that are not the client's."""
    if not isinstance(error, BmpError):
        _log.error("%s failed", path, exc_info=error)
        message = "The server failed to answer; the reason is in its log."
        return _Problem(grpc.StatusCode.INTERNAL, "internal_error", message)
    found = (status for kind, status in _CODES.items() if isinstance(error, kind))
    status = next(found, grpc.StatusCode.INTERNAL)
    if status is grpc.StatusCode.INTERNAL or isinstance(error, InferenceError):
        _log.error("%s: %s", path, error)
    return _Problem(status, error.code, error.message)
