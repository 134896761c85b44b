"""The manifest: what an artifact holds, with the digest of every file; no TensorFlow."""

import hashlib
import json
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from bmp.errors import ArtifactError
from bmp.signature import Signature
from bmp.storage import read_plain
from bmp.transforms import Preprocessing

MANIFEST_FILE = "bmp/manifest.json"
SCHEMA_VERSION = 1


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class FileEntry(_Entry):
    """One file of the artifact."""

    sha256: str
    size_bytes: int


class Measurement(_Entry):
    """What a variant was measured at, on the exported file, through the engine that serves it."""

    validation_score: float | None
    """The score of the objective, such as accuracy, on the validation split; 1 is the best. The choice is made on
    it. None of a model that was imported: nothing was chosen."""
    test_score: float | None
    """The same on the test split, measured once, for the report; of a model that was imported on the samples that came
    with it, and None where no targets did."""
    test_metrics: dict[str, float] = {}
    """Every metric of the objective on the test split, by name."""
    max_abs_diff: float
    """Largest difference of an output from the model the variant was exported from, on the validation split, or on the
    samples of an import."""
    sparsity: float
    """Share of zeros among the weights of the exported file's kernels, 0 to 1."""
    size_bytes: int
    gzip_bytes: int
    bits_bytes: int | None = None
    """Size if each kernel were written in its shortest code; None of a SavedModel, and in manifests of before."""
    latency_batch1_ms: float
    """Median, one thread."""
    latency_batch32_ms: float
    """Median of a batch of 32, one thread."""
    latency_batch1_p95_ms: float | None = None
    """What 19 of 20 runs stay below; None in manifests of before."""
    latency_batch32_p95_ms: float | None = None
    """The same of a batch of 32."""


class PromiseEntry(_Entry):
    """What was promised of the recommended variant, and what the test split says of it."""

    metric: str
    max_drop: float
    confidence: float
    """Of each limit, by itself."""
    verdict: Literal["proven", "unproven", "failed"]
    drop: float
    """How much worse it is than the uncompressed model, as seen."""
    low: float
    high: float
    """The least and the greatest drop that are plausible."""
    examples: int
    needed: int | None
    """Examples with which it would be proven; None where it is, or none would do."""
    method: str
    """How the limits were found."""
    accepted_unproven: bool = False
    """Whether it is recommended without proof, because its maker chose so."""


class Variant(_Entry):
    """One form of the model that can be served."""

    name: str
    file: str | None
    """Path inside the artifact; None for a variant that broke the accuracy promise, whose file is not kept."""
    verdict: str
    """`recommended: …`, `passed`, or `refused: …` with the reason."""
    measured: Measurement


class Imported(_Entry):
    """The file that a model was imported from, and how it was made sure that the exported files do the same."""

    format: str
    """An entry of bmp.imports.sources.IMPORTERS."""
    file: str
    """Its name, without the folder."""
    sha256: str
    """Of the file; of a folder, that of the lines `<sha256> <path>` of its files, sorted by path."""
    size_bytes: int
    engine: str
    """What ran the file itself, such as `keras 3.15.1`."""
    trusted: bool
    """Whether its owner vouched for what it does when it is loaded; otherwise nothing in it could run code."""
    confined: bool
    """Whether the kernel kept what read it from all other files, from the network and from starting programs."""
    samples: str
    """What it was compared on."""
    differences: dict[str, float]
    """Largest difference of an output of each exported format from the file's own, by format."""
    left_out: dict[str, str] = {}
    """Why a format could not be written, by format."""


class Lineage(_Entry):
    """Where the model comes from."""

    recipe_sha256: str | None = None
    """None of a model that was imported, as of its data."""
    data_sha256: str | None = None
    parent_version: int | None
    """The version this one was made from; None when trained from scratch."""
    code_version: str
    packages: dict[str, str]
    """Versions of the packages that made it."""
    machine: str
    """Processor and cores that the latencies were measured on."""
    run: str | None = None
    """Directory and start of the run that made it."""
    imported: Imported | None = None
    """The file it came from; None of a model that was trained here."""


class Manifest(_Entry):
    """Everything about an artifact that a server, a registry or a person asks."""

    schema_version: Literal[1]
    name: str
    created: datetime
    signature: dict[str, Any]
    labels: tuple[str, ...]
    """Name of each class, by index of the output."""
    score: str = "accuracy"
    """The metric that scores and the promise speak of."""
    preprocessing: dict[str, Any] | None = None
    """Raw features and the transforms that lead from them to the inputs of the signature; None where there are none."""
    recommended: str
    """The variant in `model.tflite`, or in the SavedModel where LiteRT cannot hold the model."""
    max_drop: float
    """The promise: largest accepted loss against the uncompressed model; 0 of a model that was imported."""
    promise: PromiseEntry | None = None
    """Whether the promise is proven of the recommended variant; None where that is uncompressed, or of before."""
    variants: tuple[Variant, ...]
    lineage: Lineage
    files: dict[str, FileEntry]
    """Every file of the artifact but the manifest itself, by path inside it."""

    def parsed_signature(self) -> Signature:
        """Returns the signature as an object that checks arrays."""
        return Signature.from_dict(self.signature)

    def parsed_preprocessing(self) -> Preprocessing | None:
        """Returns the transforms as an object that runs them, or None where the model takes tensors only."""
        return None if self.preprocessing is None else Preprocessing.from_dict(self.preprocessing)

    def variant(self, name: str) -> Variant:
        """Returns a variant by name.

        Raises:
            ArtifactError: The manifest lists no such variant.
        """
        for variant in self.variants:
            if variant.name == name:
                return variant
        known = ", ".join(variant.name for variant in self.variants)
        raise ArtifactError(f"The manifest of '{self.name}' lists no variant '{name}'; it lists {known}.")


