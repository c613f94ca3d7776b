"""The objects of ``[[plugins]]``: made of their sections, kept over reloads, started and stopped with the daemon."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from twisted.application.service import IService, IServiceCollection, Service
from twisted.internet.defer import Deferred, DeferredList, gatherResults, maybeDeferred
from twisted.logger import Logger
from zope.interface import implementer

from claudeproxyd.config.diagnostics import ConfigError, Problem
from claudeproxyd.config.installed import installed
from claudeproxyd.config.setting import NoSettings
from claudeproxyd.dispatch.admission import Admissions
from claudeproxyd.dispatch.steps import RequestSteps
from claudeproxyd.interfaces import IAdmission, IAuthenticator, IPluginMaker, IRequestHook, IUsageSink
from claudeproxyd.observe.scrub import redact

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

    from claudeproxyd.config.config_paths import ConfigPath
    from claudeproxyd.config.loading import Loaded
    from claudeproxyd.config.schema import Plugin
    from claudeproxyd.observe.lines import LineFile

_PROVIDES = (IRequestHook, IAdmission, IUsageSink, IAuthenticator)


def plugin_makers(broken: list[Problem]) -> dict[str, IPluginMaker]:
    """Return the makers of all kinds of plugins that packages of this installation bring.

    Those that are of no use are added to *broken*.
    """
    makers: dict[str, IPluginMaker] = {}
    for maker in installed(IPluginMaker, broken):
        makers.setdefault(maker.kind, maker)
    return makers


@implementer(IPluginMaker)
class PluginMaker:
    """A kind without settings. See :class:`~claudeproxyd.interfaces.IPluginMaker` for each member."""

    kind: str
    settings: type[Any] = NoSettings
    authenticates: bool = False

    def check(self, settings: Any) -> Sequence[tuple[str, str]]:
        """Find nothing wrong beyond the schema."""
        return ()

    def make(self, settings: Any, services: PluginServices) -> object:
        """Refuse: a kind has its own."""
        raise NotImplementedError(self.kind)


@dataclass(frozen=True)
class PluginServices:
    """What one plugin's object may use of the daemon."""

    clock: IReactorTime
    """The reactor, for its time and its ``callLater``."""
    open_file: Callable[[str], LineFile]
    """For :meth:`line_file`."""
    files: list[LineFile] = field(default_factory=list)
    """Those that it has; SIGHUP reopens them."""

    def line_file(self, path: str) -> LineFile:
        """Return a file that lines are added to, off the reactor. Closed when the plugin is gone. Raises OSError."""
        file = self.open_file(path)
        self.files.append(file)
        return file


class _Made(Service):
    """The object of one section, started and stopped if it is a service too."""

    _log = Logger()

    def __init__(self, section: Plugin, thing: object, services: PluginServices, at: ConfigPath) -> None:
        self.section = section
        self.thing = thing
        self.services = services
        self.at = at
        self._closed: Deferred[list[None]] | None = None

    def startService(self) -> None:
        """Start it. Raises ConfigError with its place."""
        super().startService()
        if IService.providedBy(self.thing):
            try:
                self.thing.privilegedStartService()
                self.thing.startService()
            except Exception as error:
                raise ConfigError([_problem(self.at, "cannot be started", error)]) from None

    async def _stop(self) -> None:
        if IService.providedBy(self.thing):
            try:
                await maybeDeferred(self.thing.stopService)
            except Exception:
                self._log.failure("the plugin {kind} failed to stop", kind=self.section.kind)

    def stopService(self) -> Deferred[None]:
        """Stop it; never fails."""
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    async def end(self) -> None:
        """Stop it, and close its files; raises nothing."""
        if self.parent is not None:
            await maybeDeferred(self.disownServiceParent)
        await self.close()

    async def close(self) -> None:
        """Close its files; done when they are, whoever began with it."""
        if self._closed is None:
            self._closed = gatherResults([file.close() for file in self.services.files])
            self.services.files.clear()
        await self._closed


