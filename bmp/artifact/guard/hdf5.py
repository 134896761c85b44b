"""HDF5 files, looked through before any of their numbers is read: links, storage, filters, types and sizes.

What is not checked is HDF5 itself: its library reads the structures of the file, and a flaw in it is a matter for the
sandbox around.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from bmp.artifact.guard.config import check_config, read_json
from bmp.artifact.guard.limits import Limits, check_file
from bmp.errors import ArtifactError, UnsafeError

if TYPE_CHECKING:
    import h5py

MAGIC = b"\x89HDF\r\n\x1a\n"
_FILTERS = {1: "deflate", 2: "shuffle", 3: "fletcher32"}
"""Those that HDF5 itself has; any other is a library that would have to be loaded."""


def check_h5(path: Path, limits: Limits = Limits()) -> None:  # noqa: B008 - immutable
    """Checks a Keras model in an `.h5` file: the file, and the description of the network in it.

    Args:
        path: To the file.
        limits: On sizes and counts.

    Raises:
        ArtifactError: It is no whole HDF5 file, or holds no network.
        UnsafeError: Reading it could do harm.
    """
    check_file(path, limits, "an HDF5 file")
    with path.open("rb") as content, open_h5(content, path.name, limits) as file:
        check_config(read_model_config(file, path.name, limits), limits)


@contextmanager
def open_h5(content: BinaryIO, name: str, limits: Limits) -> Iterator["h5py.File"]:
    """Opens an HDF5 file after looking through all of it.

    Args:
        content: Of the file. HDF5 reads it through Python, so that it opens no other.
        name: Of the file, for messages.
        limits: On sizes and counts.

    Raises:
        ArtifactError: It is no whole HDF5 file.
        UnsafeError: It refers to other files, asks for a filter of its own or holds more than it seems to.
    """
    import h5py

    if content.read(len(MAGIC)) != MAGIC:
        raise ArtifactError(f"{name} is no HDF5 file: it does not begin as one.", expected="an HDF5 file")
    size = content.seek(0, 2)
    content.seek(0)
    with _translate(name), h5py.File(content, "r") as file:
        _Walk(name, size, limits).check(file.id)
        yield file


@contextmanager
def _translate(name: str) -> Iterator[None]:
    """Turns what h5py raises on damaged files into one sentence."""
    try:
        yield
    except ArtifactError:
        raise
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, EOFError, OverflowError, MemoryError) as error:
        raise ArtifactError(f"{name} is no whole HDF5 file: {' '.join(str(error).split())[:200]}.") from error


def read_model_config(file: "h5py.File", name: str, limits: Limits) -> Any:
    """Returns the description of the network in an `.h5` file, as JSON gives it.

    Raises:
        ArtifactError: There is none, as in a file of weights alone.
        UnsafeError: It is too large.
    """
    text = read_text(file, "model_config")
    if text is None:
        raise ArtifactError(
            f"{name} holds no network, only arrays: there is no attribute 'model_config'. Save the whole model "
            "with model.save, not its weights."
        )
    return read_json(text, f"The description of the network in {name}", limits)


def read_text(item: "h5py.Group", name: str) -> str | None:
    """Returns an attribute that is text, or None where there is none."""
    value = item.attrs.get(name)
    return value.decode("utf-8") if isinstance(value, bytes) else None if value is None else str(value)


class _Walk:
    """Visits every object of a file once, without reading what it holds."""

    def __init__(self, name: str, size_bytes: int, limits: Limits) -> None:
        self._name, self._size_bytes, self._limits = name, size_bytes, limits
        self._seen: set[int] = set()
        self._declared_bytes = self._stored_bytes = self._texts = 0

    def check(self, root: Any) -> None:
        """Checks everything below the root."""
        self._check_group(root, "/", 0)
        # All texts of a list may be the same one, and it is not longer than what the file has beside its arrays.
        text_bytes = self._texts * (self._size_bytes - self._stored_bytes)
        if text_bytes > self._limits.size_bytes:
            raise self._refuse("a list of texts", f"could become {text_bytes:,} bytes")

    def _check_group(self, group: Any, path: str, depth: int) -> None:
        import h5py

        self._enter(group, path, depth)
        for raw in group:
            inner = f"{path.rstrip('/')}/{raw.decode('utf-8', 'replace')}"
            kind = group.links.get_info(raw).type
            if kind != h5py.h5l.TYPE_HARD:
                words = {h5py.h5l.TYPE_SOFT: "a soft link", h5py.h5l.TYPE_EXTERNAL: "a link to another file"}
                raise self._refuse(inner, f"is {words.get(kind, 'a link of an unknown kind')}")
            item = h5py.h5o.open(group, raw)
            if isinstance(item, h5py.h5g.GroupID):
                self._check_group(item, inner, depth + 1)
            elif isinstance(item, h5py.h5d.DatasetID):
                self._check_dataset(item, inner, depth + 1)
            else:
                raise self._refuse(inner, "is a type by itself, not an array")

    def _enter(self, item: Any, path: str, depth: int) -> None:
        import h5py

        address = h5py.h5o.get_info(item).addr
        if address in self._seen:
            raise self._refuse(path, "is another name of an object that stands elsewhere in the file")
        self._seen.add(address)
        if len(self._seen) > self._limits.objects or depth > self._limits.depth:
            raise self._refuse(path, f"is one of more than {self._limits.objects:,} objects, or nests too deep")
        for number in range(h5py.h5a.get_num_attrs(item)):
            self._check_attribute(h5py.h5a.open(item, index=number), path)

    def _check_attribute(self, attribute: Any, path: str) -> None:
        import h5py

        kind, space = attribute.get_type(), attribute.get_space()
        count = space.get_simple_extent_npoints()
        where = f"{path}, attribute {attribute.name.decode('utf-8', 'replace')[:80]!r},"
        if isinstance(kind, h5py.h5t.TypeStringID) and kind.is_variable_str():
            self._texts = max(self._texts, count)
        elif not isinstance(kind, (h5py.h5t.TypeStringID, h5py.h5t.TypeIntegerID, h5py.h5t.TypeFloatID)):
            raise self._refuse(where, f"is of a type that Keras does not write ({_describe(kind)})")
        elif count * kind.get_size() > self._limits.config_bytes:
            raise self._refuse(where, f"has {count * kind.get_size():,} bytes")

    def _check_dataset(self, dataset: Any, path: str, depth: int) -> None:
        import h5py

        self._enter(dataset, path, depth)
        kind, creation = dataset.get_type(), dataset.get_create_plist()
        if not isinstance(kind, (h5py.h5t.TypeIntegerID, h5py.h5t.TypeFloatID)):
            raise self._refuse(path, f"is no array of numbers ({_describe(kind)})")
        if creation.get_external_count():
            raise self._refuse(path, "keeps its numbers in another file")
        if creation.get_layout() == h5py.h5d.VIRTUAL:
            raise self._refuse(path, "is put together from other files")
        self._check_filters(creation, path)
        declared = max(dataset.get_space().get_simple_extent_npoints(), _count_chunk(creation)) * kind.get_size()
        self._declared_bytes += declared
        self._stored_bytes += dataset.get_storage_size()
        self._limits.check_growth(f"{self._name}, with {path},", self._size_bytes, self._declared_bytes)

    def _check_filters(self, creation: Any, path: str) -> None:
        for number in range(creation.get_nfilters()):
            code = creation.get_filter(number)[0]
            if code not in _FILTERS:
                raise self._refuse(path, f"is packed by the filter {code}, which would have to be loaded")

    def _refuse(self, path: str, fault: str) -> UnsafeError:
        shown = "".join(character if character.isprintable() else "?" for character in path)[:200]
        return UnsafeError(
            f"{self._name} is refused: {shown} {fault}. Keras writes plain arrays in groups; save the model again "
            "with it.",
            expected="groups and plain arrays",
            received=fault,
        )


def _count_chunk(creation: Any) -> int:
    """Returns how many numbers are unpacked to read one of them."""
    import h5py

    if creation.get_layout() != h5py.h5d.CHUNKED:
        return 0
    count = 1
    for size in creation.get_chunk():
        count *= size
    return count


def _describe(kind: Any) -> str:
    return type(kind).__name__.removeprefix("Type").removesuffix("ID").lower() or "unknown"
