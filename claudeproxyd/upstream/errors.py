"""Errors between the daemon and an upstream, below the meaning of its responses.

Raised by :mod:`claudeproxyd.upstream.client`; executors make :class:`~claudeproxyd.outcomes.types.Evidence` of them.
The text of each is a plain sentence that may be logged and shown: it names hosts and limits, never headers, bodies or
passwords.
"""

from __future__ import annotations

from claudeproxyd.outcomes.types import Phase


class UpstreamError(Exception):
    """No complete response came."""

    phase: Phase
    """How far the request had come when it failed."""
    failure: str
    """The word for it in :attr:`claudeproxyd.outcomes.types.Evidence.failure`."""


class ConnectFailed(UpstreamError):
    """No connection: refused, unreachable, or lost before it was of use. Nothing was sent."""

    phase = Phase.CONNECT
    failure = "connect"


class ConnectTimedOut(UpstreamError):
    """No connection in time, TLS and the wait for a free one included. Nothing was sent."""

    phase = Phase.CONNECT
    failure = "connect_timeout"


class NameNotFound(UpstreamError):
    """The host's name has no address."""

    phase = Phase.CONNECT
    failure = "dns"


class TLSFailed(UpstreamError):
    """The upstream's certificate is not trusted, not for this name or not valid now, or it does not speak our TLS."""

    phase = Phase.TLS
    failure = "tls"


class ProxyRefused(UpstreamError):
    """The proxy would not let us through; with 407 it wants other credentials."""

    phase = Phase.PROXY

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.failure = "proxy_auth" if status == 407 else "connect"


class FirstByteTimedOut(UpstreamError):
    """The request is out, and no head of an answer came in time."""

    phase = Phase.HEAD
    failure = "first_byte_timeout"


class _WithPhase(UpstreamError):
    """An error that may come in the head or after it."""

    def __init__(self, message: str, phase: Phase = Phase.ANSWER) -> None:
        super().__init__(message)
        self.phase = phase


class IdleTimedOut(UpstreamError):
    """The answer began and then fell silent."""

    phase = Phase.ANSWER
    failure = "idle_timeout"


class Cut(_WithPhase):
    """The connection ended before the answer was whole."""

    failure = "cut"


class Malformed(_WithPhase):
    """The answer is not the HTTP that we accept: its framing cannot be relied on."""

    failure = "malformed"


class TooLarge(UpstreamError):
    """A body that was to be read whole passed the reader's limit."""

    phase = Phase.ANSWER
    failure = "malformed"


class Lacking(UpstreamError):
    """We have no descriptor, port or memory left for a connection. Nothing was sent, and nobody else is to blame."""

    phase = Phase.CONNECT
    failure = "internal"


class InternalError(_WithPhase):
    """Our own code failed on the answer; the upstream is not to blame."""

    failure = "internal"
