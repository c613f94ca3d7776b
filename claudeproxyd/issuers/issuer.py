"""One issuer: its keys, fetched anew now and then, and the tokens that they proved."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from random import Random
from typing import TYPE_CHECKING, NamedTuple

from joserfc.errors import ClaimError, ExpiredTokenError, JoseError, MissingClaimError
from joserfc.jwt import JWTClaimsRegistry
from twisted.application.service import Service
from twisted.internet.defer import Deferred, TimeoutError
from twisted.logger import Logger

from claudeproxyd.errors import ClaudeError
from claudeproxyd.issuers.claims import principal_of
from claudeproxyd.issuers.key_set import KeySet
from claudeproxyd.issuers.tokens import UnverifiedToken, refused_token
from claudeproxyd.outcomes.types import AttemptFailed

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall, IReactorTime
    from twisted.python.failure import Failure

    from claudeproxyd.config.schema import IssuerSection
    from claudeproxyd.issuers.published import FetchKeys
    from claudeproxyd.principals import Principal

FETCH_TIMEOUT = 10.0
"""Seconds that one fetch may take."""
MIN_INTERVAL = 5.0
"""Seconds between the beginnings of two fetches, whatever keys tokens name: so long a request waits at most for one."""
RETRY_INTERVAL = 30.0
"""Seconds to the next fetch after one that failed, where no token waits for it."""
MAX_WAITING = 1000
"""Requests that wait for a fetch."""
MAX_REMEMBERED = 10_000
"""Tokens that are known to be good. All are forgotten at it: each costs one more check of its signature then."""


class _Proved(NamedTuple):
    """A token whose signature was checked."""

    principal: Principal
    until: float
    """On the wall clock."""
    thumbprint: str
    """Of the key that it is signed by."""


class Issuer(Service):
    """Tells whose a token is. Kept over reloads as long as its section stays as it is."""

    _log = Logger()

    def __init__(
        self,
        section: IssuerSection,
        fetch: FetchKeys,
        clock: IReactorTime,
        wall_clock: Callable[[], float],
        random: Random | None = None,
    ) -> None:
        self.section = section
        self._fetch = fetch
        self._clock = clock
        self._wall_clock = wall_clock
        self._random = random or Random()
        self._keys: KeySet | None = None
        self._good_until = 0.0
        """On the reactor's clock: after that the last set holds no more."""
        self._proved: dict[bytes, _Proved] = {}
        """By their digests."""
        self._begun = self._ended = 0
        """Fetches: how many have begun, and which of these was the last to end."""
        self._begun_at = -MIN_INTERVAL
        self._fetching: Deferred[None] | None = None
        self._failing = False
        self._timer: IDelayedCall | None = None
        self._waiting: dict[Deferred[None], None] = {}
        self.fetches = {"ok": 0, "failed": 0}
        """How they ended, for the counter."""

    # -- for the gauges

    @property
    def key_count(self) -> int:
        """How many keys tokens are checked by."""
        return len(self._keys) if self._keys is not None and self._holds else 0

    @property
    def remembered(self) -> int:
        """How many tokens are known to be good."""
        return len(self._proved)

    @property
    def waiting(self) -> int:
        """How many requests wait for a fetch."""
        return len(self._waiting)

    # -- tokens

    def known(self, digest: bytes) -> Principal | None:
        """Return whose the token of that SHA-256 is, where that was proved and still holds."""
        proved = self._proved.get(digest)
        if proved is None or self._wall_clock() >= proved.until or not self._holds:
            return None
        return proved.principal

    def principal(self, token: UnverifiedToken, digest: bytes) -> Principal | Deferred[Principal]:
        """Return whose *token* is: later, where its key is unknown and those of the issuer are fetched first.

        Raises, or fails with, ClaudeError: 401, 403 where the holder may not call, 503 where the keys cannot be had.
        """
        self._check(token)
        found = self._prove(token, digest)
        return Deferred.fromCoroutine(self._prove_later(token, digest)) if found is None else found

    def _check(self, token: UnverifiedToken) -> None:
        """Check what a token says of itself. Raises ClaudeError 401."""
        section = self.section
        if token.header.get("alg") not in section.algorithms:
            raise refused_token(f"it has to be signed by {' or '.join(section.algorithms)}")
        audiences = [section.audience] if isinstance(section.audience, str) else section.audience
        rules = JWTClaimsRegistry(
            now=int(self._wall_clock()),
            leeway=int(section.leeway),
            iss={"essential": True, "value": section.url},
            aud={"essential": True, "values": [*audiences]},
            exp={"essential": True},
            sub={"essential": True},
        )
        try:
            rules.validate(dict(token.claims))
        except ExpiredTokenError:
            raise refused_token(f"it has expired{_on(token.claims['exp'])}: get a new one") from None
        except MissingClaimError as error:
            raise refused_token(f"it lacks {error.claim}") from None
        except ClaimError as error:
            if error.claim == "aud":
                raise refused_token(f"its audience has to be {' or '.join(audiences)}") from None
            if error.claim in ("nbf", "iat") and _is_number(token.claims[error.claim]):
                why = f"it is not valid yet{_on(token.claims[error.claim], ' before ')}: look at the clocks"
                raise refused_token(why) from None
            raise refused_token(f"its claim {error.claim} is not valid") from None
        except JoseError:
            raise refused_token("its claims cannot be read") from None

    def _prove(self, token: UnverifiedToken, digest: bytes) -> Principal | None:
        """Return whose *token* is; None where none of the present keys has signed it. Raises ClaudeError."""
        if self._keys is None or not self._holds:
            return None
        thumbprint = self._keys.signer(token, self.section.algorithms)
        if thumbprint is None:
            return None
        principal = principal_of(token.claims, self.section)
        if len(self._proved) >= MAX_REMEMBERED:
            self._proved.clear()
        expires = token.claims["exp"]
        assert isinstance(expires, (int, float))
        self._proved[digest] = _Proved(principal, expires + int(self.section.leeway), thumbprint)
        return principal

    async def _prove_later(self, token: UnverifiedToken, digest: bytes) -> Principal:
        """Return whose *token* is by a set of keys that was asked for after it came. Raises ClaudeError."""
        needed = self._begun + 1
        while self._ended < needed:
            await self._renewed()
            if (found := self._prove(token, digest)) is not None:
                return found
            if self._failing:
                raise _away()
        raise refused_token("it is signed by no key that its issuer has")

    # -- keys

    @property
    def _holds(self) -> bool:
        """Whether the keys are not too old."""
        return self._clock.seconds() < self._good_until

    def take_keys(self, before: Issuer) -> None:
        """Begin with the keys that *before* has: what they are fetched by is the same."""
        self._keys, self._good_until = before._keys, min(before._good_until, self._clock.seconds() + self.section.hold)

    def startService(self) -> None:
        """Fetch the keys, and again now and then."""
        super().startService()
        self._begin()

    def stopService(self) -> None:
        """Fetch no more; whoever waits is told that the keys cannot be had."""
        super().stopService()
        for waiting in self._taken():
            waiting.errback(_away())
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._fetching is not None:
            self._fetching.cancel()

    def _renewed(self) -> Deferred[None]:
        """Fire when a fetch has ended: the one under way, or else the next, which begins soon."""
        if len(self._waiting) >= MAX_WAITING or not self.running:
            raise _away()
        waiting: Deferred[None] = Deferred(lambda gone: self._waiting.pop(gone, None))
        self._waiting[waiting] = None
        if self._timer is not None:
            soonest = max(0.0, self._begun_at + MIN_INTERVAL - self._clock.seconds())
            if self._timer.getTime() - self._clock.seconds() > soonest:
                self._timer.reset(soonest)
        return waiting

    def _begin(self) -> None:
        self._timer = None
        self._begun += 1
        self._begun_at = self._clock.seconds()
        fetching = Deferred.fromCoroutine(self._fetch()).addTimeout(FETCH_TIMEOUT, self._clock)
        self._fetching = fetching.addCallback(self._take).addErrback(self._not_fetched).addBoth(self._end)

    def _take(self, document: bytes) -> None:
        keys = KeySet(document)
        if self._keys is None or keys.thumbprints != self._keys.thumbprints:
            self._proved = {
                digest: proved for digest, proved in self._proved.items() if proved.thumbprint in keys.thumbprints
            }
            self._log.info("issuer {url}: has other keys now; of use: {count}", url=self.section.url, count=len(keys))
        elif self._failing:
            self._log.info("issuer {url}: its keys can be had again", url=self.section.url)
        self._keys, self._good_until, self._failing = keys, self._begun_at + self.section.hold, False
        self.fetches["ok"] += 1

    def _not_fetched(self, failure: Failure) -> None:
        if not self.running:
            return
        if not self._failing:
            left = self._good_until - self._clock.seconds()
            self._log.warn(
                "issuer {url}: its keys cannot be had: {why}; {what}",
                url=self.section.url,
                why=why_not_fetched(failure.value),
                what=f"the last ones hold for {left:.0f} s" if left > 0 else "nobody is let in by its tokens",
            )
        self._failing = True
        self.fetches["failed"] += 1

    def _end(self, _: object) -> None:
        self._ended = self._begun
        if self.running:
            pause = min(RETRY_INTERVAL, self.section.refresh) if self._failing else self.section.refresh
            self._timer = self._clock.callLater(pause * (1.0 - 0.25 * self._random.random()), self._begin)
        for waiting in self._taken():
            waiting.callback(None)

    def _taken(self) -> Iterator[Deferred[None]]:
        """Yield who waits, and has not left meanwhile."""
        for waiting in list(self._waiting):
            if waiting in self._waiting:
                del self._waiting[waiting]
                yield waiting


def why_not_fetched(error: BaseException | None) -> str:
    """Return why keys could not be had, in words for operators."""
    if isinstance(error, TimeoutError):
        return f"no answer within {FETCH_TIMEOUT:g} s"
    return error.outcome.reason if isinstance(error, AttemptFailed) else str(error) or type(error).__name__


def _away() -> ClaudeError:
    return ClaudeError(
        503,
        "The gateway cannot have the keys that your token is checked by; its log says why",
        headers=[(b"retry-after", b"5")],
    )


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _on(when: object, word: str = " on ") -> str:
    """Return a time of a token in words; '' for one that no calendar has."""
    try:
        return f"{word}{datetime.fromtimestamp(float(str(when)), UTC):%Y-%m-%d at %H:%M UTC}"
    except (ValueError, OverflowError, OSError):
        return ""
