"""Applications that do nothing, or nothing but the work itself: ceilings for what a server makes of a worker.

`app` reads the body and answers as many bytes as the 784-128-10 network does, always the same ones; `asgi_app` is the
same for gunicorn's own `asgi` worker. `bare_app` answers what the network says, checking nothing: simdjson, LiteRT,
orjson. Run them from the root of the repository (with `benchmarks` as working directory, `serving` would be
benchmarks/serving.py):

    gunicorn -k serving.worker.BufferedWorker benchmarks.raw_app:app
"""

import os
from collections.abc import Callable, Iterable
from typing import Any

ANSWER = b'{"prediction":[[%s]]}' % b",".join([b"0.0123456789"] * 10)
HEADERS = [("Content-Type", "application/json"), ("Content-Length", str(len(ANSWER))), ("Bmp-Model", "mnist_like/1")]


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Answers whatever is asked, `/ready` included."""
    environ["wsgi.input"].read()
    start_response("200 OK", HEADERS)
    return [ANSWER]


async def asgi_app(scope: dict[str, Any], receive: Callable[..., Any], send: Callable[..., Any]) -> None:
    """Answers whatever is asked."""
    if scope["type"] != "http":
        return
    while (await receive()).get("more_body"):
        continue
    headers = [(name.lower().encode(), value.encode()) for name, value in HEADERS]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": ANSWER})


def make_bare_app() -> Callable[..., Iterable[bytes]]:
    """Returns an application that runs the network of `PEER_MODEL`."""
    import numpy as np
    import orjson
    import simdjson
    from ai_edge_litert.interpreter import Interpreter

    interpreter, parser = Interpreter(os.environ["PEER_MODEL"], num_threads=1), simdjson.Parser()
    interpreter.allocate_tensors()
    (given,), (found,) = interpreter.get_input_details(), interpreter.get_output_details()
    width = given["shape"][1]

    def run(body: bytes) -> bytes:
        numbers = np.frombuffer(parser.parse(body)["x_test"].as_buffer(of_type="d"))
        interpreter.set_tensor(given["index"], numbers.astype(np.float32).reshape(1, width))
        interpreter.invoke()
        answer = {"prediction": interpreter.get_tensor(found["index"])}
        return orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)

    def bare_app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        body = environ["wsgi.input"].read()
        answer = run(body) if body else ANSWER  # `/ready` has none
        start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(answer)))])
        return [answer]

    return bare_app
