"""Which models there are: what the operator named, and what the providers say that their credentials can use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, DeferredSemaphore, FirstError, gatherResults
from twisted.internet.task import deferLater
from twisted.logger import Logger
from zope.interface import implementer

from claudeproxyd.globs import is_glob
from claudeproxyd.interfaces import ICatalog

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

    from claudeproxyd.config.schema import Model, Provider
    from claudeproxyd.interfaces import IExecutor
    from claudeproxyd.leases import Credential

#: Seconds between two looks at what the providers list.
REFRESH_SECONDS = 3600.0
#: Seconds to the next look where one of them has not answered: at first, then doubling up to that.
MIN_RETRY_SECONDS = 60.0
#: Seconds that a credential may take to list its models, all pages together.
MAX_LISTING_SECONDS = 15.0
#: Credentials of one provider that are asked at once. No provider waits for another.
MAX_CONCURRENT = 8
#: Seconds of quiet after a reload before anybody is asked: reloads may come in storms.
QUIET_SECONDS = 1.0

#: What the API itself says where a date of release is not known.
UNKNOWN_DATE = "1970-01-01T00:00:00Z"


@implementer(ICatalog)
class Catalog(Service):
    """The entries of ``/v1/models``. Discovery happens beside the requests, never in one's way; web reads the result.

    With ``[[models]]`` the operator's names are the list. The providers are asked all the same where one of those is a
    glob: what they list is a name that is known, and its cooldowns are kept.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        models: Sequence[Model],
        providers: Sequence[Provider],
        executors: Mapping[str, IExecutor],
        credentials: Sequence[Credential],
        before: Catalog | None = None,
    ) -> None:
        """*before*: the catalog of the configuration before, whose discoveries stand until there are new ones."""
        self._providers = providers
        self._executors = executors
        self._credentials = credentials
        self._named = {
            model.name: _entry(model.name, model.display_name, model.description)
            for model in models
            if _is_listed(model)
        }
        if not models:
            for provider in providers:
                self._named |= {name: _entry(name) for name in provider.models if not is_glob(name)}
        self._lists_discovered = not models
        self._discovers = not models or any(is_glob(model.name) for model in models)
        self._listed: dict[tuple[str, str], dict[str, dict[str, object]]] = {}
        """What each credential listed last."""
        if before is not None and self._discovers:
            self._listed = dict(before._listed)
        self._discovered = self._merged()
        self._pause = 0.0 if before is None else QUIET_SECONDS
        self._clock = clock
        self._looking: Deferred[None] | None = None

    def startService(self) -> None:
        """Look for models now and every hour, unless the operator named each."""
        super().startService()
        if self._discovers:
            self._looking = Deferred.fromCoroutine(self._look())
            # Cancelled between two looks, or within one.
            self._looking.addErrback(lambda failure: failure.trap(CancelledError, FirstError))

    def stopService(self) -> None:
        """Stop looking."""
        super().stopService()
        if self._looking is not None:
            self._looking.cancel()

    def entries(self) -> Sequence[Mapping[str, object]]:
        """Every model, the operator's first. A model whose credentials are cooling stays."""
        found = self._discovered if self._lists_discovered else {}
        return [*self._named.values(), *(each for name, each in found.items() if name not in self._named)]

    def knows(self, model: str) -> bool:
        """Whether the operator or a provider names that very model."""
        return model in self._named or model in self._discovered

    async def _look(self) -> None:
        """Ask all, again and again, until cancelled."""
        soon = MIN_RETRY_SECONDS
        if self._pause:
            await deferLater(self._clock, self._pause)
        while True:
            if await self._ask_all():
                pause, soon = REFRESH_SECONDS, MIN_RETRY_SECONDS
            else:
                pause, soon = soon, min(2 * soon, REFRESH_SECONDS)
            await deferLater(self._clock, pause)

    async def _ask_all(self) -> bool:
        """Whether all have answered. Of those that have not, what they listed before stands."""
        turns = {credential.provider: DeferredSemaphore(MAX_CONCURRENT) for credential in self._credentials}
        answered: list[bool] = await gatherResults(
            [
                turns[credential.provider].run(lambda each: Deferred.fromCoroutine(self._ask(each)), credential)
                for credential in self._credentials
            ],
            consumeErrors=True,
        )
        return all(answered)

    async def _models(self, credential: Credential) -> list[dict[str, Any]]:
        return await self._executors[credential.provider].models(credential)

    async def _ask(self, credential: Credential) -> bool:
        """Whether it has answered."""
        try:
            asked = Deferred.fromCoroutine(self._models(credential))
            listed = await asked.addTimeout(MAX_LISTING_SECONDS, self._clock)
            entries = {(name := str(entry["id"])): _entry(name) | entry for entry in listed}
        except Exception as e:
            if isinstance(e, CancelledError) and not self.running:
                raise  # it is ours, and no executor's that has cancelled itself
            self._log.info(
                "{provider}/{credential} does not list its models: {reason}",
                provider=credential.provider,
                credential=credential.name,
                reason=str(e) or type(e).__name__,
            )
            return False
        self._listed[credential.provider, credential.name] = entries
        self._discovered = self._merged()
        return True

    def _merged(self) -> dict[str, dict[str, object]]:
        """What all that are there have listed; of a model that several list, the first one's entry."""
        merged: dict[str, dict[str, object]] = {}
        for credential in self._credentials:
            for name, entry in self._listed.get((credential.provider, credential.name), {}).items():
                merged.setdefault(name, entry)
        return merged


def _entry(name: str, display_name: str = "", description: str = "") -> dict[str, Any]:
    entry = {
        "type": "model",
        "id": name,
        "display_name": display_name or name,
        "created_at": UNKNOWN_DATE,
        "lifecycle": "active",
    }
    return {**entry, "description": description} if description else entry


def _is_listed(model: Model) -> bool:
    return model.list and not is_glob(model.name)
