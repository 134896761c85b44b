"""The import: copied, checked, converted, proven, published; whatever is in the file runs in no process of ours."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console

from bmp.artifact.manifest import Imported
from bmp.errors import ArtifactError, BmpError, NotFoundError
from bmp.imports.answers import Converted, Proven, read_answer, read_signature
from bmp.imports.artifact import assemble
from bmp.imports.confine import Walls, find_walls
from bmp.imports.original import Options
from bmp.imports.sandbox import clean, run_confined
from bmp.imports.staging import Staged, stage
from bmp.imports.words import PLAIN, tell
from bmp.names import check_model_name
from bmp.registry import Registry, Version


def import_model(
    path: Path,
    name: str,
    *,
    samples: Path | None = None,
    trust: bool = False,
    labels: Sequence[str] = (),
    options: Options | None = None,
    registry: Registry,
    console: Console | None = None,
) -> Version:
    """Makes a published version of a model that somebody has: proven on examples, format by format.

    Args:
        path: Of a file, or of the directory of a SavedModel; see bmp.imports.sources.IMPORTERS.
        name: To publish under; a name that is there gets its next version.
        samples: `.npz` of inputs by name, and `targets` if they are known, or `.npy` of the one input; random examples
            where there is none.
        trust: Whether its owner vouches for what the file does when it is loaded. It stays in the sandbox.
        labels: Names of the classes, in the order of the output.
        options: What the file does not say of itself; its `trust` is that above.
        registry: To publish into.
        console: Where the result is told; by default standard output.

    Raises:
        NotFoundError: There is no such file.
        UnsafeError: Loading the file could do more than give numbers.
        ArtifactError: It is damaged, or no model.
        DataError: The examples or labels do not fit.
        ProofError: Nothing that was written does what the file does; nothing was published.
    """
    console = console or Console()
    check_model_name(name)
    registry.check_writable()
    walls = find_walls()
    given = {**asdict(options or Options()), "trust": trust}
    with tempfile.TemporaryDirectory(prefix="bmp-import-") as work:
        place = _lay_out(Path(work))
        staged = stage(path, place / "source")
        kept = _keep_samples(samples, place / "samples")
        names = {staged.path: path, place / "written": Path("the export"), **({kept: samples} if kept else {})}
        with console.status(f"reading {path.name} and running it"), _Renamed(names, path):
            found = _convert(place, staged, kept, labels, given, walls)
        with console.status("comparing what was written with it"), _Renamed(names, path):
            proof = _measure(place, found, trust, walls)
        imported = _describe(path, staged, found, proof, trust, walls)
        artifact = assemble(place, name, found, proof, imported)
        tell(console, found, proof, imported)
        published = registry.publish(artifact, name)
    console.print(f"published    {published.path}  (version {published.number})", **PLAIN)
    console.print(f"serve it     bmp serve --model {name}", **PLAIN)
    return published


def _lay_out(work: Path) -> Path:
    for name in ("source", "samples", "written", "proof", "artifact"):
        (work / name).mkdir()
    return work


def _keep_samples(samples: Path | None, directory: Path) -> Path | None:
    if samples is None:
        return None
    if samples.is_dir():
        raise NotFoundError(f"{samples} is a directory; expected an .npz or .npy file of examples.")
    return stage(samples, directory).path


class _Renamed:
    """Calls files by the names that the user gave them, in what went wrong."""

    def __init__(self, names: Mapping[Path, Path | None], path: Path) -> None:
        self._names = names
        self._path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, BmpError):
            for copy, original in self._names.items():
                error.message = error.message.replace(str(copy), str(original))
            if isinstance(error, ArtifactError) and str(self._path) not in error.message:
                error.message = f"{self._path}: {error.message}"


def _convert(
    place: Path, staged: Staged, samples: Path | None, labels: Sequence[str], options: dict[str, Any], walls: Walls
) -> Converted:
    request = {
        "source": str(staged.path),
        "target": str(place / "written"),
        "samples": None if samples is None else str(samples),
        "labels": list(labels),
        "options": options,
    }
    readable = [place / "source", place / "samples"]
    answer = run_confined(
        "bmp.imports.convert:convert", request, readable=readable, writable=[place / "written"], walls=walls
    )
    return read_answer(Converted, answer)


def _measure(place: Path, found: Converted, trust: bool, walls: Walls) -> Proven:
    signature = read_signature(found)
    request = {
        "source": str(place / "written"),
        "target": str(place / "proof"),
        "signature": signature.to_dict(),
        "labels": found.labels,
        "formats": found.written,
        "trust": trust,
    }
    readable, writable = [place / "written"], [place / "proof"]
    answer = run_confined("bmp.imports.measure:measure", request, readable=readable, writable=writable, walls=walls)
    return read_answer(Proven, answer)


def _describe(path: Path, staged: Staged, found: Converted, proof: Proven, trust: bool, walls: Walls) -> Imported:
    return Imported(
        format=found.format,
        file=clean(staged.path.name),
        sha256=staged.sha256,
        size_bytes=staged.size_bytes,
        engine=found.engine,
        trusted=trust,
        confined=walls.are_whole,
        samples=found.samples,
        differences=proof.differences,
        left_out={**found.left_out, **proof.left_out},
    )
