"""What the process does with memory that is free: when garbage is looked for, and what the kernel gets back."""

from __future__ import annotations

import ctypes
import gc

#: Bytes at the heap's end that are kept for the next requests.
KEPT_BYTES = 16_777_216
#: Larger pieces have pages of their own, which the kernel gets back with them.
OWN_PAGES_BYTES = 1_048_576
#: The garbage collector's thresholds: it looks at so many new objects at once, which takes up to 4 ms; at what has
#: outlived that, when it was done so often, up to 20 ms; and at nothing else.
THRESHOLDS = (5_000, 5, 1_000_000)
#: Objects that are looked at in 30 ms.
FEW_OBJECTS = 30_000
#: Looks at more of them that are put off before there is one.
MOST_PUT_OFF = 5
# Of glibc's malloc.h.
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3


def freeze_gc() -> None:
    """Exempt all present objects from garbage collection, and have it run in small bites; see :class:`OldGarbage`.

    They stay for good, and a request leaves next to nothing in cycles. It takes a tenth of a request's time otherwise.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)


class OldGarbage:
    """What looks for cycles among objects that have outlived two looks: open streams, above all.

    A look at ten thousand of these takes half a second, in which nobody is served.
    """

    def __init__(self) -> None:
        self._put_off = 0

    def look(self) -> None:
        """Collect, unless there is so much to look at that it has to be put off. Called every ten minutes."""
        if self._put_off < MOST_PUT_OFF and len(gc.get_objects(2)) > FEW_OBJECTS:
            self._put_off += 1
        else:
            self._put_off = 0
            gc.collect()


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
