"""What an :class:`~claudeproxyd.interfaces.IStreamReader` raises."""

from __future__ import annotations


class MalformedAnswer(Exception):
    """The upstream sent what is no answer: bytes that do not parse, an order that no message can have."""


class ErrorAnswer(MalformedAnswer):
    """In the place of a whole answer, with a 200, the upstream sent an error: it is read as one with a status is."""

    def __init__(self, body: bytes) -> None:
        super().__init__(f"an error in the place of an answer: {body[:1000].decode('utf-8', 'replace')}")
        self.body = body
        """The error's JSON."""


class ModelFault(Exception):
    """The model, not its server, failed: a call that it malformed, say. Worth one repetition.

    ``str()`` of it is what the upstream called that, such as ``MALFORMED_FUNCTION_CALL``, and its own words.
    """