def write_manifest(manifest: Manifest, directory: Path) -> None:
    """Writes the manifest of an artifact; `read_manifest` reads it."""
    path = directory / MANIFEST_FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")


def read_manifest(directory: Path) -> Manifest:
    """Reads the manifest of an artifact.

    Raises:
        ArtifactError: There is none, or it cannot be understood.
    """
    path = directory / MANIFEST_FILE
    try:
        raw = json.loads(read_plain(path, below=directory))
    except FileNotFoundError as error:
        raise ArtifactError(f"{directory} is no artifact: it has no {MANIFEST_FILE}.") from error
    except OSError as error:
        raise ArtifactError(f"{path} cannot be read: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"{path} is not valid JSON ({error}); the artifact is damaged.") from error
    written = raw.get("schema_version") if isinstance(raw, dict) else None
    if written != SCHEMA_VERSION:
        raise ArtifactError(
            f"{path} has schema version {written}; this bmp reads version {SCHEMA_VERSION}. "
            "Use the bmp that wrote it, or publish the model again.",
            expected=str(SCHEMA_VERSION),
            received=str(written),
        )
    try:
        manifest = Manifest.model_validate(raw)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        where = ".".join(str(step) for step in problem["loc"])
        raise ArtifactError(f"{path}: '{where}': {problem['msg']}; the artifact is damaged.") from error
    manifest.parsed_signature()
    manifest.parsed_preprocessing()
    manifest.variant(manifest.recommended)
    return manifest


def digest_file(path: Path) -> FileEntry:
    """Returns SHA-256 and size of a file."""
    with path.open("rb") as file:
        return FileEntry(sha256=hashlib.file_digest(file, "sha256").hexdigest(), size_bytes=file.tell())


def digest_files(directory: Path) -> dict[str, FileEntry]:
    """Returns the entries of every file under an artifact directory but the manifest.

    Raises:
        ArtifactError: There is something else than plain files and directories, such as a symbolic link.
    """
    entries = {}
    for path in sorted(directory.rglob("*")):
        relative = path.relative_to(directory).as_posix()
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise ArtifactError(f"{path} is neither a plain file nor a directory; an artifact holds nothing else.")
        if path.is_file() and relative != MANIFEST_FILE:
            entries[relative] = digest_file(path)
    return entries


def check_file(directory: Path, manifest: Manifest, relative: str) -> Path:
    """Returns the path of one file of an artifact after checking its digest.

    Args:
        directory: Of the artifact.
        manifest: Of the artifact.
        relative: A path that the manifest lists; nothing else can be asked for.

    Raises:
        ArtifactError: The manifest does not list it, or its bytes are not those the manifest describes.
    """
    entry = manifest.files.get(relative)
    if entry is None:
        raise ArtifactError(f"The manifest of {directory} lists no file '{relative}'.")
    if PurePosixPath(relative).is_absolute() or ".." in PurePosixPath(relative).parts:
        raise ArtifactError(f"The manifest of {directory} lists '{relative}', which leads out of the artifact.")
    path = directory / relative
    try:
        if path.is_symlink() or not path.is_file():
            raise ArtifactError(f"{path} is missing; the artifact is incomplete.")
        found = digest_file(path)
    except OSError as error:  # a disk that fails, or a name that no file can have
        raise ArtifactError(f"{path} cannot be read: {error.strerror}.") from error
    if found != entry:
        raise ArtifactError(
            f"{path} has been altered: its SHA-256 is {found.sha256[:12]}…, the manifest says {entry.sha256[:12]}….",
            expected=f"{entry.sha256} ({entry.size_bytes} bytes)",
            received=f"{found.sha256} ({found.size_bytes} bytes)",
        )
    return path


def check_files(directory: Path, manifest: Manifest) -> None:
    """Checks that an artifact holds exactly the files its manifest lists, byte for byte.

    Raises:
        ArtifactError: A file is missing, altered or not listed.
    """
    for relative in manifest.files:
        check_file(directory, manifest, relative)
    extra = set(digest_files(directory)) - set(manifest.files)
    if extra:
        raise ArtifactError(f"{directory} holds files its manifest does not list: {', '.join(sorted(extra))}.")
