"""Landlock: a process that gives up files and the network for good, without being root; Linux 5.19 and later.

Reference:
    https://docs.kernel.org/userspace-api/landlock.html
"""

import ctypes
import errno
import os
from collections.abc import Sequence

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # the same on every processor
_ASKS_VERSION = 1
_PATH_BENEATH = 1
_LEAST_VERSION = 2
"""The first that lets files be renamed from one directory into another, which TensorFlow does as it saves."""

_WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 1, 1 << 2, 1 << 3
_REMOVE_DIR, _REMOVE_FILE = 1 << 4, 1 << 5
_MAKE_DIR, _MAKE_REGULAR = 1 << 7, 1 << 8
_RENAME_ACROSS, _TRUNCATE = 1 << 13, 1 << 14
_READS = _READ_FILE | _READ_DIR
_WRITES = _WRITE_FILE | _REMOVE_DIR | _REMOVE_FILE | _MAKE_DIR | _MAKE_REGULAR | _RENAME_ACROSS | _TRUNCATE
_OF_FILES = _READ_FILE | _WRITE_FILE | _TRUNCATE

_FILES_BY_VERSION = {1: 13, 2: 14, 3: 15, 5: 16}
"""How many kinds of access to files the kernel knows, from which version on."""
_ALL_TCP = 0b11  # bind, connect; from version 4
_ALL_SCOPES = 0b11  # sockets without a path, signals; from version 6


class _Ruleset(ctypes.Structure):
    _fields_ = (("files", ctypes.c_uint64), ("network", ctypes.c_uint64), ("scopes", ctypes.c_uint64))


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed", ctypes.c_uint64), ("directory", ctypes.c_int32))


def landlock_version() -> int:
    """Returns the version of Landlock that the kernel speaks; 0 where it has none, or one too old to be of use."""
    version = ctypes.CDLL(None).syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), _ASKS_VERSION)
    return int(version) if version >= _LEAST_VERSION else 0


def restrict_paths(readable: Sequence[str], writable: Sequence[str]) -> None:
    """Leaves this thread, and those it starts, nothing but some files and directories; for good.

    What is not there is passed over. No TCP connection can be made or taken any more (from version 4 on), and no
    process outside be signalled (from version 6 on).

    Args:
        readable: Files and directories that may be read, with all that is below.
        writable: Directories in which anything may be done.

    Raises:
        OSError: The kernel refuses.
    """
    version = landlock_version()
    files = (1 << max(count for first, count in _FILES_BY_VERSION.items() if first <= version)) - 1
    rules = _Ruleset(files, _ALL_TCP if version >= 4 else 0, _ALL_SCOPES if version >= 6 else 0)
    size = 24 if version >= 6 else 16 if version >= 4 else 8  # older kernels know the first fields alone
    ruleset = _call(_CREATE_RULESET, ctypes.byref(rules), ctypes.c_size_t(size), 0)
    try:
        for path in readable:
            _allow(ruleset, path, _READS)
        for path in writable:
            _allow(ruleset, path, (_READS | _WRITES) & files)
        _call(_RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)


def _allow(ruleset: int, path: str, access: int) -> None:
    try:
        opened = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return
    try:
        if not os.path.isdir(path):  # noqa: PTH112 - no pathlib before the walls stand: it is one import less
            access &= _OF_FILES
        _call(_ADD_RULE, ruleset, _PATH_BENEATH, ctypes.byref(_PathBeneath(access, opened)), 0)
    finally:
        os.close(opened)


def _call(number: int, *arguments: object) -> int:
    result = ctypes.CDLL(None, use_errno=True).syscall(number, *arguments)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"Landlock: {os.strerror(code)} ({errno.errorcode.get(code, code)})")
    return int(result)
