"""What the stores' tests share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import LogLevel, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

A = '["disabled","p","a"]'
B = '["disabled","p","b"]'
COOLING = '["cooldown","messages","p","a",null]'
GRANT = '["grant","0123"]'
HOME = '["affinity","session","m"]'
NOW = 1_700_000_000.0


def cooldown(until: float, **more: Any) -> dict[str, Any]:
    """A cooldown's value, which ends so many seconds from :data:`NOW`."""
    value = {"kind": "quota", "reason": "slow down", "level": 1, "until": NOW + until, "end": NOW + until, "before": 0}
    return {**value, **more}


def affinity(used: float, credential: str = "a") -> dict[str, Any]:
    """An affinity's value, last used so many seconds from :data:`NOW`."""
    return {"provider": "p", "credential": credential, "used": NOW + used}


def grant(until: float) -> dict[str, Any]:
    """A refresh token's value, which is kept for so many seconds from :data:`NOW`."""
    return {"token": "gAAAA", "until": NOW + until}


def exported(state: Any) -> dict[str, Any]:
    """All state of one that keeps some."""
    return {key: value for part in state.export_state() for key, value in part.items()}


class Thread:
    """Takes the place of a thread: does what it is given when the test says so, or at once."""

    def __init__(self, at_once: bool = True) -> None:
        self.at_once = at_once
        self.given: list[tuple[Callable[[], Any], Deferred[Any]]] = []

    def __call__(self, work: Callable[[], Any]) -> Deferred[Any]:
        done: Deferred[Any] = Deferred()
        self.given.append((work, done))
        if self.at_once:
            self.run()
        return done

    def run(self) -> None:
        """Do the next thing."""
        work, done = self.given.pop(0)
        try:
            result = work()
        except Exception:
            done.errback()
        else:
            done.callback(result)


class StoreTestCase(SynchronousTestCase):
    """A test that sees the warnings which are logged."""

    def setUp(self) -> None:
        """Listen to the log."""
        self.warnings: list[str] = []

        def observe(event: Any) -> None:
            if event.get("log_level") == LogLevel.warn:
                self.warnings.append(event["log_format"].format(**event))

        globalLogPublisher.addObserver(observe)
        self.addCleanup(globalLogPublisher.removeObserver, observe)
