"""How the C library treats memory that has been freed."""

import ctypes

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # as <malloc.h> of glibc has them
_KEPT_BYTES, _MAPPED_FROM_BYTES = 4 * 2**20, 2**20


def keep_freed_memory() -> None:
    """Has a process keep a little of what it frees, for the next request.

    By default glibc hands the memory of each larger body back to the kernel and asks for it again, page by page. Other
    C libraries have no such settings, and need none.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_TRIM_THRESHOLD, _KEPT_BYTES)
        mallopt(_MMAP_THRESHOLD, _MAPPED_FROM_BYTES)
