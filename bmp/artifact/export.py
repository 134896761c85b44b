"""A model taken out of an artifact in one of FORMATS: copied where the artifact holds it so, else written anew."""

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bmp.artifact.formats import FORMATS
from bmp.artifact.h5 import H5Runner
from bmp.artifact.manifest import Manifest, check_file
from bmp.artifact.samples import SAMPLES_FILE, read_samples
from bmp.artifact.saved_model import is_saved_model_file
from bmp.errors import ArtifactError, ConfigError, ExportError
from bmp.storage import sync_tree

_DIRECTORY = "."
"""Place in an artifact of the format that is a directory."""


@dataclass(frozen=True)
class Exported:
    """What an export wrote.

    Args:
        path: The file, or the directory of a SavedModel.
        size_bytes: Of all files.
        difference: The largest of an output from those of `model.h5`, on the samples of the artifact; None where the
            files are the published ones, byte for byte.
        examples: How many samples it was measured on.
    """

    path: Path
    size_bytes: int
    difference: float | None = None
    examples: int = 0


def export_format(
    directory: Path, manifest: Manifest, form: str, target: Path, *, variant: str | None = None
) -> Exported:
    """Writes a model of an artifact to a place of one's own; it comes there whole, or not at all.

    Args:
        directory: Of the artifact.
        manifest: Of the artifact; every file that is read is compared with it first.
        form: An entry of FORMATS.
        target: A file, or a directory for `saved_model`; nothing may be there yet.
        variant: Which of the artifact's, by name, for `litert`; by default the recommended one.

    Raises:
        ConfigError: There is no such format, or the target does not suit it.
        ArtifactError: A file was altered, or the artifact holds nothing that the format can be written from.
        ExportError: The format cannot hold the model, or the target cannot be written.
        ProofError: What was written does not do what the model does.
        ModuleNotFoundError: The format has to be written, and a package that does it is not installed.
    """
    _check_target(target, form)
    files = _list_files(manifest, form, variant)
    with _staged(target) as place:
        if files:
            _copy(directory, manifest, files, place)
            difference, examples = None, 0
        else:
            difference, examples = _convert(directory, manifest, form, place)
    sizes = [path.stat().st_size for path in (target, *target.rglob("*")) if path.is_file()]
    return Exported(target, sum(sizes), difference, examples)


def _check_target(target: Path, form: str) -> None:
    suffix = Path(FORMATS[form].path).suffix
    others = {Path(other.path).suffix for other in FORMATS.values()} - {suffix}
    if target.suffix != suffix and (suffix or target.suffix in others):
        kind = f"a file that ends in {suffix}" if suffix else "a directory"
        raise ConfigError(
            f"'{target}' does not suit the format {form}, which is {kind}; name it {target.with_suffix(suffix)}.",
            expected=kind,
            received=str(target),
        )
    if target.exists() or target.is_symlink():
        raise ConfigError(f"'{target}' is there already; name another place, or remove it first.")


def _list_files(manifest: Manifest, form: str, variant: str | None) -> list[str]:
    """Returns the files that the artifact holds a model in, in some format; none where it holds none."""
    if variant is not None:
        return [_find_variant(manifest, form, variant)]
    if FORMATS[form].path == _DIRECTORY:
        return [name for name in manifest.files if is_saved_model_file(name)]
    return [name for name in manifest.files if name == FORMATS[form].path]


def _find_variant(manifest: Manifest, form: str, variant: str) -> str:
    if form != "litert":
        raise ConfigError(f"A variant is a LiteRT file: leave the variant out, or ask for litert instead of {form}.")
    file = manifest.variant(variant).file
    if file is None or not file.endswith(".tflite"):
        kept = ", ".join(entry.name for entry in manifest.variants if (entry.file or "").endswith(".tflite")) or "none"
        raise ArtifactError(f"Of the variant '{variant}' no LiteRT file is kept; there are {kept}.", expected=kept)
    return file


@contextmanager
def _staged(target: Path) -> Iterator[Path]:
    """Gives a place beside the target, and moves what is there at the end to the target."""
    try:
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as aside:
            yield Path(aside) / target.name
            sync_tree(Path(aside))
            (Path(aside) / target.name).rename(target)
    except OSError as error:
        raise ExportError(f"'{target}' cannot be written: {error.strerror or error}.") from error


def _copy(directory: Path, manifest: Manifest, files: Sequence[str], place: Path) -> None:
    is_directory = any(is_saved_model_file(name) for name in files)
    for name in files:
        original = check_file(directory, manifest, name)  # before anything is made under this name
        copy = place / name if is_directory else place
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(original, copy)


def _convert(directory: Path, manifest: Manifest, form: str, place: Path) -> tuple[float, int]:
    """Writes the format from `model.h5`, reads it back, and returns the largest difference and the examples."""
    from bmp.artifact.proof import check_parity, max_abs_diff  # knows the rooms of training; a server may copy without

    original = FORMATS["h5"].path
    if original not in manifest.files:
        held = " or ".join(held for held in FORMATS if _list_files(manifest, held, None))
        raise ArtifactError(
            f"This version of '{manifest.name}' holds no {original}, which {form} would be written from: its network "
            f"is subclassed, or it was brought in without. It can be exported as {held}."
        )
    signature = manifest.parsed_signature()
    reference = H5Runner(check_file(directory, manifest, original), signature)
    FORMATS[form].write(reference.model, signature, place)
    check_file(directory, manifest, SAMPLES_FILE)
    inputs = read_samples(directory).inputs
    difference = max_abs_diff(reference.run(inputs), FORMATS[form].load(place, signature).run(inputs))
    check_parity(f"The {form} export", difference)
    return difference, len(next(iter(inputs.values())))
