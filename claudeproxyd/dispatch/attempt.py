"""One upstream request made with one lease."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from claudeproxyd.dispatch.call import Call
    from claudeproxyd.leases import Credential


class Attempt:
    """What an executor needs to know. Made by dispatch for each try."""

    __slots__ = ("call", "credential", "model", "number", "refreshed")

    def __init__(self, call: Call, credential: Credential, model: str, number: int) -> None:
        self.call = call
        self.credential = credential
        self.model = model
        """The upstream's name for the model."""
        self.number = number
        """From 1, for logs."""
        self.refreshed = False
        """Its credential's secret was refreshed for this request already."""
