"""The ways by which something may come in, and a case played by one of them."""

import io
import logging
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from bmp.artifact.samples import SAMPLES_FILE
from bmp.artifact.saved_model import SAVED_MODEL_FILE
from bmp.cli.content import check_content
from bmp.errors import BmpError, RegistryError
from bmp.imports import child
from bmp.imports.flow import import_model
from bmp.imports.original import Options
from bmp.registry import Registry
from bmp.registry.archive import import_archive
from bmp.registry.printable import make_printable
from serving.service import Service
from tests.artifact.guard.litert_by_hand import SIGNATURE
from tests.hostile.archives import carry
from tests.hostile.artifact import Document, lay_out, seal
from tests.hostile.case import Case, Place

_OPTIONS = Options(network="mlp", shape=(4,), objective="regression")
_VOUCHED = {
    "format": "saved_model",
    "file": "model",
    "sha256": "0" * 64,
    "size_bytes": 1,
    "engine": "TensorFlow",
    "trusted": True,
    "confined": True,
    "samples": "none",
    "differences": {},
}
_NEVER_SAID = ("Traceback", "site-packages", "bmp-import-", "bmp-signed-", "hostile-saved-", "\n", "\x1b", "\0")


@dataclass(frozen=True)
class Way:
    """A way in.

    Args:
        run: Goes it, with what a case has built.
        kinds: Of cases that can.
        refuses: Whether it must refuse them; otherwise it may also go on, and do no harm.
    """

    run: Callable[[Path, Place], object]
    kinds: tuple[str, ...]
    refuses: bool = True


# === Model files ===


def _convert(path: Path, place: Place) -> None:
    """What the child of an import does, without the sandbox around it."""
    (place.inside / "written").mkdir()
    request = {"source": str(path), "target": str(place.inside / "written"), "samples": None, "labels": []}
    request["options"] = {**vars(_OPTIONS), "trust": False}
    answer = child._answer("bmp.imports.convert:convert", request)
    if "error" in answer:
        raise BmpError(answer["error"]["message"])


def _import(path: Path, place: Place, samples: Path | None = None) -> None:
    registry, console = Registry(place.inside / "own"), Console(file=io.StringIO())
    try:
        import_model(path, "model", samples=samples, trust=False, options=_OPTIONS, registry=registry, console=console)
    finally:
        _check_nothing_came(registry)


def _import_samples(artifact: Path, place: Place) -> None:
    _import(artifact / "model.tflite", place, samples=artifact / SAMPLES_FILE)


def _check_nothing_came(registry: Registry) -> None:
    assert registry.models() == [], "something was published"


def _open_keras(path: Path, place: Place) -> None:
    _open(path, "keras")


def _open(path: Path, form: str) -> None:
    """Opens a model file as whoever works with a version does."""
    from bmp.artifact.formats import FORMATS

    FORMATS[form].load(path, SIGNATURE)


# === Artifacts ===


def _put_in(path: Path, place: Place) -> Path:
    """Puts a model file into a sound artifact, whose manifest describes it to the byte."""
    artifact = lay_out(place.inside / "around")
    if path.is_dir():
        shutil.copytree(path, artifact, symlinks=True, dirs_exist_ok=True)
    else:
        shutil.copyfile(path, artifact / path.name)
    return seal(artifact)


def _export(path: Path, place: Place) -> None:
    from bmp.artifact.export import export_format

    version = Registry(place.inside / "own").publish(_put_in(path, place), "model")
    export_format(version.path, version.read_manifest(), "keras", place.inside / "exported.keras")


def _carry_file(path: Path, place: Place) -> None:
    """Sends a model file in the archive of a version, and opens it where that is let in."""
    _carry(_put_in(path, place), place)
    version = Registry(place.inside / "own").resolve("model")
    if path.suffix in (".h5", ".keras"):
        _open(version.path / path.name, path.suffix[1:])


def _carry(artifact: Path, place: Place) -> None:
    """Sends an artifact in an archive, and serves it where that is let in."""
    _unpack(carry(artifact, place.inside / "carried.tar"), place)
    _load(Registry(place.inside / "own"))


def _unpack(path: Path, place: Place) -> None:
    import_archive(Registry(place.inside / "own"), path, check=check_content)


def _serve_file(path: Path, place: Place) -> None:
    _serve(_put_in(path, place), place)


def _serve_graph(path: Path, place: Place) -> None:
    """Publishes a version whose recommended variant is a SavedModel, and asks it where it is let in."""
    artifact = lay_out(place.inside / "around")
    shutil.copytree(path, artifact, symlinks=True, dirs_exist_ok=True)
    _serve(seal(artifact, _recommend_graph), place)


def _recommend_graph(document: Document) -> None:
    document["variants"][0]["file"] = SAVED_MODEL_FILE
    document["lineage"]["imported"] = _VOUCHED  # by whoever published it, which counts for nothing here


def _serve(artifact: Path, place: Place) -> None:
    """Publishes an artifact, and serves it where that is let in."""
    registry = Registry(place.inside / "own")
    registry.publish(artifact, "model")
    _load(registry)


