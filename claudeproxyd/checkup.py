"""Asks upstreams how a credential is: for its models, and for a count of tokens, which cost nothing.

For operators who want to know what is wrong, and what mends it. It neither asks the pool nor tells it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass, replace
from inspect import isawaitable
from typing import TYPE_CHECKING, TypeVar

import msgspec
from twisted.internet.defer import CancelledError, Deferred, DeferredSemaphore, TimeoutError, gatherResults
from twisted.logger import Logger

from claudeproxyd.dispatch.attempt import Attempt
from claudeproxyd.dispatch.request import ApiRequest
from claudeproxyd.globs import is_glob, matches
from claudeproxyd.leases import Route
from claudeproxyd.messages.envelope import read_envelope
from claudeproxyd.outcomes.types import AttemptFailed, Failure, Kind
from claudeproxyd.principals import Principal
from claudeproxyd.upstream.errors import UpstreamError

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

    from claudeproxyd.config.schema import Config, Provider
    from claudeproxyd.interfaces import IExecutor
    from claudeproxyd.leases import Credential

#: Seconds that a credential may take for one of the questions.
PATIENCE = 15.0
#: Credentials of one provider that are asked at once.
MAX_CONCURRENT = 8

_T = TypeVar("_T")

_log = Logger()


class Finding(msgspec.Struct, kw_only=True):
    """How one credential is."""

    provider: str
    credential: str
    disabled: bool = False
    """By the configuration."""
    models: int | None = None
    """How many it lists; None: it does not."""
    model: str = ""
    """The one that was counted with; '' where there was none to count with."""
    tokens: int | None = None
    """As many as were counted; None: they were not."""
    trouble: str = ""
    """What is wrong, in words; '' if nothing is."""
    mend: str = ""
    """What mends it."""
    note: str = ""
    """What it cannot do, and need not."""


class IssuerFinding(msgspec.Struct, kw_only=True):
    """How one issuer of tokens is."""

    issuer: str
    """Its URL."""
    keys: int | None = None
    """How many of use it publishes; None: none could be had."""
    algorithms: list[str] = []
    """Those of the configuration's that some key is for."""
    trouble: str = ""
    """What is wrong, in words; '' if nothing is."""
    mend: str = ""
    """What mends it."""


@dataclass(frozen=True)
class _Complaint:
    """Why a question was not answered."""

    what: str
    reason: str
    mend: str
    is_minor: bool = False
    """It says nothing against the credential where the other question is answered."""

    def __str__(self) -> str:
        return f"{self.what}: {self.reason}" if self.reason else self.what


_BASE_URL = "look at base_url: does that server speak this API there?"

#: What outcomes mean for the credential, and what mends that.
_OUTCOMES: Mapping[Kind, tuple[str, str]] = {
    Kind.AUTH: ("the key is refused", "put a valid one into the configuration, and reload"),
    Kind.BILLING: ("the account is out of credit, or at its own limit", "pay or raise the limit at the provider"),
    Kind.PERMISSION: ("the key may not do that", "give it the right at the provider, or take another key"),
    Kind.LOCATION: ("the provider does not serve where this machine is", "reach it through a proxy elsewhere"),
    Kind.QUOTA: ("its quota is used up", "wait, or raise it at the provider"),
    Kind.OVERLOADED: ("the provider is overloaded", "wait"),
    Kind.CONFIGURATION: ("the way there is wrong", "look at base_url, tls and proxy"),
    Kind.TRANSIENT: ("the provider fails", "wait; if it goes on, look at base_url and at the provider's status page"),
    Kind.UNSUPPORTED: ("there is no such thing", _BASE_URL),
    Kind.MODEL_UNAVAILABLE: ("it may not use that model", "name others in models, or ask the provider for it"),
    Kind.CLIENT_FAULT: ("the question is refused", _BASE_URL),
    Kind.INTERNAL: ("it could not be asked", "look at the log"),
}
_MINOR = (Kind.UNSUPPORTED, Kind.MODEL_UNAVAILABLE, Kind.CLIENT_FAULT, Kind.TOO_LARGE)

#: What mends what there may be instead of an answer; the errors themselves say what it is.
_FAILURES: Mapping[Failure, str] = {
    Failure.DNS: "look at base_url, and at this machine's DNS",
    Failure.CONNECT: "look at base_url and proxy, and at firewalls on the way",
    Failure.CONNECT_TIMEOUT: "look at base_url and proxy, and at firewalls on the way",
    Failure.TLS: "look at base_url, at tls.ca_file, and at this machine's clock",
    Failure.PROXY_AUTH: "look at proxy: it wants other credentials",
    Failure.MALFORMED: _BASE_URL,
}


