"""The type of header lists, which every part of the house uses."""

from __future__ import annotations

from collections.abc import Sequence

#: Lower-case name and value of each header, in order.
Headers = Sequence[tuple[bytes, bytes]]
