"""Who is calling by a token that another has issued, in the place of a key."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred
from zope.interface import implementer

from claudeproxyd.errors import ClaudeError
from claudeproxyd.interfaces import IAuthenticator
from claudeproxyd.issuers.tokens import is_token, refused_token
from claudeproxyd.principals import Principal
from claudeproxyd.web.access import shown_keys

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from claudeproxyd.headers import Headers
    from claudeproxyd.issuers.registry import Issuers


@implementer(IAuthenticator)
class TokenAuthenticator:
    """Takes the tokens of issuers, in the headers that keys come in, and leaves what is no token to another.

    One valid key or token is enough. A key that looks like a token is a key, where it is known.
    """

    def __init__(self, issuers: Issuers, by_key: IAuthenticator, is_taken: Callable[[str], bool]) -> None:
        """*is_taken* says whether a key has that name: nobody becomes another client by what an issuer calls them."""
        self._issuers = issuers
        self._by_key = by_key
        self._is_taken = is_taken

    def authenticate(self, headers: Headers) -> Principal | Awaitable[Principal]:
        """See :meth:`IAuthenticator.authenticate <claudeproxyd.interfaces.IAuthenticator.authenticate>`."""
        for shown in shown_keys(headers):
            known = self._issuers.known(sha256(shown).digest()) if b"." in shown else None
            if known is not None:
                return self._checked(known)
        token = next(filter(is_token, shown_keys(headers)), None)
        try:
            return self._by_key.authenticate(headers)
        except ClaudeError as error:
            if token is None or error.status not in (401, 503):
                raise
        found = self._issuers.principal(token, sha256(token).digest())
        return found.addCallback(self._checked) if isinstance(found, Deferred) else self._checked(found)

    def _checked(self, principal: Principal) -> Principal:
        if self._is_taken(principal.name):
            raise refused_token("it names you as another client of this gateway, which has a key", 403)
        return principal
