"""The gRPC doors as a server: threads, time, stopping, and several processes on one port."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc_doors
import numpy as np
import psutil
import pytest
from conftest import find_free_port, run_server
from numbered_models import eventually, publish

from bmp.errors import ConfigError
from bmp.registry import Registry
from bmp.signature import Arrays
from serving.app import create_app
from serving.engines.litert import LiteRTEngine
from serving.grpc import gather
from serving.grpc.messages import message_type
from serving.grpc.port import reserve_port, to_address
from serving.grpc.server import GrpcServer, GrpcThread
from serving.settings import Settings

MAX_BYTES = 2**20
THREADS = 2
ANSWER = 7.0
QUESTION = grpc_doors.make_infer("n", "", {"x": np.zeros((1, 2), np.float32)}, raw=True)
Code = grpc.StatusCode


def ask(channel: grpc.Channel, **options: Any) -> float:
    """What the model answers."""
    reply = channel.unary_unary(grpc_doors.INFER)(QUESTION, **options)
    return read_answer(reply)


def read_answer(reply: bytes) -> float:
    response = message_type("inference.ModelInferResponse").FromString(reply)
    (value,) = np.frombuffer(response.raw_output_contents[0], np.float32)
    return float(value)


@contextmanager
def connect(port: int) -> Iterator[grpc.Channel]:
    """A connection of one's own."""
    with grpc.insecure_channel(f"127.0.0.1:{port}", [("grpc.use_local_subchannel_pool", 1)]) as channel:
        yield channel


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    registry = Registry(tmp_path_factory.mktemp("grpc-server") / "registry")
    publish(registry, ANSWER)
    return registry


@pytest.fixture
def server(registry: Registry) -> Iterator[GrpcServer]:
    service = create_app(Settings(registry=registry.root, queue=1, reload=False)).service
    eventually(service.is_started)
    server = GrpcServer(service, "127.0.0.1:0", MAX_BYTES, THREADS)
    server.start()
    yield server
    server.stop(0)


@pytest.fixture
def channel(server: GrpcServer) -> Iterator[grpc.Channel]:
    with connect(server.port) as channel:
        yield channel


