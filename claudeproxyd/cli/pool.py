"""``claudeproxyd pool``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

import msgspec

from claudeproxyd.cli.admin import Admin, AdminCommand
from claudeproxyd.cli.figures import counted, span, table

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime


class ToldCooldown(msgspec.Struct):
    """A span in which a credential is not offered."""

    model: str | None
    outcome: str | None
    reason: str
    remaining: float


class ToldGate(msgspec.Struct):
    """What the pool has learned of a place where attempts fail."""

    model: str | None
    told: str
    reason: str


class ToldFailure(msgspec.Struct):
    """The last attempt that failed."""

    outcome: str
    seconds_ago: float


class ToldCredential(msgspec.Struct):
    """One credential, as the pool tells of it."""

    provider: str
    credential: str
    state: str
    trouble: bool
    in_flight: int
    max_concurrency: int
    cooldowns: list[ToldCooldown]
    gates: list[ToldGate]
    last_failure: ToldFailure | None


class ToldWaiting(msgspec.Struct):
    """A client's requests that wait for a credential."""

    client: str
    requests: int
    longest: float


class ToldOutage(msgspec.Struct):
    """A model that nobody serves."""

    model: str
    reason: str
    ready_in: float | None
    refused: int


class ToldPool(msgspec.Struct):
    """The pool."""

    total: int
    gauges: dict[str, int]
    """In sum, whatever part of the credentials is told: ``in_flight``, ``waiting`` and others."""
    queue: list[ToldWaiting]
    credentials: list[ToldCredential]
    unserved: list[ToldOutage] = []


class PoolCommand(AdminCommand):
    """Prints each credential: how it is, why it rests and for how long; those in trouble first."""

    optFlags: ClassVar = [["json", None, "Print the daemon's own answer."]]

    async def ask(self, admin: Admin, clock: IReactorTime) -> int:
        """See the base."""
        raw = await admin.raw("GET", "/admin/v1/pool", {})
        return self.show(raw, "\n".join(pool_in_words(admin.read(raw, ToldPool))))


def pool_in_words(pool: ToldPool, most: int | None = None) -> Sequence[str]:
    """Return the lines that show the pool, at most so many credentials."""
    trouble = sum(each.trouble for each in pool.credentials)
    under_way, waiting = pool.gauges.get("in_flight", 0), pool.gauges.get("waiting", 0)
    lines = [
        f"{counted(pool.total, 'credential')}, {trouble} in trouble;"
        f" {counted(under_way, 'attempt')} under way,"
        f" {counted(waiting, 'request')} waiting"
        + "".join(f"; {each.client or 'anyone'}: {each.requests} for {span(each.longest)}" for each in pool.queue)
    ]
    lines += [f"nobody serves {each.model}: {_outage(each)}" for each in pool.unserved[:most]]
    shown = pool.credentials[:most]
    if shown:
        rows = [_row(each) for each in shown]
        lines.append(table(["PROVIDER", "CREDENTIAL", "STATE", "NOW", "WHY"], rows, right="NOW"))
    if len(shown) < pool.total:
        lines.append(f"and {pool.total - len(shown)} more")
    return lines


def _outage(each: ToldOutage) -> str:
    refused = f", {counted(each.refused, 'request')} refused" if each.refused else ""
    following = "" if each.ready_in is None else f", next try in {span(each.ready_in)}"
    return f"{each.reason.replace('_', ' ') or 'the next request may try'}{refused}{following}"


def _row(each: ToldCredential) -> Sequence[str]:
    limit = f"/{each.max_concurrency}" if each.max_concurrency else ""
    why = [_cooldown(cooldown) for cooldown in each.cooldowns]
    why += [_because(f"{gate.told}{_of(gate.model)}", gate.reason) for gate in each.gates]
    if not why and each.last_failure is not None:
        why = [f"last failed {span(each.last_failure.seconds_ago)} ago: {each.last_failure.outcome}"]
    return each.provider, each.credential, each.state, f"{each.in_flight}{limit}", "; ".join(why)


def _cooldown(cooldown: ToldCooldown) -> str:
    words = f"{cooldown.outcome or 'rests'}{_of(cooldown.model)} for {span(cooldown.remaining)}"
    return _because(words, cooldown.reason)


def _because(words: str, reason: str) -> str:
    return f"{words}: {reason}" if reason else words


def _of(model: str | None) -> str:
    return f" ({model})" if model else ""
