"""A hostile thing: what it is, how it is made, and where it is played."""

import codecs
import marshal
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

Kind = Literal[
    "h5", "keras", "saved_model", "litert", "torch", "sklearn", "pickle", "samples", "tar", "artifact", "journal"
]
Snapshot = dict[str, tuple[int, int, bytes]]


class Place:
    """Where a case is played: it lies inside, and nothing outside may be touched.

    Args:
        root: A directory of its own, which need not exist yet.
    """

    def __init__(self, root: Path) -> None:
        self.inside, self.outside = root / "inside", root / "outside"
        self.canary = self.outside / "canary"
        """A file that is there if code of the case has run."""
        self.secret = self.outside / "secret.txt"
        self.inside.mkdir(parents=True)
        self.outside.mkdir()
        self.secret.write_text("0123456789" * 10)

    def look_outside(self) -> Snapshot:
        """Returns everything outside: mode, time of change and bytes of each file, by path."""
        found: Snapshot = {}
        for path in sorted(self.outside.rglob("*")):
            status = path.lstat()
            content = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
            found[str(path)] = (status.st_mode, status.st_mtime_ns, content)
        return found

    @cached_property
    def payload(self) -> "Payload":
        """What hostile files bring along, to be run."""
        return Payload(str(self.canary))


@dataclass(frozen=True)
class Payload:
    """Code that makes the canary, in the forms that files bring code along in.

    Args:
        path: Of the canary.
    """

    path: str

    def __reduce__(self) -> Any:
        """Pickled, this is a call of `open`."""
        return open, (self.path, "w")

    def to_marshal(self) -> str:
        """Returns the code of `lambda x: …` as Keras 2 and 3 store it."""
        function: Any = eval(f"lambda x: (open({self.path!r}, 'w').close(), x)[1]")
        return codecs.encode(marshal.dumps(function.__code__), "base64").decode()


@dataclass(frozen=True)
class Case:
    """A hostile thing.

    Args:
        kind: Of thing, which says by which ways it may come in.
        name: What it tries.
        build: Makes it, and returns where it is.
    """

    kind: Kind
    name: str
    build: Callable[[Place], Path]

    def __str__(self) -> str:
        return f"{self.kind}: {self.name}"


class Cases(list[Case]):
    """Cases of one kind, each made by a function whose name says what it tries.

    Args:
        kind: Of them.
    """

    def __init__(self, kind: Kind) -> None:
        super().__init__()
        self.kind = kind

    def __call__(self, build: Callable[[Place], Path]) -> Callable[[Place], Path]:
        """Takes a builder in."""
        self.append(Case(self.kind, build.__name__.replace("_", " "), build))
        return build

    def spoil(self, make: Callable[..., Path]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Takes in what spoils a sound thing: `make(place, change)` makes it, and calls `change(thing, place)`."""

        def take(change: Callable[..., Any]) -> Callable[..., Any]:
            name = change.__name__.replace("_", " ")
            self.append(Case(self.kind, name, lambda place: make(place, lambda thing: change(thing, place))))
            return change

        return take
