"""Every argument that takes a name, and a registry to try them on, with something outside that nobody may touch."""

import contextlib
import io
import shutil
import warnings
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from click.testing import CliRunner

from bmp.artifact.guard import check_keras, check_member_names
from bmp.artifact.manifest import check_file, digest_file, read_manifest
from bmp.cli import main
from bmp.errors import BmpError
from bmp.names import is_name
from bmp.registry import Registry
from bmp.registry.archive import import_archive
from bmp.registry.keys import write_keys
from bmp.registry.printable import make_printable
from bmp.registry.reference import read_reference
from bmp.registry.ustar import write_end, write_member
from serving.service import Service
from tests.hostile.archives import carry, list_members
from tests.hostile.artifact import Document, lay_out, seal
from tests.hostile.case import Place
from tests.hostile.keras_files import make_members

_OF_A_MODEL = (".lock", ".signatures", "aliases.json", "journal.jsonl")
_NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Ground(Place):
    """A registry with the model `model` and a link that leads outside, and what arguments need beside it.

    Args:
        root: A directory of its own, which need not exist yet. The current directory should be `here` in it.
    """

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.root, self.here = root, root / "here"
        self.here.mkdir()
        self.sound = self.inside / "sound"
        self.artifact = seal(lay_out(self.inside / "artifact"))
        self.registry = Registry(self.inside / "registry")
        for _ in range(2):
            self.registry.publish(self.artifact, "model")
        self.registry.set_alias("model", "production", 1)
        shutil.copytree(self.registry.root / "model", self.outside / "linked")
        (self.registry.root / "linked").symlink_to(self.outside / "linked")
        (self.registry.root / "model" / "3").symlink_to(self.outside / "linked" / "1")
        self.archive = carry(self.artifact, self.inside / "version.tar")
        self.key = self.inside / "key"
        write_keys(self.key)
        shutil.copytree(self.registry.root, self.sound, symlinks=True)
        self.service = Service(self.registry)
        self.service.load()
        self._before = self.look_outside()

    def find_escape(self) -> str:
        """Returns in words what is where it should not be, and puts the registry back where it has changed."""
        if self.look_outside() != self._before:
            return "something outside was touched"
        strays = [path for path in (*self.here.iterdir(), *self.root.iterdir()) if path.name not in _PARTS]
        strays += [path for path in self.registry.root.iterdir() if not is_name(path.name)]
        for model in self.registry.root.iterdir():
            strays += [path for path in model.iterdir() if not (path.name.isdecimal() or path.name in _OF_A_MODEL)]
        self._put_back()
        return f"there is {strays[0]!r}" if strays else ""

    def _put_back(self) -> None:
        journal = Path("model/journal.jsonl")
        names = sorted(path.name for path in self.registry.root.iterdir())
        is_same = (self.registry.root / journal).read_bytes() == (self.sound / journal).read_bytes()
        if names != ["linked", "model"] or not is_same:
            shutil.rmtree(self.registry.root)
            shutil.copytree(self.sound, self.registry.root, symlinks=True)


_PARTS = ("inside", "outside", "here")
Argument = Callable[[Ground, str], object]


def _publish_with_path(ground: Ground, text: str) -> None:
    """Publishes an artifact whose manifest lists such a path, with the digest of the file that must not be read."""

    def edit(document: Document) -> None:
        document["files"][text] = digest_file(ground.secret).model_dump()

    directory = ground.inside / "listed"
    shutil.rmtree(directory, ignore_errors=True)
    ground.registry.publish(seal(shutil.copytree(ground.artifact, directory), edit), "model")


def _import_member(ground: Ground, text: str) -> None:
    """Imports an archive with such a member; what no tar file can hold is not tried."""
    path = ground.inside / "member.tar"
    with path.open("wb") as file:
        for name, content in [(text.encode(errors="replace").decode(), b"x"), *list_members(ground.artifact)]:
            write_member(file, name, None if content is None else io.BytesIO(content))
        write_end(file)
    import_archive(ground.registry, path, "member", check=lambda _: None)


def _check_zip_member(ground: Ground, text: str) -> None:
    """Checks an archive with such a member; one without a name cannot be made here."""
    if not text.partition("\0")[0]:
        return
    path = ground.inside / "member.keras"
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w") as archive:
        warnings.simplefilter("ignore", UserWarning)  # two members of one name
        for name, content in {**make_members(), text.encode(errors="replace").decode(): "x"}.items():
            archive.writestr(name, content)
    check_keras(path)


