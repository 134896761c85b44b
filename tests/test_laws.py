"""What may be imported where, each looked at in a fresh process."""

import json
import os
import subprocess
import sys

import pytest

LIGHT = [
    "bmp",
    "bmp.errors",
    "bmp.catalog",
    "bmp.signature",
    "bmp.transforms",
    "bmp.objectives",
    "bmp.data",
    "bmp.data.records",
    "bmp.models",
    "bmp.config",
    "bmp.names",
    "bmp.durations",
    "bmp.storage",
    "bmp.distribution",
    "bmp.distribution.launch",
    "bmp.distribution.manifests",
    "bmp.distribution.heartbeat",
    "bmp.training",
    "bmp.training.checkpoint",
    "bmp.runs",
    "bmp.plan",
    "bmp.artifact.manifest",
    "bmp.artifact.litert",
    "bmp.artifact.guard",
    "bmp.artifact.samples",
    "bmp.compression.gate",
    "bmp.compression.search.front",
    "bmp.compression.report",
    "bmp.compression.techniques",
    "bmp.compression.search.contest",
    "bmp.registry",
    "bmp.imports.flow",
    "bmp.imports.sources",
    "bmp.cli",
    "serving.app",
    "serving.service",
    "serving.models.model",
    "serving.engines",
    "serving.codec.json",
    "serving.codec.rows",
    "serving.codec.raw",
    "serving.codec.query",
    "serving.settings",
    "serving.worker",
    "serving.grpc.server",
]


def run_python(script: str, *args: str, cwd=None) -> subprocess.CompletedProcess[str]:
    environ = {key: value for key, value in os.environ.items() if key != "TF_USE_LEGACY_KERAS"}
    return subprocess.run(
        [sys.executable, "-c", script, *args], env=environ, cwd=cwd, capture_output=True, text=True, timeout=120
    )


LOOK = """
import importlib, json, os, sys, threading
import click, flask, numpy, pydantic, rich.console, yaml  # which take longest; none of bmp is there yet

def look(module):
    importlib.import_module(module)
    loaded = {name.partition(".")[0] for name in sys.modules}
    heavy = sorted(loaded & {"tensorflow", "keras", "tf_keras", "tensorflow_model_optimization"})
    print(json.dumps([module, heavy, threading.active_count(), os.listdir()]), flush=True)

for module in sys.argv[1:]:
    if os.fork() == 0:
        look(module)
        os._exit(0)
    os.wait()
"""


@pytest.fixture(scope="module")
def looked(tmp_path_factory):
    """What each light module has loaded, how many threads there are then, and files; each in a fork of its own."""
    done = run_python(LOOK, *LIGHT, cwd=tmp_path_factory.mktemp("looked"))
    return {module: found for module, *found in map(json.loads, done.stdout.splitlines())}, done.stderr


@pytest.mark.parametrize("module", LIGHT)
def test_a_light_module_loads_no_tensorflow_and_starts_nothing(looked, module):
    found, errors = looked
    assert found.get(module) == [[], 1, []], errors


WALK = """
import pkgutil, sys
import tensorflow  # before bmp: nobody has touched tf.keras yet
import bmp
names = [module.name for module in pkgutil.walk_packages(bmp.__path__, "bmp.") if module.name != "bmp.__main__"]
for name in names:
    __import__(name)
import tf_keras
assert tensorflow.keras.Model is tf_keras.Model
print(len(names))
loaded = {name.partition(".")[0] for name in sys.modules}
print(*sorted(loaded & {"flask", "werkzeug", "gunicorn", "grpc", "serving"}))
"""


def test_no_room_of_the_library_knows_a_server_and_all_of_them_use_keras_2():
    done = run_python(WALK)
    assert done.returncode == 0, done.stderr
    count, servers = done.stdout.splitlines()
    assert int(count) > 30
    assert servers == ""


def test_importing_bmp_selects_keras_2():
    done = run_python("import os, bmp; print(os.environ['TF_USE_LEGACY_KERAS'])")
    assert (done.returncode, done.stdout) == (0, "1\n")


def test_importing_bmp_too_late_says_so():
    done = run_python("import tensorflow as tf; tf.keras.Model; import bmp")
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("ImportError: bmp needs Keras 2, but this process already uses Keras 3.")
    assert last.endswith("Import bmp before tensorflow, or set TF_USE_LEGACY_KERAS=1 before starting Python.")
