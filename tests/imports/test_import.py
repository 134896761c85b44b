"""The whole import, sandbox and all: what is published, and what never is."""

import io
import json
import os

import numpy as np
import pytest
import tf_keras as keras
from rich.console import Console

from bmp.artifact.formats import FORMATS
from bmp.artifact.litert import write_litert
from bmp.artifact.manifest import check_files
from bmp.artifact.samples import read_samples
from bmp.errors import BmpError, DataError, UnsafeError
from bmp.imports.confine import find_walls
from bmp.imports.flow import import_model
from bmp.imports.original import Options
from bmp.registry import Registry
from bmp.signature import Signature, TensorSpec

pytestmark = pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")


def run(path, registry, **options):
    return import_model(path, "net", registry=registry, console=Console(file=io.StringIO()), **options)


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """A network of Keras 2 in its file, examples with targets, and an empty registry."""
    directory = tmp_path_factory.mktemp("given")
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((6,), name="x"), keras.layers.Dense(5, "relu"), keras.layers.Dense(3, "softmax", name="kind")]
    )
    model.save(directory / "net.keras")
    inputs = np.random.default_rng(0).normal(size=(40, 6))
    targets = np.asarray(model(inputs)).argmax(axis=1)
    np.savez(directory / "examples.npz", x=inputs, targets=targets)
    np.savez(directory / "wrong.npz", y=inputs)
    signature = Signature((TensorSpec("x", "float32", (6,)),), (TensorSpec("kind", "float32", (3,)),))
    write_litert(model, signature, directory / "net.tflite")
    return directory


@pytest.fixture(scope="module")
def imported(given):
    """The network, published, and what was said."""
    output = io.StringIO()
    version = import_model(
        given / "net.keras",
        "net",
        samples=given / "examples.npz",
        labels=("a", "b", "c"),
        registry=Registry(given / "registry"),
        console=Console(file=output, width=80),
    )
    return version, output.getvalue()


def test_a_version_is_whole_and_says_where_it_comes_from(imported, given):
    version, _ = imported
    manifest = version.read_manifest()
    check_files(version.path, manifest)
    assert {"saved_model.pb", "model.h5", "model.tflite", "assets.extra/tf_serving_warmup_requests"} < set(
        manifest.files
    )
    found = manifest.lineage.imported
    assert (found.format, found.file, found.trusted) == ("keras", "net.keras", False)
    assert found.confined == find_walls().are_whole
    assert found.size_bytes == (given / "net.keras").stat().st_size
    assert set(found.differences) == {"saved_model", "h5", "litert"} and found.left_out == {}
    assert max(found.differences.values()) <= 1e-5
    assert found.samples == "40 examples of examples.npz"


def test_what_is_measured_is_measured_on_the_examples(imported):
    measured = imported[0].read_manifest().variant("float32").measured
    assert measured.validation_score is None and measured.test_score == measured.test_metrics["accuracy"] == 1.0
    assert measured.size_bytes == (imported[0].path / "model.tflite").stat().st_size


def test_every_format_answers_as_the_samples_say(imported):
    version, _ = imported
    signature, samples = version.read_manifest().parsed_signature(), read_samples(version.path)
    assert len(samples.targets) == 16
    for form in ("saved_model", "h5", "litert"):
        found = FORMATS[form].load(version.path / FORMATS[form].path, signature).run(samples.inputs)
        np.testing.assert_allclose(found["kind"], samples.outputs["kind"], atol=1e-5)


def test_a_person_is_told_all_of_it(imported):
    version, said = imported
    lines = dict(line.split(None, 1) for line in said.splitlines())
    assert lines["read"].startswith("net.keras: keras, run by tf_keras 2.")
    assert lines["inputs"] == "x float32 (B, 6)"
    assert lines["litert"].endswith("served") and lines["serve"] == "it     bmp serve --model net"
    assert lines["published"].endswith(f"{version.path}  (version 1)")
    assert lines["samples"].startswith("accuracy 1.0000")


def test_a_server_loads_it(imported):
    from serving.models.model import load_model

    version, _ = imported
    model = load_model(version)
    samples = read_samples(version.path)
    np.testing.assert_allclose(model.predict(samples.inputs)["kind"], samples.outputs["kind"], atol=1e-6)
    json.dumps(model.describe()["metrics"])


def test_a_tflite_file_becomes_a_version_by_itself_and_the_next_of_its_name(imported, given):
    version = run(given / "net.tflite", Registry(given / "registry"))
    manifest = version.read_manifest()
    check_files(version.path, manifest)
    assert version.number == 2 and set(manifest.files) == {"model.tflite", "bmp/samples.npz"}
    assert (version.path / "model.tflite").read_bytes() == (given / "net.tflite").read_bytes()
    assert set(manifest.lineage.imported.left_out) == {"saved_model", "h5"}
    assert manifest.variant("float32").measured.test_score is None and read_samples(version.path).targets is None


@pytest.fixture
def own(tmp_path):
    """A registry to which nothing may be published."""
    registry = Registry(tmp_path / "registry")
    yield registry
    assert registry.models() == []


def make_lambda(path):
    """A network that writes a file beside itself when it is called."""
    mark = str(path.with_name("mark"))
    layer = keras.layers.Lambda(lambda x, mark=mark: (open(mark, "w").close(), x)[1])  # noqa: PTH123
    keras.Sequential([keras.Input((6,), name="x"), layer]).save(path)
    os.unlink(mark)  # noqa: PTH108 - keras called it
    return path


def test_code_in_a_file_is_refused_and_does_not_run(own, tmp_path):
    path = make_lambda(tmp_path / "net.h5")
    with pytest.raises(UnsafeError, match=r"net\.h5: .*Lambda") as caught:
        run(path, own)
    assert "--trust" in str(caught.value) and str(tmp_path / "registry") not in str(caught.value)
    assert not (tmp_path / "mark").exists()


@pytest.mark.skipif(not find_walls().are_whole, reason="this kernel has no Landlock or no seccomp")
def test_code_that_is_trusted_stays_in_the_sandbox(own, tmp_path):
    path = make_lambda(tmp_path / "net.h5")
    with pytest.raises(BmpError, match=r"net\.h5: It cannot be read: PermissionError"):
        run(path, own, trust=True)
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize(
    ("samples", "labels", "options", "error"),
    [
        ("wrong.npz", (), None, BmpError),
        ("examples.npz", ("a", "b"), None, DataError),
        ("examples.npz", (), Options(objective="regression"), DataError),
        ("nothing.npz", (), None, BmpError),
    ],
)
def test_nothing_is_published_where_examples_do_not_fit(given, own, samples, labels, options, error):
    with pytest.raises(error) as caught:
        run(given / "net.tflite", own, samples=given / samples, labels=labels, options=options)
    assert "bmp-import-" not in str(caught.value)
