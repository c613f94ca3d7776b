"""What an :class:`~claudeproxyd.interfaces.IStreamReader` raises."""

from __future__ import annotations


class MalformedAnswer(Exception):
    """The upstream sent what is no answer: bytes that do not parse, an order that no message can have."""


class ModelFault(Exception):
    """The model, not its server, failed: a call that it malformed, say. Worth one repetition.

    ``str()`` of it is what the upstream called that, such as ``MALFORMED_FUNCTION_CALL``, and its own words.
    """
