"""How much a model file may ask for. A file over a limit is refused before anything of that size is in memory."""

from dataclasses import dataclass
from pathlib import Path

from bmp.errors import ArtifactError, UnsafeError

_MIB = 2**20


@dataclass(frozen=True)
class Limits:
    """What a model file may be, at most.

    The defaults leave room for every network that one machine trains, and stop what only looks small.

    Args:
        size_bytes: Of the file, of all that is unpacked from it, and of all tensors that it declares.
        ratio: How many times larger than stored something may become. gzip reaches 1,032 on zeros alone; the weights
            of a network of which 99% are pruned shrink to about a fortieth.
        free_bytes: Below this much, unpacked, the ratio does not matter.
        config_bytes: Of the description of a network in JSON.
        graph_bytes: Of the graphs of a SavedModel, constants included.
        members: Of an archive.
        objects: Groups and datasets of an HDF5 file, tables of a flatbuffer, values of a description, nodes of graphs.
        depth: Of anything that nests.
        name_chars: Of a name.
    """

    size_bytes: int = 4096 * _MIB
    ratio: int = 200
    free_bytes: int = 64 * _MIB
    config_bytes: int = 8 * _MIB
    graph_bytes: int = 512 * _MIB
    members: int = 1_000
    objects: int = 500_000
    depth: int = 64
    name_chars: int = 512

    def check_growth(self, what: str, stored_bytes: int, becomes_bytes: int) -> None:
        """Checks that something does not become much larger than it is stored.

        Raises:
            UnsafeError: It does.
        """
        allowed = min(self.size_bytes, max(self.free_bytes, self.ratio * stored_bytes))
        if becomes_bytes > allowed:
            raise UnsafeError(
                f"{what} takes {stored_bytes:,} bytes and would become {becomes_bytes:,}; not more than {allowed:,} "
                "are unpacked, so that no small file can fill the memory.",
                expected=f"at most {allowed:,} bytes",
                received=f"{becomes_bytes:,} bytes",
            )


def check_file(path: Path, limits: Limits, what: str) -> int:
    """Checks that something is a plain file of reasonable size, and returns its size in bytes.

    Args:
        path: To the file.
        limits: On its size.
        what: It should be, such as `an .h5 file`.

    Raises:
        ArtifactError: There is none, or it is a folder, a pipe or a device.
        UnsafeError: It is too large.
    """
    if not path.is_file():
        kind = "a folder" if path.is_dir() else "no plain file" if path.exists() else "not there"
        raise ArtifactError(f"{path} should be {what}, but is {kind}.", expected=what, received=kind)
    size = path.stat().st_size
    if size > limits.size_bytes:
        raise UnsafeError(
            f"{path} has {size:,} bytes; files of up to {limits.size_bytes:,} are read.",
            expected=f"at most {limits.size_bytes:,} bytes",
            received=f"{size:,} bytes",
        )
    return size
