"""A sound artifact, made without TensorFlow: what hostile things are put into."""

import json
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from bmp.artifact.litert import LiteRTRunner
from bmp.artifact.manifest import (
    MANIFEST_FILE,
    Lineage,
    Manifest,
    Variant,
    digest_file,
    digest_files,
    write_manifest,
)
from bmp.artifact.samples import Samples, write_samples
from bmp.signature import Signature
from tests.artifact.guard.litert_by_hand import SIGNATURE, make_model, pack
from tests.hostile import h5_files
from tests.measurements import make_measurement

Document = dict[str, Any]


def lay_out(directory: Path) -> Path:
    """Writes the files of an artifact, without a manifest: a dense layer, `(B, 4)` to `(B, 3)`."""
    (directory / "variants").mkdir(parents=True)
    (directory / "model.tflite").write_bytes(pack(make_model()))
    shutil.copy(directory / "model.tflite", directory / "variants" / "float32.tflite")
    h5_files.write(directory / "model.h5")
    inputs = {"x": np.arange(32, dtype=np.float32).reshape(8, 4)}
    outputs = LiteRTRunner(directory / "model.tflite", SIGNATURE).run(inputs)
    write_samples(Samples(inputs, outputs, None), directory)
    (directory / "bmp" / "recipe.yaml").write_text("model: {build: mlp}\n")
    return directory


def seal(directory: Path, edit: Callable[[Document], Any] | None = None) -> Path:
    """Writes the manifest of whatever is there.

    Args:
        directory: Of the artifact.
        edit: Changes the manifest before it is written; what it returns, if anything, is written in its place.
    """
    files = digest_files(directory) if edit is None else _digest_plain(directory)
    write_manifest(_describe(files), directory)
    if edit is not None:
        document = json.loads((directory / MANIFEST_FILE).read_bytes())
        changed = edit(document)
        text = changed if isinstance(changed, bytes) else json.dumps(document).encode()
        (directory / MANIFEST_FILE).write_bytes(text)
    return directory


def _digest_plain(directory: Path) -> dict[str, Any]:
    """Returns the entries of the plain files; others may be there, which no artifact holds."""
    plain = [path for path in directory.rglob("*") if path.is_file() and not path.is_symlink()]
    found = {path.relative_to(directory).as_posix(): path for path in plain}
    return {name: digest_file(path) for name, path in sorted(found.items()) if name != MANIFEST_FILE}


def _describe(files: dict[str, Any], signature: Signature = SIGNATURE) -> Manifest:
    measured = make_measurement()
    return Manifest(
        schema_version=1,
        name="model",
        created=datetime(2026, 1, 1, tzinfo=UTC),
        signature=signature.to_dict() | {"objective": "regression"},
        labels=(),
        recommended="float32",
        max_drop=0.0,
        variants=(Variant(name="float32", file="model.tflite", verdict="recommended", measured=measured),),
        lineage=Lineage(parent_version=None, code_version="1.0", packages={}, machine="by hand"),
        files=files,
    )
