"""Commands and programs to paste: the examples of a model, asked by curl, Python and grpcurl."""

import json
import shlex
from urllib.parse import urlsplit

from serving.codec.raw import JSON
from serving.documents.examples import Example

MAX_PASTED_BYTES = 2_000
"""A longer body is fetched from this server by whoever wants to send it."""
FILES = {"image/png": "picture.png", "image/jpeg": "picture.jpg", "audio/wav": "sound.wav", "text/plain": "text.txt"}
"""What a file may be called, by what it is."""


def is_short(example: Example) -> bool:
    """Tells whether a body can be shown as it is."""
    return len(example.dump()) <= MAX_PASTED_BYTES


def write_curl(example: Example, address: str, body_path: str) -> str:
    """Returns a command.

    Args:
        example: What is asked.
        address: Of the server.
        body_path: Where it has the body, in case that is long.
    """
    url, kind = shlex.quote(address + example.path), shlex.quote(f"Content-Type: {JSON}")
    if is_short(example):
        return f"curl {url} -H {kind} \\\n  -d {shlex.quote(example.dump().decode())}"
    return f"curl -s {shlex.quote(address + body_path)} |\n  curl {url} -H {kind} --data-binary @-"


def write_file_curl(path: str, media_type: str, address: str) -> str:
    """Returns a command that sends a file as it is; FILES has names for them."""
    kind = shlex.quote(f"Content-Type: {media_type}")
    return f"curl {shlex.quote(address + path)} -H {kind} --data-binary @{FILES[media_type]}"


def write_python(example: Example, address: str, body_path: str) -> str:
    """Returns a program; see `write_curl`."""
    body = f"requests.get({address + body_path!r}, timeout=10).json()"
    if is_short(example):
        body = repr(json.loads(example.dump()))
    return (
        f"import requests\n\nbody = {body}\n"
        f"answer = requests.post({address + example.path!r}, json=body, timeout=10)\n"
        "answer.raise_for_status()\nprint(answer.json())"
    )


def write_grpcurl(example: Example, address: str, body_path: str, port: int) -> str:
    """Returns a command that asks over gRPC; see `write_curl`.

    Args:
        example: Its path is that of a method.
        address: Of the server over HTTP.
        body_path: Where it has the body, in case that is long.
        port: Of its gRPC doors.
    """
    host = urlsplit(address).hostname or "localhost"
    target = shlex.quote(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
    if is_short(example):
        return f"grpcurl -plaintext -d {shlex.quote(example.dump().decode())} \\\n  {target} {example.path}"
    return f"curl -s {shlex.quote(address + body_path)} |\n  grpcurl -plaintext -d @ {target} {example.path}"
