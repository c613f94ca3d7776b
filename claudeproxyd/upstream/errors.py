"""Errors between the daemon and an upstream, below the meaning of its responses.

Raised by :mod:`claudeproxyd.upstream.client`; executors make :class:`~claudeproxyd.outcomes.types.Evidence` of them.
The text of each is a plain sentence that may be logged and shown: it names hosts and limits, never headers, bodies or
passwords.
"""

from __future__ import annotations

from claudeproxyd.outcomes.types import AttemptPhase, Failure


class UpstreamError(Exception):
    """No complete response came."""

    phase: AttemptPhase
    """How far the request had come when it failed."""
    failure: Failure


class ConnectFailed(UpstreamError):
    """No connection: refused, unreachable, or lost before it was of use. Nothing was sent."""

    phase = AttemptPhase.CONNECT
    failure = Failure.CONNECT


class ConnectTimedOut(UpstreamError):
    """No connection in time, TLS and the wait for a free one included. Nothing was sent."""

    phase = AttemptPhase.CONNECT
    failure = Failure.CONNECT_TIMEOUT


class NameNotFound(UpstreamError):
    """The host's name has no address."""

    phase = AttemptPhase.CONNECT
    failure = Failure.DNS


class TLSFailed(UpstreamError):
    """The upstream's certificate is not trusted, not for this name or not valid now, or it does not speak our TLS."""

    phase = AttemptPhase.TLS
    failure = Failure.TLS


class ProxyRefused(UpstreamError):
    """The proxy would not let us through; with 407 it wants other credentials."""

    phase = AttemptPhase.PROXY

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.failure = Failure.PROXY_AUTH if status == 407 else Failure.CONNECT


class FirstByteTimedOut(UpstreamError):
    """The request is out, and no head of an answer came in time."""

    phase = AttemptPhase.HEAD
    failure = Failure.FIRST_BYTE_TIMEOUT


class _WithPhase(UpstreamError):
    """An error that may come in the head or after it."""

    def __init__(self, message: str, phase: AttemptPhase = AttemptPhase.ANSWER) -> None:
        super().__init__(message)
        self.phase = phase


class IdleTimedOut(UpstreamError):
    """The answer began and then fell silent."""

    phase = AttemptPhase.ANSWER
    failure = Failure.IDLE_TIMEOUT


class Cut(_WithPhase):
    """The connection ended before the answer was whole."""

    failure = Failure.CUT


class Malformed(_WithPhase):
    """The answer is not the HTTP that we accept: its framing cannot be relied on."""

    failure = Failure.MALFORMED


class TooLarge(UpstreamError):
    """A body that was to be read whole passed the reader's limit."""

    phase = AttemptPhase.ANSWER
    failure = Failure.MALFORMED


class Lacking(UpstreamError):
    """We have no descriptor, port or memory left for a connection. Nothing was sent, and nobody else is to blame."""

    phase = AttemptPhase.CONNECT
    failure = Failure.INTERNAL


class InternalError(_WithPhase):
    """Our own code failed on the answer; the upstream is not to blame."""

    failure = Failure.INTERNAL
