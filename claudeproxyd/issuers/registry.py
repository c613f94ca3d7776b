"""All issuers whose tokens let in. The daemon has it, and it outlives reloads."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING

from twisted.application.service import MultiService

from claudeproxyd.issuers.checkup import issuer_findings
from claudeproxyd.issuers.issuer import Issuer
from claudeproxyd.issuers.published import fetcher
from claudeproxyd.issuers.tokens import read_token, refused_token
from claudeproxyd.secrets.endpoint import http_client

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred
    from twisted.internet.interfaces import IReactorTime

    from claudeproxyd.checkup import IssuerFinding
    from claudeproxyd.config.schema import IssuerSection
    from claudeproxyd.issuers.published import FetchKeys
    from claudeproxyd.observe.exposition import Registry
    from claudeproxyd.principals import Principal


class Issuers(MultiService):
    """Tells whose a token is, by the issuer that it names."""

    def __init__(
        self,
        reactor: IReactorTime,
        wall_clock: Callable[[], float],
        fetcher: Callable[[IssuerSection], FetchKeys] | None = None,
    ) -> None:
        """*fetcher* makes what an issuer's keys are fetched by."""
        super().__init__()
        self._reactor = reactor
        self._wall_clock = wall_clock
        self._fetcher = fetcher or partial(fetcher_over_http, reactor)
        self._issuers: dict[str, Issuer] = {}

    def configure(self, sections: Iterable[IssuerSection]) -> None:
        """Take these issuers' tokens from now on. One that stays as it is keeps its keys and what they proved."""
        before, self._issuers = self._issuers, {}
        for section in sections:
            was = before.get(section.url)
            if was is not None and was.section == section:
                self._issuers[section.url] = before.pop(section.url)
                continue
            issuer = Issuer(section, self._fetcher(section), self._reactor, self._wall_clock)
            if was is not None and _source(was.section) == _source(section):
                issuer.take_keys(was)
            self._issuers[section.url] = issuer
            issuer.setServiceParent(self)
        for gone in before.values():
            gone.disownServiceParent()

    def known(self, digest: bytes) -> Principal | None:
        """Return whose the token of that SHA-256 is, where that was proved and still holds."""
        for issuer in self._issuers.values():
            if (principal := issuer.known(digest)) is not None:
                return principal
        return None

    def principal(self, value: bytes, digest: bytes) -> Principal | Deferred[Principal]:
        """Return whose the token *value* is, now or later. Raises, or fails with, ClaudeError 401, 403 or 503."""
        token = read_token(value)
        issuer = self._issuers.get(token.issuer) if isinstance(token.issuer, str) else None
        if issuer is None:
            raise refused_token("its issuer is none that this gateway trusts")
        return issuer.principal(token, digest)

    async def findings(self) -> list[IssuerFinding]:
        """Return how the issuers are, by asking each for its keys once more; what is known stays."""
        sections = [issuer.section for issuer in self._issuers.values()]
        return await issuer_findings(self._reactor, sections, self._fetcher)

    def register(self, metrics: Registry) -> None:
        """Have *metrics* tell how the issuers fare."""
        metrics.gauge(
            "claudeproxyd_issuer_keys", "Keys that tokens are checked by.", self._each("key_count"), _BY_ISSUER
        )
        metrics.gauge(
            "claudeproxyd_issuer_remembered_tokens", "Tokens known to be good.", self._each("remembered"), _BY_ISSUER
        )
        metrics.gauge(
            "claudeproxyd_issuer_waiting_requests", "Requests that wait for keys.", self._each("waiting"), _BY_ISSUER
        )
        metrics.counter(
            "claudeproxyd_issuer_fetches_total",
            "Fetches of keys, by how they ended.",
            self._fetches,
            (*_BY_ISSUER, "outcome"),
        )

    def _fetches(self) -> dict[tuple[str, ...], float]:
        return {(url, how): count for url, issuer in self._issuers.items() for how, count in issuer.fetches.items()}

    def _each(self, what: str) -> Callable[[], dict[tuple[str, ...], float]]:
        return lambda: {(url,): getattr(issuer, what) for url, issuer in self._issuers.items()}


def fetcher_over_http(reactor: IReactorTime, section: IssuerSection) -> FetchKeys:
    """Return what fetches an issuer's keys over the network."""
    return fetcher(section, http_client(reactor, section.proxy, section.ca_file))


_BY_ISSUER = ("issuer",)


def _source(section: IssuerSection) -> tuple[object, ...]:
    """Return what decides which keys an issuer has."""
    return (section.url, section.jwks, section.jwks_url, section.proxy, section.ca_file)
