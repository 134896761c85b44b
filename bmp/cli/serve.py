"""bmp serve: published models over HTTP and gRPC."""

import importlib.util
import os
import socket
import sys
from pathlib import Path

import click

from bmp.cli.options import print_line, registry_option
from bmp.errors import ConfigError


@click.command("serve")
@click.option("--model", "models", multiple=True, metavar="NAME", help="Serve only this model; may be repeated.  [all]")
@registry_option
@click.option("--host", default="127.0.0.1", envvar="BMP_HOST", show_default=True, help="Address to listen on.")
@click.option("--port", default=5000, envvar="BMP_PORT", show_default=True, type=click.IntRange(1, 65535))
@click.option(
    "--grpc-port", envvar="BMP_GRPC_PORT", type=click.IntRange(1, 65535), help="Serve gRPC as well, on this port."
)
@click.option("--workers", envvar="BMP_WORKERS", type=click.IntRange(1), help="Processes.  [one a core]")
@click.option(
    "--threads",
    default=1,
    envvar="BMP_THREADS",
    show_default=True,
    type=click.IntRange(1),
    help="Requests a process runs at a time.",
)
@click.option(
    "--slo-p99-ms",
    envvar="BMP_SLO_P99_MS",
    type=click.FloatRange(0, min_open=True),
    help="What 99 of 100 answers may take; bounds how many examples run together.",
)
@click.option(
    "--memory-mb",
    envvar="BMP_MEMORY_MB",
    type=click.IntRange(1),
    help="MiB of models in a process; the least recently used are unloaded beyond that.  [no limit]",
)
@click.option(
    "--access-log",
    envvar="BMP_ACCESS_LOG",
    metavar="FILE",
    help="Write a line for each request over HTTP to this file; - is the standard output.  [none]",
)
def serve_command(
    models: tuple[str, ...], registry: str, host: str, port: int, **options: int | float | str | None
) -> None:
    """Serve published models over HTTP, and over gRPC with --grpc-port.

    Each at the version its alias "production" names, or else the newest. POST /predict answers; GET /docs is a page
    that shows how to ask each model; GET /models, /ready and /health tell about the server. What is published while it
    runs is served as well, the first model of an empty registry too. Every option is also an environment variable,
    BMP_PORT for example, and README.md lists more of them.
    """
    models = models or tuple(name for name in os.environ.get("BMP_MODELS", "").split(",") if name)
    greeting = _look_for(models, registry)
    _check_port(host, port)
    settings = {"registry": registry, "host": host, "port": port, "models": ",".join(models) or None, **options}
    given = {f"BMP_{name.upper()}": str(value) for name, value in settings.items() if value is not None}
    print_line(f"bmp: {greeting} on http://{host}:{port} (POST /predict); stop with Ctrl-C")
    sys.stdout.flush()
    # In place of this process: signals and the exit code are gunicorn's own.
    os.execve(sys.executable, [sys.executable, "-m", "gunicorn", "-c", _gunicorn_conf()], os.environ | given)


def _look_for(models: tuple[str, ...], root: str) -> str:
    """Returns what there is to serve, in words.

    Raises:
        NotFoundError: A model that was named is not there, though others are. Of an empty registry it may be the first.
    """
    from bmp.registry import Registry

    registry = Registry(root)
    names = registry.models()
    if not names:
        return f"the registry '{root}' holds no model yet; waiting for {' and '.join(models) or 'the first'}"
    versions = [registry.resolve(name) for name in models or names]
    return "serving " + ", ".join(f"{version.name}/{version.number}" for version in versions)


def _check_port(host: str, port: int) -> None:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ConfigError(
                f"Cannot listen on {host}:{port}: {error.strerror or error}. Choose another with --port.",
                expected="a free port",
                received=str(port),
            ) from error


def _gunicorn_conf() -> str:
    """Finds the server's configuration without importing it: the library does not know its server."""
    spec = importlib.util.find_spec("serving")
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError("The package 'serving' is not installed beside bmp; install the whole project.")
    return str(Path(spec.submodule_search_locations[0]) / "gunicorn.conf.py")
