"""Asks issuers for their keys, for operators who want to know what is wrong with one, and what mends it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred, gatherResults

from claudeproxyd.checkup import IssuerFinding
from claudeproxyd.issuers.issuer import FETCH_TIMEOUT, why_not_fetched
from claudeproxyd.issuers.key_set import KeySet

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

    from claudeproxyd.config.schema import IssuerSection
    from claudeproxyd.issuers.published import FetchKeys

_UNREACHABLE = "look at url, jwks_url, proxy and ca_file, and at this machine's DNS and clock"
_NO_KEYS = "look at url and jwks_url: are the issuer's keys published there?"


async def issuer_findings(
    clock: IReactorTime, sections: Iterable[IssuerSection], fetcher: Callable[[IssuerSection], FetchKeys]
) -> list[IssuerFinding]:
    """Return how each issuer is, in their order; all are asked at once, and the keys that the daemon has stay."""
    return await gatherResults(
        [Deferred.fromCoroutine(_finding(clock, section, fetcher(section))) for section in sections]
    )


async def _finding(clock: IReactorTime, section: IssuerSection, fetch: FetchKeys) -> IssuerFinding:
    finding = IssuerFinding(issuer=section.url)
    try:
        keys = KeySet(await Deferred.fromCoroutine(fetch()).addTimeout(FETCH_TIMEOUT, clock))
    except Exception as error:
        finding.trouble = why_not_fetched(error)
        finding.mend = _NO_KEYS if isinstance(error, ValueError) else _UNREACHABLE
        return finding
    finding.keys = len(keys)
    finding.algorithms = keys.algorithms(section.algorithms)
    if not finding.algorithms:
        finding.trouble = f"none of its keys is for {' or '.join(section.algorithms)}"
        finding.mend = f"name in algorithms what they are for: {', '.join(keys.algorithms())}"
    return finding
