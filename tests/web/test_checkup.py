"""``/admin/v1/pool/check``."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.checkup import Finding, IssuerFinding
from claudeproxyd.web.site import GatewaySite
from tests.web.support import Connection, Listener, Reply, get, post
from tests.web.test_admin import admin_root

PATH = "/admin/v1/pool/check"


class FakeCheckup:
    """Finds what it is told, when it is told."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        self.found: Deferred[list[Finding]] = Deferred()

    async def findings(self, provider: str, credential: str) -> list[Finding]:
        self.asked.append((provider, credential))
        return await self.found


class CheckCredentials(SynchronousTestCase):
    """The endpoint."""

    def setUp(self) -> None:
        listener = Listener()
        self.checkup = FakeCheckup()
        checkup: Any = lambda: self.checkup  # noqa: E731

        async def issuers() -> list[IssuerFinding]:
            return [IssuerFinding(issuer="https://login.example.com", trouble="says 404")]

        root = admin_root(checkup=checkup, issuers=issuers)
        self.connection = Connection(GatewaySite(root, listener.site.gateway, listener.clock))

    def test_found(self) -> None:
        """It answers when all have been asked; a key in an upstream's words is masked."""
        self.connection.send(post(PATH, b'{"provider":"p"}'))
        self.assertEqual((self.checkup.asked, self.connection.take()), ([("p", "")], b""))
        trouble = "refused: sk-ant-api03-AbCdEf_123-x"
        self.checkup.found.callback([Finding(provider="p", credential="a", trouble=trouble)])
        reply = Reply(self.connection.take())
        self.assertEqual((reply.status, reply.json["credentials"][0]["trouble"]), (200, "refused: ***"))

    def test_issuers(self) -> None:
        """They are asked where no credential is named."""
        self.checkup.found.callback([])
        for body, expected in ((b"", ["says 404"]), (b'{"provider":"p"}', []), (b'{"credential":"c"}', [])):
            self.connection.send(post(PATH, body))
            told = Reply(self.connection.take()).json["issuers"]
            self.assertEqual([each["trouble"] for each in told], expected)

    def test_who_leaves_meanwhile(self) -> None:
        """An operator who left does no harm."""
        self.connection.send(post(PATH, b""))
        self.connection.lose()
        self.checkup.found.callback([])

    def test_fault(self) -> None:
        """A fault of ours is a 500, and logged."""
        self.connection.send(post(PATH, b""))
        self.checkup.found.errback(ZeroDivisionError())
        self.assertEqual(Reply(self.connection.take()).status, 500)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_refused(self) -> None:
        """It is asked by POST, with names that it knows."""
        for asked, status in ((get(PATH), 405), (post(PATH, b'{"provder":"p"}'), 400), (post(PATH, b"["), 400)):
            self.connection.send(asked)
            self.assertEqual(Reply(self.connection.take()).status, status)
        self.assertEqual(self.checkup.asked, [])
