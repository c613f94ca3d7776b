"""What operators can ask to be told of at once, by name."""

from __future__ import annotations

from enum import StrEnum


class Happening(StrEnum):
    """Something began that they should look at, or it is over."""

    MODEL_UNSERVED = "model.unserved"
    MODEL_SERVED = "model.served"
    CREDENTIAL_REFUSED = "credential.refused"
    LIMIT_WARNED = "limit.warned"
    RELOAD_FAILED = "reload.failed"


#: The beginning and the end of what lasts until somebody is served.
OUTAGES = (Happening.MODEL_UNSERVED, Happening.MODEL_SERVED)
