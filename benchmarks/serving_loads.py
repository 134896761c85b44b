"""What the servers are asked, and how an answer is read: each is asked once, and checked, before it is timed."""

import json
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import orjson
import requests
from serving_models import Published
from serving_servers import HERE, Running

CONNECTIONS = 16
WARM_S = 1.0
TOLERANCE = 1e-4
"""How far an answer may be from LiteRT's: photographs are decoded and scaled on the way, and JSON has few digits."""
GRPC_METHOD = "/inference.GRPCInferenceService/ModelInfer"
HEADER_LENGTH = "Inference-Header-Content-Length"


@dataclass(frozen=True)
class Question:
    """A request as it travels.

    Args:
        body: Of it.
        content_type: Of the body.
        headers: Beside that.
    """

    body: bytes
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Load:
    """A way to ask, again and again.

    Args:
        path: Of the request.
        put: Writes the question about so many examples of a network.
        read: Returns the answer `(B, classes)`; None where there is none to check.
        examples: In a request.
        connections: That ask at the same time, each waiting for its answer.
    """

    path: str
    put: Callable[[Published, int], Question]
    read: Callable[[requests.Response], np.ndarray] | None
    examples: int = 1
    connections: int = CONNECTIONS


def _dump(content: object) -> bytes:
    """JSON with as few digits as tell a float32 from its neighbours."""
    return orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)


def _sole(network: Published, count: int) -> tuple[str, np.ndarray]:
    ((name, array),) = network.inputs.items()
    return name, np.ascontiguousarray(array[:count], np.float32)


def put_predict(network: Published, count: int) -> Question:
    return Question(_dump({"x_test": _sole(network, count)[1]}))


def put_v2(network: Published, count: int) -> Question:
    name, array = _sole(network, count)
    tensor = {"name": name, "shape": array.shape, "datatype": "FP32", "data": array.ravel()}
    return Question(_dump({"inputs": [tensor]}))


def put_v2_binary(network: Published, count: int) -> Question:
    """Numbers as bytes, both ways."""
    name, array = _sole(network, count)
    size = {"binary_data_size": array.nbytes}
    tensor = {"name": name, "shape": array.shape, "datatype": "FP32", "parameters": size}
    head = _dump({"inputs": [tensor], "parameters": {"binary_data_output": True}})
    return Question(head + array.tobytes(), "application/octet-stream", {HEADER_LENGTH: str(len(head))})


def put_jpeg(network: Published, _: int) -> Question:
    return Question(network.raw["photo"][0], "image/jpeg")


def read_predict(reply: requests.Response) -> np.ndarray:
    return np.array(reply.json()["prediction"])


def read_v2(reply: requests.Response) -> np.ndarray:
    (output,) = reply.json()["outputs"]
    return np.reshape(output["data"], output["shape"])


def read_v2_binary(reply: requests.Response) -> np.ndarray:
    length = int(reply.headers[HEADER_LENGTH])
    (output,) = json.loads(reply.content[:length])["outputs"]
    return np.frombuffer(reply.content[length:], "<f4").reshape(output["shape"])


V2_PATH = "/v2/models/dense/infer"
LOADS = {
    "json1": Load("/predict", put_predict, read_predict),
    "json1, v2": Load(V2_PATH, put_v2, read_v2),
    "json32": Load("/predict", put_predict, read_predict, examples=32),
    "binary32": Load(V2_PATH, put_v2_binary, read_v2_binary, examples=32),
    "no-op": Load("/predict", put_predict, None),
    "jpeg": Load("/predict", put_jpeg, read_predict),
    "pixels": Load("/predict", put_predict, read_predict),
    "64 connections": Load("/predict", put_predict, read_predict, connections=64),
    "1 connection": Load("/predict", put_predict, read_predict, connections=1),
}