class _Log(logging.Handler):
    """Keeps what a service says."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(record.getMessage())


def _load(registry: Registry) -> None:
    """Loads whatever is there as a server does.

    Raises:
        RegistryError: A model cannot be served.
        AssertionError: For a reason that the server did not think of.
    """
    log, logger, service = _Log(), logging.getLogger("serving"), Service(registry)
    logger.addHandler(log)
    before, logger.propagate = logger.propagate, False
    try:
        service.load()
    finally:
        logger.removeHandler(log)
        logger.propagate = before
    assert "internal_error" not in service.failures().values(), f"an internal error of the server: {log.said}"
    if service.failures():
        raise RegistryError(log.said[-1])


# === Registries ===


def _verify(root: Path, place: Place) -> None:
    problems = Registry(root).verify()
    if problems:
        raise RegistryError(problems[0].message)


def _open_registry(root: Path, place: Place) -> None:
    Registry(root).resolve("model").check_files()


def _serve_registry(root: Path, place: Place) -> None:
    _load(Registry(root))
    Registry(root).resolve("model")  # what is no model any more is not served, without a word


def _change(root: Path, place: Place) -> None:
    """Makes every change to the model that there is; each may be refused."""
    registry, artifact = Registry(root), seal(lay_out(place.inside / "next"))
    refused: list[BmpError] = []
    changes: list[Callable[[], object]] = [
        lambda: registry.repair("model"),
        lambda: registry.publish(artifact, "model"),
        lambda: registry.set_alias("model", "canary", 1),
        lambda: registry.promote("model"),
        lambda: registry.rollback("model"),
        lambda: registry.tag("model", 1, "a", "b"),
        lambda: registry.remove_alias("model", "canary"),
        lambda: registry.gc("model"),
        lambda: registry.repair(),
    ]
    for change in changes:
        try:
            change()
        except BmpError as error:
            refused.append(error)
    if refused:
        raise refused[0]


WAYS: dict[str, Way] = {
    "convert": Way(_convert, ("h5", "keras", "saved_model", "litert", "torch", "sklearn", "pickle")),
    "import": Way(_import, ("h5", "keras", "saved_model", "litert", "torch", "sklearn", "pickle")),
    "import --samples": Way(_import_samples, ("samples",)),
    "export": Way(_export, ("h5",)),
    "open .keras": Way(_open_keras, ("keras",)),
    "models import": Way(_unpack, ("tar",)),
    "models import, a file": Way(_carry_file, ("h5", "keras", "saved_model", "litert")),
    "models import, an artifact": Way(_carry, ("artifact", "samples")),
    "serve": Way(_serve, ("artifact", "samples")),
    "serve a graph": Way(_serve_graph, ("saved_model",)),
    "serve a file": Way(_serve_file, ("litert",), refuses=False),  # LiteRT passes over some of it
    "verify": Way(_verify, ("journal",)),
    "resolve": Way(_open_registry, ("journal",)),
    "serve a registry": Way(_serve_registry, ("journal",)),
    "change": Way(_change, ("journal",), refuses=False),
}
MAIN = {
    **dict.fromkeys(("h5", "keras", "saved_model", "litert", "torch", "sklearn", "pickle"), "convert"),
    "tar": "models import",
    "artifact": "serve",
    "samples": "serve",
    "journal": "verify",
}
"""For each kind the way that shows most, and takes least."""


def list_ways(case: Case) -> list[str]:
    """Returns the names of the ways by which a case can come in."""
    return [name for name, way in WAYS.items() if case.kind in way.kinds]


def can_go(built: Path, name: str) -> bool:
    """Says whether what was built can go a way: an archive that is sound holds no links and no pipes."""
    if WAYS[name].run not in (_carry_file, _carry):
        return True
    return all(not path.is_symlink() and (path.is_file() or path.is_dir()) for path in [built, *built.rglob("*")])


def play(case: Case, name: str, root: Path) -> tuple[str, str]:
    """Plays a case by a way.

    Args:
        case: To play.
        name: Of the way.
        root: A directory that is not there yet.

    Returns:
        What was wrong, and what was said; nothing is wrong if it was refused for a clear reason and did no harm.
    """
    place = Place(root)
    built = case.build(place)
    if not can_go(built, name):
        return "", "it cannot go this way"
    before = place.look_outside()
    trouble, said = _go(WAYS[name], built, place)
    after = place.look_outside()
    if place.canary.exists():
        return "code has run", said
    if before != after:
        touched = [path for path in sorted(before.keys() | after.keys()) if before.get(path) != after.get(path)]
        return f"it has touched {', '.join(touched)}", said
    return trouble, said


def _go(way: Way, built: Path, place: Place) -> tuple[str, str]:
    try:
        way.run(built, place)
    except BmpError as error:
        return find_fault(error.message), error.message
    except Exception as error:
        return f"it ended with {type(error).__name__}: {error}"[:2000], ""
    return ("it was let in" if way.refuses else ""), ""


def find_fault(message: str) -> str:
    """Returns what is wrong with a sentence that a person is told, as the commands print it."""
    message = make_printable(message)
    never = [words for words in _NEVER_SAID if words in message]
    if never:
        return f"the sentence holds {never}: {message}"
    if len(message) < 20 or len(message) > 5_000:
        return f"the sentence has {len(message)} characters: {message[:200]}"
    return ""
