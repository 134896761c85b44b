"""seccomp: a process that gives up system calls for good. What Landlock does not know is closed here.

Reference:
    https://docs.kernel.org/userspace-api/seccomp_filter.html
"""

import ctypes
import errno
import os
import platform
import struct
from collections.abc import Iterable

_SET_SECCOMP, _FILTER_MODE = 22, 2
_MACHINES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}  # audit numbers of the two machines

# fmt: off
_NUMBERS: dict[str, tuple[int | None, int | None]] = {
    # A new process would be out of reach of the limits, and of the parent that waits.
    "fork": (57, None), "vfork": (58, None), "execve": (59, 221), "execveat": (322, 281),
    # Every kind of socket; io_uring opens them, and files, past this filter.
    "socket": (41, 198), "io_uring_setup": (425, 425),
    # Other processes: their memory, descriptors and signals, shared memory, keys of the user.
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271),
    "kill": (62, 129), "tkill": (200, 130), "pidfd_send_signal": (424, 424), "pidfd_getfd": (438, 438),
    "shmget": (29, 194), "msgget": (68, 186), "semget": (64, 190),
    "add_key": (248, 217), "request_key": (249, 218), "keyctl": (250, 219),
    # Namespaces give back what was given up; the others are doors into the kernel.
    "unshare": (272, 97), "setns": (308, 268), "mount": (165, 40), "open_by_handle_at": (304, 265),
    "bpf": (321, 280), "perf_event_open": (298, 241), "userfaultfd": (323, 282),
    # What stands beside a file's content: Landlock lets it be changed everywhere.
    "chmod": (90, None), "fchmod": (91, 52), "fchmodat": (268, 53), "fchmodat2": (452, 452),
    "chown": (92, None), "fchown": (93, 55), "lchown": (94, None), "fchownat": (260, 54),
    "setxattr": (188, 5), "lsetxattr": (189, 6), "fsetxattr": (190, 7), "setxattrat": (463, 463),
    "removexattr": (197, 14), "lremovexattr": (198, 15), "fremovexattr": (199, 16), "removexattrat": (466, 466),
    "utime": (132, None), "utimes": (235, None), "futimesat": (261, None), "utimensat": (280, 88),
}
# fmt: on
"""Calls that are refused: their numbers on x86_64 and aarch64, None where there is no such call."""

_CLONE, _CLONE3, _TGKILL = (56, 220), (435, 435), (234, 131)
_IS_THREAD = 0x00010000
_X32 = 0x40000000

# Words of the filter's language, and places in the record it looks at.
_LOAD, _JUMP_EQUAL, _JUMP_LEAST, _JUMP_BITS, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_AT_NUMBER, _AT_MACHINE, _AT_FIRST_ARGUMENT = 0, 4, 16
_ALLOW, _KILL, _FAIL = 0x7FFF0000, 0x80000000, 0x00050000


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def has_seccomp() -> bool:
    """Returns whether the kernel filters system calls, and this is a machine whose calls are known here."""
    if platform.machine() not in _MACHINES:
        return False
    library = ctypes.CDLL(None, use_errno=True)
    library.prctl(_SET_SECCOMP, _FILTER_MODE, None)  # never succeeds: EFAULT says that only the program is missing
    return ctypes.get_errno() == errno.EFAULT


def refuse_calls() -> None:
    """Refuses this thread, and those it starts, the calls above; for good. Threads can still be started.

    Raises:
        OSError: The kernel refuses; it wants `no_new_privs` first.
    """
    program = b"".join(_compile(platform.machine()))
    record = _Program(len(program) // 8, program)
    library = ctypes.CDLL(None, use_errno=True)
    if library.prctl(_SET_SECCOMP, _FILTER_MODE, ctypes.byref(record), 0, 0):
        raise OSError(ctypes.get_errno(), f"seccomp: {os.strerror(ctypes.get_errno())}")


def _compile(machine: str) -> Iterable[bytes]:
    """Returns the filter, one 8-byte word after another; each jump says how many words it passes over."""
    column = list(_MACHINES).index(machine)
    clone, clone3, tgkill = _CLONE[column], _CLONE3[column], _TGKILL[column]
    refused = _FAIL | errno.EPERM
    yield _word(_LOAD, _AT_MACHINE)
    yield from (_word(_JUMP_EQUAL, _MACHINES[machine], 1, 0), _word(_RETURN, _KILL))
    yield _word(_LOAD, _AT_NUMBER)
    if machine == "x86_64":  # its second table of calls
        yield from (_word(_JUMP_LEAST, _X32, 0, 1), _word(_RETURN, refused))
    for number in (numbers[column] for numbers in _NUMBERS.values()):
        if number is not None:
            yield from (_word(_JUMP_EQUAL, number, 0, 1), _word(_RETURN, refused))
    # The C library falls back to clone, whose flags can be seen; those of clone3 stand in memory.
    yield from (_word(_JUMP_EQUAL, clone3, 0, 1), _word(_RETURN, _FAIL | errno.ENOSYS))
    yield from (_word(_JUMP_EQUAL, clone, 0, 4), _word(_LOAD, _AT_FIRST_ARGUMENT))
    yield from (_word(_JUMP_BITS, _IS_THREAD, 0, 1), _word(_RETURN, _ALLOW), _word(_RETURN, refused))
    # A signal to itself is how a process aborts.
    yield from (_word(_JUMP_EQUAL, tgkill, 0, 3), _word(_LOAD, _AT_FIRST_ARGUMENT))
    yield from (_word(_JUMP_EQUAL, os.getpid(), 1, 0), _word(_RETURN, refused))
    yield _word(_RETURN, _ALLOW)


def _word(code: int, value: int, if_so: int = 0, if_not: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_so, if_not, value)