API: dict[str, Argument] = {
    "versions NAME": lambda ground, text: ground.registry.versions(text),
    "aliases NAME": lambda ground, text: ground.registry.aliases(text),
    "get NAME": lambda ground, text: ground.registry.get(text, 1),
    "resolve NAME": lambda ground, text: ground.registry.resolve(text),
    "resolve model REFERENCE": lambda ground, text: ground.registry.resolve("model", text),
    "read_reference": lambda ground, text: read_reference(text),
    "publish NAME": lambda ground, text: ground.registry.publish(ground.artifact, text),
    "publish ORIGIN": lambda ground, text: ground.registry.publish(ground.artifact, "model", origin=text),
    "set_alias NAME": lambda ground, text: ground.registry.set_alias(text, "canary", 1),
    "set_alias ALIAS": lambda ground, text: ground.registry.set_alias("model", text, 1),
    "remove_alias ALIAS": lambda ground, text: ground.registry.remove_alias("model", text),
    "promote to ALIAS": lambda ground, text: ground.registry.promote("model", 1, text),
    "rollback ALIAS": lambda ground, text: ground.registry.rollback("model", text),
    "tag KEY": lambda ground, text: ground.registry.tag("model", 1, text, "x"),
    "tag VALUE": lambda ground, text: ground.registry.tag("model", 1, "x", text),
    "describe TEXT": lambda ground, text: ground.registry.describe("model", 1, text),
    "history NAME": lambda ground, text: ground.registry.history(text),
    "at ALIAS": lambda ground, text: ground.registry.at("model", _NOW, text),
    "metadata NAME": lambda ground, text: ground.registry.metadata(text, 1),
    "signature_file NAME": lambda ground, text: ground.registry.signature_file(text, 1),
    "summaries NAME": lambda ground, text: list(ground.registry.summaries(text)),
    "lineage NAME": lambda ground, text: ground.registry.lineage(text),
    "verify NAME": lambda ground, text: ground.registry.verify(text),
    "repair NAME": lambda ground, text: ground.registry.repair(text),
    "gc NAME": lambda ground, text: ground.registry.gc(text),
    "the name of a variant": lambda ground, text: read_manifest(ground.artifact).variant(text),
    "a file of an artifact": lambda ground, text: check_file(ground.artifact, read_manifest(ground.artifact), text),
    "a path in a manifest": _publish_with_path,
    "a member of a tar file": _import_member,
    "a member of a .keras file": _check_zip_member,
    "a member of an archive": lambda ground, text: check_member_names([text]),
    "a model that is asked": lambda ground, text: ground.service.get(text),
}
COMMANDS: tuple[tuple[str, ...], ...] = (
    ("list", "?"),
    ("show", "?"),
    ("card", "?"),
    ("diff", "?", "model/1"),
    ("diff", "model/1", "?"),
    ("history", "?"),
    ("lineage", "?"),
    ("at", "?", "2026-01-01"),
    ("at", "model", "?"),
    ("alias", "?", "canary", "1"),
    ("alias", "model", "?", "1"),
    ("alias", "model", "canary", "?"),
    ("alias", "model", "canary", "1", "--expected", "?"),
    ("promote", "?"),
    ("promote", "model/1", "--to", "?"),
    ("rollback", "?"),
    ("tag", "?", "a=b"),
    ("tag", "model/1", "?"),
    ("describe", "?", "text"),
    ("describe", "model/1", "?"),
    ("verify", "?"),
    ("repair", "?"),
    ("gc", "?"),
    ("export", "?", "TAR"),
    ("import", "ARCHIVE", "--trust", "--name", "?"),
    ("sign", "?", "--key", "KEY"),
)
"""Of `bmp models`; `?` is the argument that is tried."""


def _make_command(words: tuple[str, ...]) -> Argument:
    def run(ground: Ground, text: str) -> None:
        known = {
            "?": text,
            "TAR": str(ground.inside / "out.tar"),
            "ARCHIVE": str(ground.archive),
            "KEY": str(ground.key),
        }
        line = ["models", *(known.get(word, word) for word in words), "--registry", str(ground.registry.root)]
        result = CliRunner().invoke(main, line)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code in (0, 1, 2), f"it ended with {result.exit_code}"
        assert "Traceback" not in result.output and make_printable(result.output) == result.output, result.output

    return run


ARGUMENTS: dict[str, Argument] = {
    **API,
    **{f"bmp models {' '.join(words)}": _make_command(words) for words in COMMANDS},
}


def try_name(ground: Ground, text: str, arguments: dict[str, Argument] = ARGUMENTS) -> dict[str, str]:
    """Tries a string on arguments; nothing may escape, or end but in a sentence.

    Returns:
        By argument what was wrong; what escaped stands under all of them together.
    """
    wrong = {}
    for name, argument in arguments.items():
        try:
            with contextlib.suppress(BmpError):
                argument(ground, text)
        except Exception as error:
            wrong[name] = f"it ended with {type(error).__name__}: {error}"[:500]
    if escape := ground.find_escape():
        wrong["one of them"] = escape
    return wrong


def describe(wrong: dict[str, str]) -> str:
    """Returns what was wrong, in a line."""
    return "; ".join(f"{name}: {words}" for name, words in wrong.items())
