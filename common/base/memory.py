"""Keep freed memory for the next step.

Every step of an attack frees the activations of its forward pass, some tens of megabytes, and asks for as much again.
glibc hands such blocks back to the system and has them zeroed anew, page by page, which took a third of the time of
PGD on a small residual network. The command line therefore asks it to keep them; a library that is imported into
somebody else's process does not, but may be told to: `carom.common.base.memory.keep_freed_memory()`.

oneDNN keeps the code that it made for each shape, 1 024 of them. Texts come in so many shapes (rows times length) that
this took 270 MB more at 25 000 documents than at 2 500; the command line has it keep fewer.
"""

from __future__ import annotations

import ctypes
import os
import sys

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # names of glibc's mallopt(3)
KEPT = 1 << 30  # bytes at the top of the heap that are kept
KERNELS = 128  # shapes whose code oneDNN keeps
LARGEST = 1 << 25  # bytes: larger blocks still come from the system, one by one (the most glibc admits)


def keep_few_kernels() -> None:
    """Bound what oneDNN keeps, unless the user has said how much. To be called before it is first used."""
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", str(KERNELS))


def keep_freed_memory() -> bool:
    """Whether the allocator took the advice: it does on Linux with glibc."""
    if sys.platform != "linux":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(TRIM_THRESHOLD, KEPT)) and bool(mallopt(MMAP_THRESHOLD, LARGEST))
