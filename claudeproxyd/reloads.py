"""Reloads: one at a time, with all that takes long of them in a thread."""

from __future__ import annotations

import gc
import sys
import traceback
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from claudeproxyd import configured
from claudeproxyd.config.diagnostics import ConfigError, Problem
from claudeproxyd.config.loading import Loaded
from claudeproxyd.config.reload import Difference, difference, put_in_force
from claudeproxyd.observe.scrub import forms

if TYPE_CHECKING:
    from claudeproxyd.accounts.keys import RuntimeKeys
    from claudeproxyd.config.schema import Config
    from claudeproxyd.interfaces import IAuthenticator
    from claudeproxyd.issuers.registry import Issuers

#: Seconds that the thread may keep the interpreter from the reactor: Python's own 0.005, several times a turn, would
#: hold up every stream by 20 ms.
SHARE = 0.0005
#: Of the garbage collector meanwhile: a bite takes a millisecond or two, and it looks at no more than what is new.
BITES = (300, 3, 1_000_000)


@dataclass(frozen=True)
class Draft:
    """Another configuration with all that is made of it in advance, so that putting it in force takes a moment."""

    loaded: Loaded
    """As far as a reload goes: what needs a restart is as it was."""
    changes: Difference
    differs: bool
    """It is another than that in force."""
    authenticator: IAuthenticator
    secrets: Sequence[bytes]
    """As they may be written anywhere, to be masked."""


def draft(load: Callable[[Config], Loaded], in_force: Config, minted: RuntimeKeys | None, issuers: Issuers) -> Draft:
    """Read, check and compare. Blocks, and runs in a thread.

    Raises :class:`~claudeproxyd.config.diagnostics.ConfigError`, also in the place of whatever no check foresaw.
    """
    try:
        with _giving_way():
            loaded = load(in_force)
            config = put_in_force(in_force, loaded.config)
            return Draft(
                replace(loaded, config=config),
                difference(in_force, loaded.config, loaded.makers),
                config != in_force,
                configured.authenticator(config, minted, issuers),
                forms(configured.secrets_of(config)),
            )
    except Exception as error:
        raise unforeseen(error) from None


@contextmanager
def _giving_way() -> Iterator[None]:
    """Have the reactor's thread get its turn soon, and the garbage collector, which lets nobody, take small bites."""
    interval, thresholds = sys.getswitchinterval(), gc.get_threshold()
    sys.setswitchinterval(min(interval, SHARE))
    gc.set_threshold(*BITES)
    try:
        yield
    finally:
        sys.setswitchinterval(interval)
        gc.set_threshold(*thresholds)


def unforeseen(error: Exception) -> ConfigError:
    """What no check foresaw, as an error of one line."""
    if isinstance(error, ConfigError):
        return error
    where = traceback.extract_tb(error.__traceback__)[-1]
    what = f"cannot be used: {type(error).__name__}: {error} ({where.name}, line {where.lineno})"
    return ConfigError([Problem("the configuration", "", what)])


class Reloads:
    """Whoever asks while one runs shares the next with all others who do. Kept by the daemon; not for threads."""

    def __init__(self, reload: Callable[[], Coroutine[Any, Any, str]]) -> None:
        """*reload* does it once, and says what changed."""
        self._reload = reload
        self._running = False
        self._waiting: list[Deferred[str]] = []

    def ask(self) -> Deferred[str]:
        """Have one that begins from now on; fires, or fails, as it ends. A hundred signals make two of them."""
        done: Deferred[str] = Deferred()
        self._waiting.append(done)
        if not self._running:
            self._begin()
        return done

    def _begin(self) -> None:
        self._running = True
        waiting, self._waiting = self._waiting, []
        Deferred.fromCoroutine(self._reload()).addBoth(self._ended, waiting)

    def _ended(self, result: str | Failure, waiting: list[Deferred[str]]) -> None:
        self._running = False
        if self._waiting:
            self._begin()
        for done in waiting:
            if isinstance(result, Failure):
                done.errback(result.value)
            else:
                done.callback(result)
