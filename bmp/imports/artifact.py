"""The artifact of an import: the files that were proven, and a manifest that says where they come from."""

import os
import platform
import shutil
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import bmp
from bmp.artifact.formats import FORMATS
from bmp.artifact.manifest import Imported, Lineage, Manifest, Variant, digest_files, write_manifest
from bmp.artifact.samples import SAMPLES_FILE, read_samples
from bmp.artifact.saved_model import SAVED_MODEL_FILE, is_saved_model_file
from bmp.artifact.warmup import write_warmup
from bmp.errors import UnsafeError
from bmp.imports.answers import Converted, Proven, read_signature
from bmp.objectives import OBJECTIVES

VARIANT = "float32"
"""Name of the one variant: what was imported, as it is."""
_PACKAGES = ("tensorflow", "tf-keras", "keras", "ai-edge-litert", "numpy")


def assemble(place: Path, name: str, found: Converted, proof: Proven, imported: Imported) -> Path:
    """Lays out the files that were proven, and nothing else, with their manifest."""
    artifact = place / "artifact"
    for form in proof.differences:
        _take(place / "written", FORMATS[form].path, artifact)
    (artifact / SAMPLES_FILE).parent.mkdir()
    _copy(place / "proof" / SAMPLES_FILE, artifact / SAMPLES_FILE)
    if "saved_model" in proof.differences:
        write_warmup(read_samples(artifact).inputs, name, artifact)
    signature = read_signature(found)
    variant = Variant(
        name=VARIANT,
        file=SAVED_MODEL_FILE if proof.served == "saved_model" else FORMATS[proof.served].path,
        verdict="recommended: it is what was imported",
        measured=proof.measured,
    )
    manifest = Manifest(
        schema_version=1,
        name=name,
        created=datetime.now(UTC),
        signature=signature.to_dict(),
        labels=found.labels,
        score=OBJECTIVES[signature.objective].score,
        recommended=VARIANT,
        max_drop=0.0,
        variants=(variant,),
        lineage=_make_lineage(imported),
        files=digest_files(artifact),
    )
    write_manifest(manifest, artifact)
    return artifact


def _take(written: Path, place: str, artifact: Path) -> None:
    """Copies the files of one format: plain files with the names that bmp gives them."""
    if place != ".":
        _copy(written / place, artifact / place)
        return
    for path in sorted(written.rglob("*")):
        relative = path.relative_to(written).as_posix()
        if is_saved_model_file(relative) and not path.is_dir():
            (artifact / relative).parent.mkdir(parents=True, exist_ok=True)
            _copy(path, artifact / relative)


def _copy(source: Path, target: Path) -> None:
    if source.is_symlink() or not source.is_file():
        raise UnsafeError(f"The reader of the file wrote a {source.name} that is no plain file; nothing was published.")
    shutil.copyfile(source, target, follow_symlinks=False)


def _make_lineage(imported: Imported) -> Lineage:
    return Lineage(
        parent_version=None,
        code_version=bmp.__version__,
        packages={package: version(package) for package in _PACKAGES},
        machine=f"{platform.machine()}, {os.cpu_count()} cores",
        imported=imported,
    )