def answer_by_litert(network: Published, count: int) -> np.ndarray:
    """Returns what the file answers when it is run by nobody but LiteRT."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter, (_, array) = Interpreter(str(network.litert_file)), _sole(network, count)
    (wanted,), (given,) = interpreter.get_input_details(), interpreter.get_output_details()
    interpreter.resize_tensor_input(wanted["index"], array.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(wanted["index"], array)
    interpreter.invoke()
    return interpreter.get_tensor(given["index"])


def check(server: Running, load: Load, network: Published, expected: np.ndarray) -> int:
    """Asks once; returns the bytes of the request's body.

    Args:
        server: To be asked.
        load: How.
        network: That it serves.
        expected: Of `answer_by_litert`.
    """
    question = load.put(network, load.examples)
    headers = {"Content-Type": question.content_type, **question.headers}
    reply = requests.post(server.url + load.path, data=question.body, headers=headers, timeout=30)
    if not reply.ok:
        sys.exit(f"{server.url}{load.path} answers with {reply.status_code}: {reply.text[:500]}")
    if load.read is not None:
        check_close(load.read(reply), expected)
    return len(question.body)


def check_close(answer: np.ndarray, expected: np.ndarray) -> None:
    if answer.shape != expected.shape or np.abs(answer - expected).max() > TOLERANCE:
        sys.exit(f"The server answers\n{answer}\nand LiteRT\n{expected}\nThere is nothing to compare.")


# === The clients ===


def run_wrk(server: Running, load: Load, network: Published, seconds: float, directory: Path) -> dict[str, float]:
    """Asks for so long; returns requests/s and latencies in milliseconds."""
    script = directory / "post.lua"
    script.write_text(_write_lua(load.put(network, load.examples), directory / "body"))
    command = ["wrk", "-t1", f"-c{load.connections}", f"-d{seconds:g}s", "--timeout", "10s", "--latency"]
    url = server.url + load.path
    output = subprocess.run([*command, "-s", str(script), url], check=True, capture_output=True, text=True).stdout
    if "Non-2xx" in output or "Socket errors" in output:
        sys.exit(f"Not every request to {url} was answered well:\n{output}")
    rate, *times = (_find(label, output) for label in ("Requests/sec:", "50%", "99%"))
    return {"requests_per_s": float(rate), "p50_ms": _to_ms(times[0]), "p99_ms": _to_ms(times[1])}


def _write_lua(question: Question, body: Path) -> str:
    body.write_bytes(question.body)
    lines = ['wrk.method = "POST"', f'wrk.body = io.open("{body}", "rb"):read("*a")']
    headers = {"Content-Type": question.content_type, **question.headers}
    return "\n".join([*lines, *(f'wrk.headers["{name}"] = "{value}"' for name, value in headers.items())])


def _find(label: str, output: str) -> str:
    found = re.search(rf"^ *{label} +([\d.]+\w*) *$", output, re.MULTILINE)
    return found[1] if found else sys.exit(f"wrk has nothing to say about {label}, so nothing was answered:\n{output}")


def _to_ms(text: str) -> float:
    number, unit = re.fullmatch(r"([\d.]+)(us|ms|s|m)", text).groups()
    return float(number) * {"us": 1e-3, "ms": 1, "s": 1e3, "m": 6e4}[unit]


def run_grpc(
    server: Running, network: Published, expected: np.ndarray, seconds: float, directory: Path
) -> dict[str, float]:
    """The same by gRPC: h2load sends the message that our client has written, after that has checked the answer."""
    name, array = _sole(network, 1)
    np.save(directory / "example.npy", array)
    np.save(directory / "expected.npy", expected)
    client = [sys.executable, str(HERE / "load" / "grpc_client.py"), server.grpc_target, str(directory)]
    asked = subprocess.run(
        [*client, "--model", network.version.name, "--input", name], stdout=subprocess.PIPE, text=True
    )
    if asked.returncode:
        sys.exit(f"The client of gRPC ended with {asked.returncode}.")
    _run_h2load(server, WARM_S, directory, int(asked.stdout))
    return _run_h2load(server, seconds, directory, int(asked.stdout))


def _run_h2load(server: Running, seconds: float, directory: Path, answer_bytes: int) -> dict[str, float]:
    log = directory / "h2load.log"
    log.unlink(missing_ok=True)
    command = ["h2load", "-t1", f"-c{CONNECTIONS}", "-m1", f"--duration={seconds:g}s", f"--log-file={log}"]
    message = ["-d", str(directory / "request.bin"), "-H", "content-type: application/grpc", "-H", "te: trailers"]
    url = f"http://{server.grpc_target}{GRPC_METHOD}"
    output = subprocess.run([*command, *message, url], check=True, capture_output=True, text=True).stdout
    times_ms = np.array([int(line.split("\t")[2]) / 1e3 for line in log.read_text().splitlines()])
    data_bytes = int(re.search(r"\((\d+)\) data$", output, re.MULTILINE)[1])
    if data_bytes < 0.9 * answer_bytes * len(times_ms):  # an error of gRPC is a 200 without data
        sys.exit(f"Not every request to {url} was answered well:\n{output}")
    p50_ms, p99_ms = np.percentile(times_ms, (50, 99))
    return {"requests_per_s": len(times_ms) / seconds, "p50_ms": float(p50_ms), "p99_ms": float(p99_ms)}
