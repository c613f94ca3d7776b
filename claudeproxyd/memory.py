"""What the process does with memory that is free: when garbage is looked for, and what the kernel gets back."""

from __future__ import annotations

import ctypes
import gc

#: Bytes at the heap's end that are kept for the next requests.
KEPT_BYTES = 16_777_216
#: Larger pieces have pages of their own, which the kernel gets back with them.
OWN_PAGES_BYTES = 1_048_576
# Of glibc's malloc.h.
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3


def freeze_gc() -> None:
    """Exempt all present objects from garbage collection, and have it run seldom.

    They stay for good, and a request leaves next to nothing in cycles. It takes a tenth of a request's time otherwise.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


def keep_pages() -> None:
    """Have glibc keep what requests of a usual size leave free.

    It gives back what is more than 128 KB otherwise, page by page with each body that is done with, and has the pages
    of the next one faulted in anew. Does nothing where there is no glibc.
    """
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_option is not None:
        set_option(_M_TRIM_THRESHOLD, KEPT_BYTES)
        set_option(_M_MMAP_THRESHOLD, OWN_PAGES_BYTES)


def give_back() -> None:
    """Give the kernel all that is free: large bodies leave holes in the heap, which glibc keeps otherwise."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
