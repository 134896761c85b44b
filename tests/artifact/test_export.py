import shutil

import numpy as np
import pytest
import tf_keras as keras
from conftest import disk_that_holds

from bmp.artifact.export import export_format
from bmp.artifact.formats import FORMATS
from bmp.artifact.manifest import digest_file
from bmp.artifact.samples import read_samples
from bmp.errors import ArtifactError, ConfigError, ExportError, UnknownNameError


@pytest.fixture(scope="module")
def artifact(quick_run):
    return quick_run.version.path, quick_run.manifest


def without(manifest, gone):
    """Returns the manifest of an artifact that lacks a file."""
    return manifest.model_copy(
        update={"files": {name: entry for name, entry in manifest.files.items() if name != gone}}
    )


@pytest.mark.parametrize(("form", "name"), [("h5", "model.h5"), ("litert", "model.tflite")])
def test_a_file_the_artifact_holds_is_copied_byte_for_byte(artifact, form, name, tmp_path):
    directory, manifest = artifact
    exported = export_format(directory, manifest, form, tmp_path / name)
    assert digest_file(tmp_path / name) == manifest.files[name]
    assert (exported.path, exported.size_bytes) == (tmp_path / name, manifest.files[name].size_bytes)
    assert exported.difference is None
    assert [entry.name for entry in tmp_path.iterdir()] == [name]


def test_a_variant_is_copied_by_its_name(artifact, tmp_path):
    directory, manifest = artifact
    export_format(directory, manifest, "litert", tmp_path / "m.tflite", variant="float32")
    assert digest_file(tmp_path / "m.tflite") == manifest.files[manifest.variant("float32").file]


def test_a_saved_model_comes_with_its_warm_up_and_without_the_rest(artifact, tmp_path):
    directory, manifest = artifact
    exported = export_format(directory, manifest, "saved_model", tmp_path / "7")
    files = {
        path.relative_to(tmp_path / "7").as_posix(): path for path in (tmp_path / "7").rglob("*") if path.is_file()
    }
    assert {"saved_model.pb", "variables/variables.index", "assets.extra/tf_serving_warmup_requests"} <= set(files)
    assert not [name for name in files if name.startswith(("bmp/", "model.", "variants/"))]
    assert all(digest_file(path) == manifest.files[name] for name, path in files.items())
    assert exported.size_bytes == sum(manifest.files[name].size_bytes for name in files)


def test_what_the_artifact_does_not_hold_is_written_from_its_h5_and_compared(artifact, quick_run, tmp_path):
    directory, manifest = artifact
    exported = export_format(directory, manifest, "keras", tmp_path / "digits.keras")
    inputs = read_samples(directory).inputs
    assert exported.difference == 0 and exported.examples == len(inputs["image"])
    loaded = keras.models.load_model(tmp_path / "digits.keras")
    np.testing.assert_allclose(loaded(inputs["image"]), quick_run.model(inputs["image"]), atol=1e-6)


@pytest.mark.parametrize(
    ("form", "name", "sentence"),
    [
        ("h5", "m.keras", r"does not suit the format h5, which is a file that ends in \.h5; name it .*m\.h5\."),
        ("keras", "m", r"name it .*/m\.keras\."),
        ("saved_model", "m.h5", r"the format saved_model, which is a directory; name it .*/m\."),
        ("litert", "there.tflite", "is there already"),
        ("saved_model", "link", "is there already"),
    ],
)
def test_a_target_that_does_not_suit_is_refused(artifact, form, name, sentence, tmp_path):
    (tmp_path / "there.tflite").write_bytes(b"kept")
    (tmp_path / "link").symlink_to("nowhere")
    with pytest.raises(ConfigError, match=sentence):
        export_format(*artifact, form, tmp_path / name)
    assert {entry.name for entry in tmp_path.iterdir()} == {"there.tflite", "link"}
    assert (tmp_path / "there.tflite").read_bytes() == b"kept"


def test_an_unknown_format_is_refused_with_a_guess(artifact, tmp_path):
    with pytest.raises(UnknownNameError, match="Did you mean 'saved_model'"):
        export_format(*artifact, "savedmodel", tmp_path / "m")


def test_only_variants_with_a_litert_file_can_be_asked_for(artifact, tmp_path):
    directory, manifest = artifact
    with pytest.raises(ArtifactError, match="lists no variant 'float23'"):
        export_format(directory, manifest, "litert", tmp_path / "m.tflite", variant="float23")
    with pytest.raises(ConfigError, match="ask for litert instead of h5"):
        export_format(directory, manifest, "h5", tmp_path / "m.h5", variant="float32")
    gone = [
        variant.model_copy(update={"file": None}) if variant.name == "int8" else variant
        for variant in manifest.variants
    ]
    with pytest.raises(ArtifactError, match="Of the variant 'int8' no LiteRT file is kept; there are float32"):
        refused = manifest.model_copy(update={"variants": tuple(gone)})
        export_format(directory, refused, "litert", tmp_path / "m.tflite", variant="int8")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("form", ["h5", "keras"])
def test_an_altered_file_is_never_exported(artifact, form, tmp_path):
    directory, manifest = artifact
    copy = shutil.copytree(directory, tmp_path / "artifact")
    content = bytearray((copy / "model.h5").read_bytes())
    content[-1] ^= 1
    (copy / "model.h5").write_bytes(content)
    with pytest.raises(ArtifactError, match=r"model\.h5 has been altered"):
        export_format(copy, manifest, form, tmp_path / FORMATS[form].path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["artifact"]


def test_a_name_that_leads_out_makes_nothing_there(artifact, tmp_path):
    directory, manifest = artifact
    entry = manifest.files["saved_model.pb"]
    hostile = manifest.model_copy(update={"files": {"variables/../../../out/saved_model.pb": entry}})
    with pytest.raises(ArtifactError, match="leads out of the artifact"):
        export_format(directory, hostile, "saved_model", tmp_path / "m")
    assert not list(tmp_path.iterdir())


def test_an_artifact_without_h5_says_what_it_can_be_exported_as(artifact, tmp_path):
    directory, manifest = artifact
    with pytest.raises(
        ArtifactError, match=r"no model\.h5, which keras .* It can be exported as saved_model or litert\."
    ):
        export_format(directory, without(manifest, "model.h5"), "keras", tmp_path / "m.keras")
    assert not list(tmp_path.iterdir())


def test_a_disk_that_is_full_leaves_nothing(artifact, tmp_path):
    with disk_that_holds(1000), pytest.raises(ExportError, match=r"m\.h5' cannot be written: File too large"):
        export_format(*artifact, "h5", tmp_path / "m.h5")
    assert not list(tmp_path.iterdir())


def test_a_directory_that_is_not_there_is_said(artifact, tmp_path):
    with pytest.raises(ExportError, match=r"m\.h5' cannot be written: No such file or directory"):
        export_format(*artifact, "h5", tmp_path / "nowhere" / "m.h5")
