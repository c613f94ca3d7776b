"""Who is calling, what they may use, and through whom. Nothing here waits for anything."""

from __future__ import annotations

import hmac
import re
from collections.abc import Awaitable, Iterable, Iterator, Sequence
from hashlib import sha256
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING

from twisted.internet.defer import CancelledError
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from claudeproxyd.errors import DO_NOT_RETRY, ClaudeError
from claudeproxyd.interfaces import IAuthenticator
from claudeproxyd.principals import DIGEST_CHARS, Principal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from claudeproxyd.accounts.keys import RuntimeKeys
    from claudeproxyd.headers import Headers


_is_loopback = re.compile(rb"(?:localhost|127(?:\.\d{1,3}){3}|\[::1\])(?::\d*)?", re.IGNORECASE).fullmatch


def shown_keys(headers: Headers) -> Iterator[bytes]:
    """Yield the keys that a client shows, none of which is empty."""
    for name, value in headers:
        if name == b"authorization":
            scheme, _, value = value.partition(b" ")
            if scheme.lower() != b"bearer":
                continue
        elif name != b"x-api-key":
            continue
        if key := value.strip():
            yield key


@implementer(IAuthenticator)
class OpenAccess:
    """Asks for no key: everybody is one and the same."""

    def __init__(self, principal: Principal | None = None) -> None:
        self._principal = principal or Principal("anonymous")

    def authenticate(self, headers: Headers) -> Principal:
        """See :meth:`IAuthenticator.authenticate <claudeproxyd.interfaces.IAuthenticator.authenticate>`."""
        return self._principal


@implementer(IAuthenticator)
class KeyAuthenticator:
    """Knows clients by their keys, and the keys by their digests alone.

    Clients may send both ``x-api-key`` and ``Authorization: Bearer``: one valid key is enough.
    """

    def __init__(self, principals: Mapping[str, Principal], minted: RuntimeKeys | None = None) -> None:
        """*principals*: by the SHA-256 digest of their keys, in hexadecimal. *minted* are asked after these."""
        self._principals = {
            digest: (digest, principal)
            for digest, principal in ((bytes.fromhex(name), principal) for name, principal in principals.items())
        }
        self._minted = minted

    def authenticate(self, headers: Headers) -> Principal:
        """See :meth:`IAuthenticator.authenticate <claudeproxyd.interfaces.IAuthenticator.authenticate>`."""
        tried = []
        for key in shown_keys(headers):
            digest = sha256(key).digest()
            tried.append(digest)
            known = self._principals.get(digest)
            if known is not None and hmac.compare_digest(known[0], digest):
                return known[1]
            minted = None if self._minted is None else self._minted.principal(digest)
            if minted is not None:
                return minted
        raise self._refusal(tried)

    def _refusal(self, tried: Sequence[bytes]) -> ClaudeError:
        """Return what to say to whoever showed keys of these digests, none of which lets in."""
        if not tried:
            return ClaudeError(401, "x-api-key or a bearer token is required", headers=[DO_NOT_RETRY])
        if self._minted is not None:
            over = next(filter(None, map(self._minted.expired, tried)), None)
            if over is not None:
                return over
            if not self._minted.known:
                return _unread()
        shown = " and ".join(digest.hex()[:DIGEST_CHARS] for digest in tried)
        # Not in the API's words: by "invalid x-api-key" Claude Code would have its user log in at Anthropic.
        return ClaudeError(
            401,
            "This gateway does not know your API key: ask whoever runs the gateway for one",
            headers=[DO_NOT_RETRY],
            logged=f"unknown client key, SHA-256 {shown}…",
        )


def _unread() -> ClaudeError:
    return ClaudeError(503, "The gateway cannot read its keys yet; its log says why", headers=[(b"retry-after", b"5")])


@implementer(IAuthenticator)
class OpenUntilMinted:
    """Asks for no key where the configuration lets everybody in, as long as it is known that none was ever minted."""

    def __init__(self, minted: RuntimeKeys) -> None:
        self._minted = minted
        self._open = OpenAccess()
        self._keyed = KeyAuthenticator({}, minted)

    def authenticate(self, headers: Headers) -> Principal:
        """See :meth:`IAuthenticator.authenticate <claudeproxyd.interfaces.IAuthenticator.authenticate>`."""
        if self._minted.never_minted:
            return self._open.authenticate(headers)
        if not self._minted.known:
            raise _unread()
        return self._keyed.authenticate(headers)


