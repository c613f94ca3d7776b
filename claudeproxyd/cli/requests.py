"""``claudeproxyd requests``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

import msgspec

from claudeproxyd.cli.admin import Admin, AdminCommand
from claudeproxyd.cli.figures import dollars, moment, span, table, tokens

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime


class ToldAttempt(msgspec.Struct):
    """One attempt of a request."""

    time: float
    provider: str
    credential: str
    outcome: str
    status: int
    duration: float
    usd: float | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    estimated: bool = False


class ToldRequest(msgspec.Struct):
    """One request, with its attempts in their order: none, where it was refused ahead of the first, or left."""

    request_id: str
    client: str
    model: str
    attempts: list[ToldAttempt]
    operation: str = "messages"
    time: float = 0.0
    """When it ended; this and what follows older daemons do not tell."""
    outcome: str = ""
    status: int = 0


class RequestsCommand(AdminCommand):
    """Prints the last requests, and what became of each attempt, the last first."""

    optParameters: ClassVar = [
        ["client", None, None, "Those of this client."],
        ["session", None, None, "Those of this session."],
        ["id", None, None, "The one with this id: x-claudeproxyd-request-id, which is in the access log too."],
        ["after", None, None, "Those that came after this moment, in seconds since the epoch."],
        ["limit", None, "20", "Attempts to look at, at most."],
    ]
    optFlags: ClassVar = [["json", None, "Print the daemon's own answer."]]

    async def ask(self, admin: Admin, clock: IReactorTime) -> int:
        """See the base."""
        names = {"client": "client", "session": "session", "id": "request_id"}
        query = {name: self[option] for option, name in names.items() if self[option] is not None}
        query["limit"] = f"{self.number('limit', int, 1):.0f}"
        if self["after"] is not None:
            query["after"] = str(self.number("after", float, 0))
        raw = await admin.raw("GET", "/admin/v1/requests", query)
        return self.show(raw, requests_in_words(admin.read(raw, list[ToldRequest])))


def requests_in_words(requests: Sequence[ToldRequest]) -> str:
    """Return their table, a line for each attempt; of those after a request's first the beginning is left out."""
    if not requests:
        return "no request was found"
    rows = []
    for request in requests:
        attempts: Sequence[ToldAttempt | ToldRequest] = request.attempts or [request]
        for index, attempt in enumerate(attempts):
            rows.append([*(_request(request) if index == 0 else ("", "", "", "")), *_attempt(attempt)])
    headings = ["TIME", "CLIENT", "MODEL", "REQUEST", "BY", "OUTCOME", "IN", "OUT", "COST", "TOOK"]
    return table(headings, rows, right="IN OUT COST TOOK")


def _request(request: ToldRequest) -> Sequence[str]:
    model = request.model or "-"
    if request.operation != "messages":
        model += f" ({request.operation})"
    began = request.attempts[0].time if request.attempts else request.time
    return moment(began), request.client or "-", model, request.request_id


def _attempt(attempt: ToldAttempt | ToldRequest) -> Sequence[str]:
    outcome = (
        attempt.outcome if attempt.outcome == "ok" or not attempt.status else f"{attempt.outcome} {attempt.status}"
    )
    if isinstance(attempt, ToldRequest):  # it had none
        return "-", outcome, "-", "-", "-", "-"
    given = [attempt.input_tokens, attempt.cache_read_tokens, attempt.cache_write_tokens]
    known = [count for count in given if count is not None]
    made = "-" if attempt.output_tokens is None else tokens(attempt.output_tokens)
    price = "-" if not known and attempt.output_tokens is None else "unpriced"
    return (
        f"{attempt.provider}/{attempt.credential}",
        outcome,
        tokens(sum(known)) if known else "-",
        f"~{made}" if attempt.estimated else made,
        price if attempt.usd is None else dollars(attempt.usd),
        span(attempt.duration),
    )
