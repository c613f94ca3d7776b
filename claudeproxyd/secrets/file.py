"""A secret in a file that another program rewrites now and then."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred, fail, succeed
from twisted.logger import Logger
from zope.interface import implementer

from claudeproxyd.config.providers import fits_a_header
from claudeproxyd.config.resolving import BadSecret, resolve
from claudeproxyd.interfaces import ISecretSource
from claudeproxyd.observe.scrub import remember
from claudeproxyd.secrets.failures import refused

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

    from claudeproxyd.config.secret import Secret

#: Seconds between two looks at the file.
CHECK_INTERVAL = 1.0

_Signature = tuple[int, int, int, int]


@implementer(ISecretSource)
class FileSecret:
    """An API key or a token from ``{ file = … }``, read again when the file has changed.

    Looks when it is asked, at most once a second: one ``stat`` then, and nothing at all while nobody asks. A file that
    cannot be read, is empty or holds what fits into no header leaves the secret as it was, with one warning.
    """

    refreshable = True
    _log = Logger()

    def __init__(self, member: str, secret: Secret, clock: IReactorTime) -> None:
        """*member*: what it is, ``api_key`` or ``bearer_token``. *secret*: as it was first read, with its path."""
        self._member = member
        self._path = secret.path
        self._clock = clock
        self._members: Mapping[str, str] = {member: secret.reveal()}
        self._signature: _Signature | None = None
        self._look_at = clock.seconds()
        self._warned = False

    def __repr__(self) -> str:
        return f"<FileSecret {self._member} from {self._path}>"

    def present(self) -> Mapping[str, str]:
        """See the interface."""
        if self._clock.seconds() >= self._look_at:
            self._look()
        return self._members

    def refresh(self) -> Deferred[Mapping[str, str]]:
        """Read the file now. Fails if it holds no newer secret: the present one was refused."""
        before = self._members
        self._look()
        if self._members is before:
            return fail(refused(f"refused, and {self._path} holds no newer one"))
        return succeed(self._members)

    def _look(self) -> None:
        self._look_at = self._clock.seconds() + CHECK_INTERVAL
        try:
            status = os.stat(self._path)
            signature = (status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino)
            if signature == self._signature:
                return
            secret, _ = resolve({"file": self._path}, {}, "", digest=False)
            value = secret.reveal()
            if not fits_a_header(value):
                raise BadSecret("holds a character that no header takes")
        except (OSError, BadSecret) as reason:
            if not self._warned:
                self._log.warn(
                    "the secret of {path} stays as it was: {why}",
                    path=self._path,
                    why=reason.strerror if isinstance(reason, OSError) else reason.message,
                )
            self._warned = True
            return
        self._signature = signature
        self._warned = False
        if value != self._members[self._member]:
            remember([value])
            self._members = {self._member: value}
            self._log.info("the secret of {path} is a new one", path=self._path)