class Plugins:
    """The objects of one configuration's ``[[plugins]]``, in order, and what asks them."""

    def __init__(
        self,
        loaded: Loaded,
        admission: IAdmission,
        services: Callable[[], PluginServices],
        before: Plugins | None = None,
    ) -> None:
        """*admission* is asked ahead of theirs. *before* are those in force, and objects of unchanged sections stay.

        Raises :class:`~claudeproxyd.config.diagnostics.ConfigError` with every one that cannot be made.
        """
        self._made: list[_Made] = []
        self._fresh: list[_Made] = []
        self._steps_before: list[RequestSteps] = []
        """Of earlier configurations, for requests that are under way."""
        self._gone: list[_Made] = []
        """What only such requests know."""
        kept = [] if before is None else list(before._made)
        problems: list[Problem] = []
        for section, at in zip(loaded.config.plugins, loaded.plugin_paths, strict=True):
            made = next((each for each in kept if each.section == section), None)
            if made is not None:
                kept.remove(made)
            else:
                its_own = services()
                try:
                    made = _Made(section, _make(loaded.plugin_makers[section.kind], section, its_own), its_own, at)
                except Exception as error:
                    problems.append(_problem(at, "cannot be made", error))
                    made = _Made(section, None, its_own, at)
                self._fresh.append(made)
            self._made.append(made)
        if problems:
            self.discard()
            raise ConfigError(problems)
        admissions = self.providing(IAdmission)
        self.steps = RequestSteps(
            Admissions([admission, *admissions]) if admissions else admission, self.providing(IRequestHook)
        )

    def providing(self, interface: Any) -> list[Any]:
        """Return the objects that provide *interface*."""
        return [each.thing for each in self._made if interface.providedBy(each.thing)]

    def start(self, parent: IServiceCollection) -> None:
        """Have what is new run with *parent*. Raises ConfigError, and starts none, where one fails to."""
        try:
            for made in self._fresh:
                made.setServiceParent(parent)
        except ConfigError:
            self.discard()
            raise

    def discard(self) -> None:
        """End what was made for a configuration that is not put in force."""
        _end(self._fresh)

    def give_way(self, successor: Plugins) -> Deferred[None]:
        """End the objects that *successor* does not have, after the last request that knows them. Fires then."""
        steps = [*self._steps_before, self.steps]
        successor._steps_before = [each for each in steps if each.is_used]
        gone = [made for made in self._made if made not in successor._made]
        successor._gone = [*self._gone, *gone] if successor._steps_before else []
        idle: Deferred[list[tuple[bool, None]]] = DeferredList([each.idle() for each in steps])
        return idle.addCallback(lambda _: _end(gone))

    def reopen(self) -> None:
        """Open their files anew. For SIGHUP."""
        for made in (*self._gone, *self._made):
            for file in made.services.files:
                file.reopen()

    async def close(self) -> None:
        """Close their files, as the last thing."""
        for made in (*self._gone, *self._made):
            await made.close()


def _end(gone: Sequence[_Made]) -> Deferred[list[None]]:
    return gatherResults([Deferred.fromCoroutine(made.end()) for made in gone])


def _make(maker: IPluginMaker, section: Plugin, services: PluginServices) -> object:
    """Return the object of *section*. Raises whatever keeps it from being of use."""
    made = maker.make(section.own, services)
    if not any(interface.providedBy(made) for interface in _PROVIDES):
        names = ", ".join(interface.__name__ for interface in _PROVIDES)
        raise TypeError(f"{type(made).__name__} provides none of {names}; its class must say so with @implementer")
    if IAuthenticator.providedBy(made) != maker.authenticates:
        raise TypeError(
            f"{type(maker).__name__}.authenticates is {maker.authenticates}, which is not true of {type(made).__name__}"
        )
    return made


def _problem(at: ConfigPath, what: str, error: Exception) -> Problem:
    why = redact(f"{type(error).__name__}: {error}")
    return Problem(at.source.name, str(at), f"{what}: {why}", "mend its settings, or leave the section out", at.line)
