"""The claims of a version: all of them hold, until somebody touches a file or a figure."""

import io
import json
import shutil

import pytest
from rich.console import Console

from bmp.artifact.manifest import MANIFEST_FILE
from bmp.claims import verify
from bmp.compress import compress
from bmp.errors import ArtifactError, DataError, NotFoundError
from bmp.registry import Registry


@pytest.fixture(scope="module")
def compressed(tiny_run, tmp_path_factory):
    """The registry of a version that a compression has published, as version 2."""
    directory = tmp_path_factory.mktemp("claims")
    shutil.copytree(tiny_run.version.path.parent.parent, directory / "registry")
    done = compress(
        "tiny",
        ["compress.chains=[[int8], [{cluster: {clusters: 16}}, int8]]"],
        registry=str(directory / "registry"),
        work_dir=str(directory / "work"),
        console=Console(file=io.StringIO()),
    )
    assert done.version.number == 2
    return directory / "registry"


@pytest.fixture
def registry(compressed, tmp_path):
    """A copy that a test may spoil."""
    shutil.copytree(compressed, tmp_path / "registry")
    for path in (tmp_path / "registry" / "tiny" / "2").rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    return tmp_path / "registry"


def verify_version(registry, reference="tiny/2"):
    output = io.StringIO()
    return verify(reference, registry=str(registry), console=Console(file=output, width=200)), output.getvalue()


def change_manifest(registry, change):
    """Publishes what somebody claims who does not tell the truth: the journal holds the digest of these claims."""
    path = registry / "tiny" / "2" / MANIFEST_FILE
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))
    (registry / "tiny" / "journal.jsonl").unlink()
    Registry(registry).repair("tiny")


def broken(claims):
    return [claim.what for claim in claims if not claim.holds]


def test_all_claims_of_a_compressed_version_hold(compressed):
    claims, said = verify_version(compressed)
    assert broken(claims) == []
    whats = [claim.what for claim in claims]
    for variant in ("float32", "int8", "cluster-16_int8"):
        assert {
            f"{variant}: bytes",
            f"{variant}: bytes gzipped",
            f"{variant}: accuracy on the test split",
            f"{variant}: log_loss on the test split",
        } <= set(whats)
    assert (whats[0], whats[-1]) == ("files", "cluster-16_int8: promise")
    assert claims[-1].claimed.startswith("proven: accuracy at most 0.0")
    assert "tiny/2: claims, measured again" in said and "NO" not in said
    assert json.loads(json.dumps([claim.to_json() for claim in claims]))[0]["holds"] is True


def test_a_version_that_promises_nothing_is_measured_as_well(compressed):
    claims, _ = verify_version(compressed, "tiny/1")
    assert broken(claims) == [] and not [claim for claim in claims if "promise" in claim.what]


def test_a_file_that_was_changed_is_told(registry):
    path = registry / "tiny" / "2" / "bmp" / "history.csv"
    path.write_text(path.read_text() + "\n")
    claims, said = verify_version(registry)
    assert broken(claims) == ["files"] and "NO" in said
    assert "history.csv has been altered" in claims[0].found


def test_another_model_in_the_file_is_told_by_what_it_does(registry):
    version = registry / "tiny" / "2"
    shutil.copyfile(version / "variants" / "float32.tflite", version / "model.tflite")
    found = broken(verify_version(registry)[0])
    assert found[0] == "files"
    assert {"cluster-16_int8: bytes", "cluster-16_int8: log_loss on the test split"} < set(found)


def test_a_figure_that_was_changed_is_told(registry):
    def flatter(manifest):
        variant = next(row for row in manifest["variants"] if row["name"] == "int8")
        variant["measured"]["test_metrics"]["accuracy"] += 0.001
        variant["measured"]["gzip_bytes"] //= 2

    change_manifest(registry, flatter)
    assert broken(verify_version(registry)[0]) == ["int8: bytes gzipped", "int8: accuracy on the test split"]


@pytest.mark.parametrize(
    "change", [{"high": 0.0001}, {"verdict": "unproven"}, {"max_drop": 0.0005}, {"confidence": 0.9999}], ids=str
)
def test_a_promise_that_was_changed_is_told(registry, change):
    change_manifest(registry, lambda manifest: manifest["promise"].update(change))
    assert broken(verify_version(registry)[0]) == ["cluster-16_int8: promise"]


def test_a_manifest_that_was_changed_after_it_was_published_is_refused(registry):
    path = registry / "tiny" / "2" / MANIFEST_FILE
    path.write_text(path.read_text().replace('"drop"', '"drop" '))  # no claim is other than it was
    with pytest.raises(ArtifactError, match="altered since it was published"):
        verify_version(registry)


def test_an_unknown_version_is_refused(compressed):
    with pytest.raises(NotFoundError, match="Did you mean 'tiny'"):
        verify_version(compressed, "tyny")


def test_other_data_are_refused(registry):
    change_manifest(registry, lambda manifest: manifest["lineage"].update(data_sha256="another"))
    with pytest.raises(DataError, match=r"The examples are no longer those that tiny/2 was made from"):
        verify_version(registry)
