"""A WSGI application that does nothing: the ceiling for any application on the same gunicorn worker class.

It reads the body and answers as many bytes as the 784-128-10 network does, always the same ones. Run it from the
root of the repository (with `benchmarks` as working directory, `serving` would be benchmarks/serving.py):

    gunicorn -k serving.worker.BufferedWorker benchmarks.raw_app:app
"""

from collections.abc import Callable, Iterable
from typing import Any

ANSWER = b'{"prediction":[[%s]]}' % b",".join([b"0.0123456789"] * 10)
HEADERS = [("Content-Type", "application/json"), ("Content-Length", str(len(ANSWER))), ("Bmp-Model", "mnist_like/1")]


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Answers whatever is asked, `/ready` included."""
    environ["wsgi.input"].read()
    start_response("200 OK", HEADERS)
    return [ANSWER]