@implementer(IAuthenticator)
class Authenticators:
    """Asks several, in order, until one knows who calls. What fails among them lets nobody in."""

    _log = Logger()

    def __init__(self, authenticators: Sequence[IAuthenticator]) -> None:
        """*authenticators*: one or more."""
        self._authenticators = tuple(authenticators)

    def authenticate(self, headers: Headers) -> Principal | Awaitable[Principal]:
        """See :meth:`IAuthenticator.authenticate <claudeproxyd.interfaces.IAuthenticator.authenticate>`.

        Where none knows who calls, the first one's refusal is told, or that of the first who could not tell (503).
        """
        return self._ask(iter(self._authenticators), headers, None)

    def _ask(
        self, left: Iterator[IAuthenticator], headers: Headers, refusal: ClaudeError | None
    ) -> Principal | Awaitable[Principal]:
        """Ask those that are *left*. *refusal* is what is told where none knows. Raises ClaudeError."""
        for authenticator in left:
            try:
                found = authenticator.authenticate(headers)
                if isinstance(found, Awaitable):
                    return self._ask_on(found, authenticator, left, headers, refusal)
                return _checked(found, authenticator)
            except Exception as error:
                refusal = self._refusal(error, authenticator, refusal)
        assert refusal is not None
        try:
            raise refusal
        finally:
            del refusal  # its traceback leads here: a cycle

    async def _ask_on(
        self,
        found: Awaitable[Principal],
        authenticator: IAuthenticator,
        left: Iterator[IAuthenticator],
        headers: Headers,
        refusal: ClaudeError | None,
    ) -> Principal:
        """Wait for what *authenticator* finds, and go on to those that are *left*. Raises ClaudeError."""
        try:
            return _checked(await found, authenticator)
        except CancelledError:
            raise
        except Exception as error:
            refusal = self._refusal(error, authenticator, refusal)
        asked = self._ask(left, headers, refusal)
        return await asked if isinstance(asked, Awaitable) else asked

    def _refusal(self, error: Exception, who: IAuthenticator, before: ClaudeError | None) -> ClaudeError:
        """Return what is told after *error* where no other knows. Raises ClaudeError where none is to be asked."""
        if not isinstance(error, ClaudeError):
            self._log.failure("{who} failed to tell who calls", Failure(error), who=type(who).__name__)
            raise ClaudeError(500, "Internal error of the gateway") from None
        if error.status not in (401, 503):
            raise error
        return error if before is None or error.status > before.status else before


def _checked(found: object, who: IAuthenticator) -> Principal:
    """Return *found*. Raises TypeError where that is nobody, UnicodeError where it cannot be written down: a plugin is
    another's code."""
    if not isinstance(found, Principal):
        raise TypeError(f"{type(who).__name__} returned {type(found).__name__}")
    "".join((found.name, *found.labels, *found.labels.values())).encode()  # half a surrogate pair has no bytes
    return found


class BrowserGuard:
    """Keeps web pages from spending the credentials or reading an answer, and lets those in that may.

    Without keys, whoever reaches the listener may call: a page in a browser on this machine does. Its requests bear an
    ``Origin``, or a ``Host`` that is not ours (a name that was rebound), or a body of a form's type.
    """

    def __init__(
        self, *, origins: Sequence[str] = (), check_host: bool, check_origin: bool, has_page: bool = False
    ) -> None:
        """*origins*: pages that may call, ``*`` for all. With keys neither check is needed; the admin listener always
        checks the origin. *has_page*: the listener serves a page, which may call it."""
        self._origins = frozenset(origin.encode() for origin in origins)
        self._check_host = check_host
        self._check_origin = check_origin
        self._has_page = has_page

    def check(self, method: bytes, headers: Headers) -> Headers:
        """Return headers for the answer, if it goes to a page that may read it. Raises ClaudeError: 403 or 415."""
        if not (self._check_host or self._check_origin or self._origins):
            return ()
        host = origin = kind = None
        has_body = False
        site = b"none"
        for name, value in headers:
            if name == b"host":
                host = value
            elif name == b"origin":
                origin = value
            elif name == b"content-type":
                kind = value
            elif name == b"sec-fetch-site":
                site = value
            elif name == b"transfer-encoding" or (name == b"content-length" and value.strip(b"0")):
                has_body = True
        if self._check_host and not (host and _is_loopback(host)):
            raise ClaudeError(403, "Without client keys this gateway answers to loopback names alone")
        welcome = origin is not None and (origin in self._origins or b"*" in self._origins)
        if self._check_origin:
            # Our own page sends its origin with a POST. A name that was rebound has no key, or is no loopback's.
            ours = self._has_page and host is not None and origin in (b"http://" + host, b"https://" + host)
            if origin is not None and not welcome and not ours:
                raise ClaudeError(403, "This origin is not among server.cors_origins")
            if method in (b"POST", b"DELETE") and not welcome and site not in (b"same-origin", b"none"):
                raise ClaudeError(403, "Pages of other sites cannot act here")
            if (has_body or method == b"POST") and (kind or b"").partition(b";")[
                0
            ].strip().lower() != b"application/json":
                raise ClaudeError(415, "content-type: must be application/json")
        if not welcome:
            return ()
        assert origin is not None
        return (
            (b"access-control-allow-origin", origin),
            (b"access-control-expose-headers", b"*"),
            (b"vary", b"origin"),
        )


class TrustedProxies:
    """The proxies whose ``X-Forwarded-For`` is believed."""

    def __init__(self, trusted: Iterable[str] = ()) -> None:
        """*trusted*: addresses or networks."""
        self._networks = [ip_network(each, strict=False) for each in trusted]

    def client(self, peer: str, headers: Headers) -> str:
        """Return the client's address: the last one that a trusted proxy names."""
        if not self._networks or not self._trusts(peer):
            return peer
        named = b",".join([value for name, value in headers if name == b"x-forwarded-for"]).decode("latin-1")
        address = peer
        for hop in reversed(named.split(",")):
            hop = hop.strip()
            if not _is_address(hop):
                break
            address = hop
            if not self._trusts(hop):
                break
        return address

    def _trusts(self, address: str) -> bool:
        if not _is_address(address):
            return False
        parsed = ip_address(address)
        parsed = getattr(parsed, "ipv4_mapped", None) or parsed
        return any(parsed in network for network in self._networks)


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return "%" not in text  # behind it any words pass for the zone of an address
