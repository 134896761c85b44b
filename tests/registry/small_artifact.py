"""The least that is an artifact, for tests of the registry."""

from datetime import UTC, datetime
from pathlib import Path

from bmp.artifact.manifest import Lineage, Manifest, Variant, digest_files, write_manifest
from tests.measurements import make_measurement


def make_artifact(directory: Path, content: bytes = b"model", parent_version: int | None = None) -> Path:
    """Two files and a manifest that lists them."""
    (directory / "variants").mkdir(parents=True)
    (directory / "model.tflite").write_bytes(content)
    (directory / "variants" / "float32.tflite").write_bytes(content * 2)
    measured = make_measurement()
    manifest = Manifest(
        schema_version=1,
        name="digits",
        created=datetime.now(UTC),
        signature={"inputs": [], "outputs": []},
        labels=(),
        recommended="int8",
        max_drop=0.01,
        variants=(Variant(name="int8", file="model.tflite", verdict="recommended: small", measured=measured),),
        lineage=Lineage(
            recipe_sha256="r" * 64,
            data_sha256="d" * 64,
            parent_version=parent_version,
            code_version="1.0",
            packages={},
            machine="",
        ),
        files=digest_files(directory),
    )
    write_manifest(manifest, directory)
    return directory


def read_tree(directory: Path) -> dict[str, bytes]:
    """Returns the bytes of every file below a directory, by path inside it."""
    files = [path for path in directory.rglob("*") if path.is_file()]
    return {path.relative_to(directory).as_posix(): path.read_bytes() for path in files}