class Gate:
    """What every run of an engine has to pass; it counts those that came."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.runs = 0

    def wrap(self, run: Callable[..., Arrays]) -> Callable[..., Arrays]:
        def wait_and_run(engine: LiteRTEngine, inputs: Arrays) -> Arrays:
            self.runs += 1
            assert self.open.wait(20), "nobody opened the gate"
            return run(engine, inputs)

        return wait_and_run


@pytest.fixture
def gate(server: GrpcServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    gate = Gate()
    monkeypatch.setattr(LiteRTEngine, "run", gate.wrap(LiteRTEngine.run))
    monkeypatch.setattr(gather, "_QUICK_S", 0.0)  # on the event loop it would hold everything
    yield gate
    gate.open.set()


def begin(channel: grpc.Channel, gate: Gate) -> list[Any]:
    """Calls that hold all threads."""
    calls = []
    for number in range(THREADS):
        calls.append(channel.unary_unary(grpc_doors.INFER).future(QUESTION, wait_for_ready=True))
        eventually(lambda number=number: gate.runs == number + 1)
    return calls


def check_answers(calls: list[Any]) -> None:
    assert [read_answer(call.result()) for call in calls] == [ANSWER] * len(calls)


# === One process ===


def test_what_waits_is_dropped_when_its_time_is_over(channel: grpc.Channel, gate: Gate) -> None:
    first = begin(channel, gate)
    with pytest.raises(grpc.RpcError) as caught:
        ask(channel, timeout=0.2)
    assert caught.value.code() is Code.DEADLINE_EXCEEDED
    gate.open.set()
    check_answers(first)
    assert ask(channel) == ANSWER
    assert gate.runs == THREADS + 1


def test_what_waits_is_dropped_when_it_is_cancelled(channel: grpc.Channel, server: GrpcServer, gate: Gate) -> None:
    first = begin(channel, gate)
    second = channel.unary_unary(grpc_doors.INFER).future(QUESTION)
    with connect(server.port) as other:
        eventually(lambda: _is_refused(other))  # the queue, of one, is full
    second.cancel()
    time.sleep(0.1)  # the server learns it
    gate.open.set()
    check_answers(first)
    assert ask(channel) == ANSWER
    assert gate.runs == THREADS + 1


def _is_refused(channel: grpc.Channel) -> bool:
    with pytest.raises(grpc.RpcError) as caught:
        ask(channel, timeout=0.2)
    assert caught.value.code() in (Code.RESOURCE_EXHAUSTED, Code.DEADLINE_EXCEEDED)
    return caught.value.code() is Code.RESOURCE_EXHAUSTED


def test_too_many_are_refused_at_once(channel: grpc.Channel, gate: Gate) -> None:
    calls = begin(channel, gate)
    calls += [channel.unary_unary(grpc_doors.INFER).future(QUESTION) for _ in range(3)]
    eventually(lambda: sum(call.done() for call in calls) == 2)
    for refused in (call for call in calls if call.done()):
        assert refused.code() is Code.RESOURCE_EXHAUSTED and "waiting already" in refused.details()
        assert dict(refused.trailing_metadata()) == {"grpc-retry-pushback-ms": "1000"}
    gate.open.set()
    check_answers([call for call in calls if call.code() is Code.OK])


def test_calls_in_flight_are_answered_when_it_stops(channel: grpc.Channel, server: GrpcServer, gate: Gate) -> None:
    calls = begin(channel, gate)
    stopping = threading.Thread(target=server.stop, args=(20,))
    stopping.start()
    with connect(server.port) as late:
        eventually(lambda: _is_unavailable(late))
    gate.open.set()
    check_answers(calls)
    stopping.join(20)
    assert not stopping.is_alive()


def _is_unavailable(channel: grpc.Channel) -> bool:
    with pytest.raises(grpc.RpcError) as caught:
        ask(channel, timeout=0.2)
    return caught.value.code() is Code.UNAVAILABLE


def test_idle_streams_keep_nobody_waiting(channel: grpc.Channel) -> None:
    done = threading.Event()

    def say_nothing() -> Iterator[bytes]:
        yield QUESTION
        done.wait(20)

    streams = []
    for _ in range(40):  # one after the other: only one may wait
        stream = channel.stream_stream("/inference.GRPCInferenceService/ModelStreamInfer")(say_nothing())
        response = message_type("inference.ModelStreamInferResponse").FromString(next(stream))
        assert read_answer(response.infer_response.SerializeToString()) == ANSWER
        streams.append(stream)
    assert ask(channel, timeout=10) == ANSWER
    done.set()
    assert [list(stream) for stream in streams] == [[]] * 40


def test_a_health_watcher_learns_that_it_stops(channel: grpc.Channel, server: GrpcServer) -> None:
    watching = channel.unary_stream("/grpc.health.v1.Health/Watch")(b"")
    assert next(watching) == b"\x08\x01"
    threading.Thread(target=server.stop, args=(5,)).start()
    assert next(watching) == b"\x08\x02"


def test_nobody_listens_until_models_have_loaded(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    service = create_app(Settings(registry=registry.root, reload=False)).service
    started, wanted = threading.Event(), threading.Event()
    monkeypatch.setattr(service, "is_started", started.is_set)
    wanted.set()
    with reserve_port("127.0.0.1", 0) as held:
        thread = GrpcThread(service, to_address(held), MAX_BYTES, is_wanted=wanted.is_set, grace_s=1)
        thread.start()
        with connect(held.getsockname()[1]) as channel:
            eventually(lambda: _is_unavailable(channel))
            started.set()
            assert ask(channel, wait_for_ready=True, timeout=20) == ANSWER
        wanted.clear()
        thread.join(10)
        assert not thread.is_alive() and not thread.failed


# === The port ===


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
def test_several_take_the_connections_to_one_port(registry: Registry, host: str) -> None:
    service = create_app(Settings(registry=registry.root, reload=False)).service
    eventually(service.is_started)
    server = GrpcServer(service, f"{host}:0", MAX_BYTES)
    server.start()
    try:
        links = psutil.Process().net_connections("tcp")
        listening = [link for link in links if link.status == "LISTEN" and link.laddr.port == server.port]
        assert len(listening) > 1
        options = [("grpc.use_local_subchannel_pool", 1)]
        for _ in range(2 * len(listening)):
            with grpc.insecure_channel(f"{host}:{server.port}", options) as channel:
                assert ask(channel, timeout=20) == ANSWER
    finally:
        server.stop(0)


def test_a_port_that_others_keep_for_themselves_is_refused(registry: Registry) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        service = create_app(Settings(registry=registry.root, reload=False)).service
        with pytest.raises(ConfigError, match=f"Cannot listen for gRPC on {address}"):
            GrpcServer(service, address, MAX_BYTES).start()


def test_a_taken_port_is_refused() -> None:
    with reserve_port("127.0.0.1", 0) as held:
        port = held.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"Cannot listen for gRPC on 127\.0\.0\.1:{port}.*--grpc-port"):
            reserve_port("127.0.0.1", port)
        reserve_port("127.0.0.1", port, shared=True).close()


def test_an_address_of_ipv6_is_in_brackets() -> None:
    with reserve_port("::1", 0) as held:
        assert to_address(held) == f"[::1]:{held.getsockname()[1]}"


# === Real servers ===


def listeners(server: subprocess.Popen[bytes], port: int) -> set[int]:
    """Processes that listen on a port."""
    workers = psutil.Process(server.pid).children()
    links = [(worker.pid, link) for worker in workers for link in worker.net_connections("tcp")]
    return {pid for pid, link in links if link.status == "LISTEN" and link.laddr.port == port}


def test_workers_share_the_port_and_come_and_go(registry: Registry, tmp_path: Path) -> None:
    port = find_free_port()
    log = tmp_path / "server.log"
    with run_server(registry.root, log, "--workers", "2", "--grpc-port", str(port)) as server, connect(port) as channel:
        eventually(lambda: len(listeners(server.process, port)) == 2)
        before = listeners(server.process, port)
        assert ask(channel) == ANSWER
        taken = subprocess.run(
            [sys.executable, "-m", "bmp", "serve", "--registry", registry.root, "--grpc-port", str(port)],
            env={**os.environ, "BMP_PORT": str(find_free_port())},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert taken.returncode and f"bmp: Cannot listen for gRPC on 127.0.0.1:{port}" in taken.stderr
        assert "Traceback" not in taken.stderr
        server.process.send_signal(signal.SIGHUP)  # new workers come, old ones go
        cut_off = 0
        while listeners(server.process, port) & before or len(listeners(server.process, port)) < 2:
            try:
                assert ask(channel, wait_for_ready=True, timeout=20) == ANSWER
            except grpc.RpcError as error:
                assert error.code() == grpc.StatusCode.CANCELLED, error
                cut_off += 1
        assert cut_off <= len(before)  # what reaches a worker in the moment that it stops, see GrpcServer.stop
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(20) == 0
    assert "Traceback" not in log.read_text()


def test_they_run_alone_as_well(registry: Registry) -> None:
    port = find_free_port()
    environ = {**os.environ, "BMP_REGISTRY": str(registry.root), "BMP_GRPC_PORT": str(port)}
    command = [sys.executable, "-m", "serving.grpc"]
    process = subprocess.Popen(command, env=environ, stderr=subprocess.PIPE, text=True)
    try:
        with connect(port) as channel:
            assert ask(channel, wait_for_ready=True, timeout=60) == ANSWER
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0, process.stderr
    finally:
        process.kill()
        process.communicate()
    del environ["BMP_GRPC_PORT"]
    refused = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr == "bmp: BMP_GRPC_PORT is not set; expected the port to listen on, such as 8500.\n"
