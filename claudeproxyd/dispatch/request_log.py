"""What is noted of one request on its way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from claudeproxyd.messages.usage import Usage
    from claudeproxyd.observe.tracing import RequestTrace


@dataclass(slots=True)
class RequestLog:
    """Filled in by dispatch; read by web for the access log and the metrics, when the request is over."""

    trace: RequestTrace | None = None
    """Its trace, if it has one; ended by web."""
    session: str = ""
    """What its affinity goes by."""
    attempts: int = 0
    upstream_time: float = 0.0
    """Seconds that attempts took, and waiting for leases: what is left of the whole is our own doing."""
    events: int = 0
    """Events of a message that the client was sent."""
    provider: str = ""
    """Of the last attempt, like ``credential`` and ``model_served``."""
    credential: str = ""
    model_served: str = ""
    outcome: str = ""
    """What the whole request came to: an outcome's name."""
    error: str = ""
    """What the client was told, shortened, or ''."""
    refusal: str = ""
    """Why it was refused, by the name that metrics have, or ''."""
    stop_reason: str | None = None
    usage: Usage | None = None
    first_byte: float | None = None
    """When the upstream's head came, on the reactor's clock."""
    first_content: float | None = None
    """When the first content event came."""
