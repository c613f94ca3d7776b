"""What the admin listener tells of the process, and of what its clients do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec

import claudeproxyd
from claudeproxyd.observe.activity import KEPT_MINUTES
from claudeproxyd.observe.scrub import redact_bytes
from claudeproxyd.web.answering import Gather, when_gathered
from claudeproxyd.web.asking import read_query
from claudeproxyd.web.roles import Operator, Role
from claudeproxyd.web.root import Endpoint

if TYPE_CHECKING:
    from collections.abc import Iterator

    from claudeproxyd.observe.activity import ClientActivity, RecentAnswer
    from claudeproxyd.observe.status import Status
    from claudeproxyd.web.request import GatewayRequest

_encode = msgspec.json.Encoder().encode


class ShowStatus(Endpoint):
    """``/admin/v1/status``: version, age, how the last reload went, and whether limits know what was used before."""

    def __init__(self, status: Status) -> None:
        super().__init__()
        self._status = status

    def render_GET(self, request: GatewayRequest) -> None:
        """RecentAnswer with it."""
        status = self._status
        told = {
            "version": claudeproxyd.__version__,
            "started_at": status.started_at,
            "ready": request.gateway.ready(),
            "reload": {
                "at": status.reloaded_at,
                "successful": not status.mistake,
                "mistake": status.mistake,
                "changes": status.changes,
            },
            "limits": {"complete": not status.unknown_use, "why": " ".join(dict.fromkeys(status.unknown_use))},
        }
        request.answer_json(redact_bytes(_encode(told)))


class ShowOperator(Endpoint):
    """``/admin/v1/operator``: who asks, and what they may: the page shows that, and asks for nothing else."""

    seen_by = Role.MINT

    def render_GET(self, request: GatewayRequest) -> None:
        """Answer with it."""
        operator = request.principal
        assert isinstance(operator, Operator)
        told = {"name": operator.name, "role": str(operator.role), "mint": operator.minting}
        request.answer_json(redact_bytes(_encode(told)))


class _ClientsQuery(msgspec.Struct, forbid_unknown_fields=True):
    minutes: Annotated[int, msgspec.Meta(ge=1, le=KEPT_MINUTES)] = 5


class ShowClients(Endpoint):
    """``/admin/v1/clients``: who has requests under way, and what each was answered lately."""

    def __init__(self, activity: ClientActivity, gather: Gather | None = None) -> None:
        super().__init__()
        self._activity = activity
        self._gather = gather

    def render_GET(self, request: GatewayRequest) -> None:
        """RecentAnswer with the clients, and those who are none."""
        minutes = read_query(request, _ClientsQuery).minutes
        gathered = None if self._gather is None else self._gather("clients", minutes)
        when_gathered(request, gathered, lambda: self._answer(request, minutes))

    def _answer(self, request: GatewayRequest, minutes: int) -> None:
        answers = list(self._activity.since(minutes).items())
        told = {
            "minutes": minutes,
            "clients": list(self._clients(answers)),
            "strangers": [
                {
                    "remote": kind.remote,
                    "status": kind.status,
                    "refusal": kind.refusal,
                    "error": kind.error,
                    "requests": count,
                }
                for kind, count in answers
                if not kind.client
            ],
        }
        request.answer_json(redact_bytes(_encode(told)))

    def _clients(self, answers: list[tuple[RecentAnswer, int]]) -> Iterator[dict[str, object]]:
        running = self._activity.running
        found: dict[str, list[dict[str, object]]] = {client: [] for client in running}
        for kind, count in answers:
            if kind.client:
                one = {"status": kind.status, "outcome": kind.outcome, "refusal": kind.refusal, "requests": count}
                found.setdefault(kind.client, []).append(one)
        for client in sorted(found):
            yield {"client": client, "in_flight": running.get(client, 0), "answers": found[client]}