@dataclass(frozen=True)
class Checkup:
    """Asks the credentials of one configuration."""

    clock: IReactorTime
    config: Config
    executors: Mapping[str, IExecutor]
    credentials: Sequence[Credential]

    async def findings(self, provider: str = "", credential: str = "") -> list[Finding]:
        """Return how each credential is, or those of that provider or name; in the configuration's order."""
        turns = {each.name: DeferredSemaphore(MAX_CONCURRENT) for each in self.config.providers}
        return await gatherResults(
            [
                turns[each.provider].run(lambda one: Deferred.fromCoroutine(self.finding(one)), each)
                for each in self.credentials
                if provider in ("", each.provider) and credential in ("", each.name)
            ],
            consumeErrors=True,
        )

    async def finding(self, credential: Credential) -> Finding:
        """Return how one is."""
        finding = Finding(provider=credential.provider, credential=credential.name, disabled=credential.disabled)
        listed = await self._asked(self._list(credential))
        names: Sequence[str] = () if isinstance(listed, _Complaint) else listed
        complaints = []
        if isinstance(listed, _Complaint):
            complaints.append(replace(listed, what=f"it does not list its models ({listed.what})"))
            if not listed.is_minor:
                return _told(finding, [listed])
        else:
            finding.models = len(listed)
        finding.model = self._model(credential, names)
        if finding.model:
            counted = await self._asked(self._count(credential, finding.model))
            if isinstance(counted, _Complaint):
                complaints.append(
                    replace(counted, what=f"it does not count tokens of {finding.model} ({counted.what})")
                )
                if not counted.is_minor:
                    complaints = [counted]
            else:
                finding.tokens = counted
        return _told(finding, complaints)

    async def _asked(self, question: Awaitable[_T]) -> _T | _Complaint:
        asked = Deferred.fromCoroutine(_awaited(question)).addTimeout(PATIENCE, self.clock)
        try:
            return await asked
        except Exception as error:
            return _complaint(error)

    async def _list(self, credential: Credential) -> list[str]:
        entries = await self.executors[credential.provider].models(credential)
        return [str(entry["id"]) for entry in entries]

    async def _count(self, credential: Credential, model: str) -> int:
        executor = self.executors[credential.provider]
        body = msgspec.json.encode({"model": model, "messages": [{"role": "user", "content": "Hello"}]})
        request = ApiRequest(
            request_id="req_checkup",
            principal=Principal("operator"),
            envelope=read_envelope(body, count_tokens=True),
            headers=(),
            query=b"",
            count_tokens=True,
            started=self.clock.seconds(),
        )
        route = Route(credential.provider, model)
        prepared = executor.prepare(request, route)
        ready = await prepared if isawaitable(prepared) else prepared
        secret = credential.source.present() or await credential.source.refresh()
        answer = await executor.count_tokens(Attempt(request, credential, secret, route, 1, prepared=ready))
        return msgspec.json.decode(answer.body, type=_Count).input_tokens

    def _model(self, credential: Credential, listed: Sequence[str]) -> str:
        """Return a model that the credential serves: one that the operator named, or else one that it lists."""
        provider = next(each for each in self.config.providers if each.name == credential.provider)
        named = [*_routed(self.config, provider), *provider.models, *credential.models, *listed]
        return next(
            (
                name
                for name in named
                if not is_glob(name) and matches(name, provider.models) and matches(name, credential.models)
            ),
            "",
        )


class _Count(msgspec.Struct):
    input_tokens: int


async def _awaited(question: Awaitable[_T]) -> _T:
    return await question


def _routed(config: Config, provider: Provider) -> list[str]:
    return [
        route.model or model.name
        for model in config.models
        for route in model.routes
        if route.provider == provider.name
    ]


def _told(finding: Finding, complaints: Sequence[_Complaint]) -> Finding:
    """Return *finding* with what there is to complain about; that one question is answered is enough."""
    if not complaints:
        return finding
    if all(each.is_minor for each in complaints) and (finding.models is not None or finding.tokens is not None):
        finding.note = "; ".join(map(str, complaints))
    else:
        finding.trouble = str(complaints[0])
        finding.mend = complaints[0].mend
    return finding


def _complaint(error: Exception) -> _Complaint:
    if isinstance(error, UpstreamError):
        return _Complaint(str(error), "", _FAILURES.get(error.failure, _OUTCOMES[Kind.TRANSIENT][1]))
    if isinstance(error, AttemptFailed):
        kind, reason = error.outcome.kind, error.outcome.reason
        what, mend = _OUTCOMES.get(kind, (kind.value, _BASE_URL))
        return _Complaint(what, reason, mend, is_minor=kind in _MINOR)
    if isinstance(error, TimeoutError | CancelledError):
        return _Complaint("no answer in time", f"it took more than {PATIENCE:g} s", _OUTCOMES[Kind.TRANSIENT][1])
    _log.info("a credential could not be asked: {error}", error=f"{type(error).__name__}: {error}")
    return _Complaint("the answer makes no sense", type(error).__name__, _BASE_URL, is_minor=True)
