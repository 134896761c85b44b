"""bmp doctor: is everything here that bmp needs? One line a check."""

import io
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from bmp.errors import BmpError

_PROJECT = Path(__file__).parent.parent
_PIN = re.compile(r"^([A-Za-z0-9_.-]+)(?:\[[\w,]+\])?==([^\s;#]+)")


@dataclass(frozen=True)
class Check:
    """The outcome of one check."""

    name: str
    passed: bool
    detail: str


def run_checks(registry: str) -> Iterator[Check]:
    """Yields the outcome of each check as soon as it is known; the last one takes about ten seconds.

    Args:
        registry: Directory that models will be published to.
    """
    checks: tuple[tuple[str, Callable[[], str]], ...] = (
        ("packages", _check_packages),
        ("keras", _check_keras),
        ("devices", _check_devices),
        ("cores", lambda: f"{len(os.sched_getaffinity(0))} usable"),
        ("write rights", lambda: _check_writable(Path(registry))),
        ("free port", _check_port),
        ("train, export, serve", _check_smoke),
    )
    for name, check in checks:
        try:
            yield Check(name, True, check())
        except (BmpError, OSError, ImportError) as error:
            yield Check(name, False, " ".join(str(error).split()))


def read_pins() -> dict[str, str]:
    """Returns the pinned version of each package this installation should have.

    In a checkout those of requirements.txt; otherwise those bmp was installed with, which is serving alone.
    """
    files = [_PROJECT / "requirements-serving.txt", _PROJECT / "requirements.txt"]
    if all(file.is_file() for file in files):
        lines = [line for file in files for line in file.read_text(encoding="utf-8").splitlines()]
    else:
        lines = metadata.requires("bmp") or []
    return {match[1]: match[2] for match in map(_PIN.match, lines) if match}


def _check_packages() -> str:
    wrong = []
    pins = read_pins()
    for package, pinned in pins.items():
        try:
            installed = metadata.version(package)
        except metadata.PackageNotFoundError:
            installed = "missing"
        if installed != pinned:
            wrong.append(f"{package} is {installed}, pinned {pinned}")
    if wrong:
        raise BmpError("; ".join(wrong) + ". Run 'pip install -r requirements.txt'.")
    return f"{len(pins)} as pinned"


def _check_keras() -> str:
    import tensorflow as tf
    import tf_keras

    if tf.keras.Model is not tf_keras.Model:
        raise BmpError("tf.keras is not tf_keras; set TF_USE_LEGACY_KERAS=1 before Python starts.")
    return f"tf_keras {tf_keras.__version__} is tf.keras, on TensorFlow {tf.__version__}"


def _check_devices() -> str:
    import tensorflow as tf

    kinds = [device.device_type for device in tf.config.list_physical_devices()]
    return ", ".join(f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds))


def _check_writable(registry: Path) -> str:
    """Checks the registry, or where it would be made, without making it."""
    existing = next(path for path in (registry.absolute(), *registry.absolute().parents) if path.exists())
    with tempfile.TemporaryFile(dir=existing):
        return f"{registry.absolute()}"


def _check_port() -> str:
    from bmp.smoke import find_free_port

    return f"127.0.0.1:{find_free_port()}"


def _check_smoke() -> str:
    from rich.console import Console

    from bmp.config import load_recipe
    from bmp.registry import Registry
    from bmp.run import run
    from bmp.smoke import ask_server

    start = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="bmp-doctor-") as directory:
        overrides = ("train.epochs=3", "compress.chains=[]")
        recipe = load_recipe("digits", [*overrides, f"publish.root={directory}/registry"])
        finished = run(recipe, run_dir=f"{directory}/run", console=Console(file=io.StringIO()))
        answer = ask_server(Registry(recipe.publish.root), recipe.publish.name)
    assert finished is not None, "a process by itself is the chief"
    accuracy = finished.manifest.variants[0].measured.test_score
    seconds = time.perf_counter() - start
    return f"accuracy {accuracy:.2f} after 3 epochs; {answer.model} answered {answer.said} ({seconds:.0f} s)"
