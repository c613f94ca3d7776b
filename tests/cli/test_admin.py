"""How the admin listener is asked, and what operators are told where it does not answer."""

from __future__ import annotations

from treq.client import HTTPClient
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.error import ConnectError, ConnectionRefusedError
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.client import URI
from twisted.web.iweb import IAgentEndpointFactory
from zope.interface.verify import verifyObject

from claudeproxyd.cli.admin import PATIENCE, Admin, AdminEndpoints, admin_at
from claudeproxyd.cli.command import CommandFailed
from claudeproxyd.cli.place import AdminPlace
from claudeproxyd.cli.pool import PoolCommand
from tests.cli.support import PLACE, CommandTestCase

POOL = "/admin/v1/pool"


class Asking(CommandTestCase):
    """What goes up, and what may come down."""

    def test_key(self) -> None:
        """It goes in a header."""
        self.admin.tell(POOL, {"total": 0, "gauges": {}, "queue": [], "credentials": []})
        self.ask(PoolCommand())
        self.assertEqual(self.admin.asked[0].key, "Bearer key-of-the-operator")

    def test_without_key(self) -> None:
        """None is sent where there is none, and who is refused for it is told where it goes."""
        self.admin.refuse(POOL, 401, "whatever")
        error = self.fail_to_ask(PoolCommand(), place=AdminPlace("http://h:1"))
        self.assertIsNone(self.admin.asked[0].key)
        self.assertEqual(error.code, 1)
        self.assertIn("set $CLAUDEPROXYD_ADMIN_KEY", str(error))
        why = self.fail_to_ask(
            PoolCommand(), place=AdminPlace("http://h:1", keyless="f:3: server.admin_key: $K is not set")
        )
        self.assertIn("f:3: server.admin_key: $K is not set", str(why))

    def test_wrong_key(self) -> None:
        """It is not repeated."""
        self.admin.refuse(POOL, 401, "whatever")
        error = self.fail_to_ask(PoolCommand())
        self.assertIn("does not know the key", str(error))
        self.assertNotIn(PLACE.key, str(error))

    def test_refused(self) -> None:
        """The daemon's own words are told."""
        self.admin.refuse(POOL, 403, "That is not for this operator")
        error = self.fail_to_ask(PoolCommand())
        self.assertEqual((error.code, str(error)), (1, "That is not for this operator"))

    def test_stranger(self) -> None:
        """Something else that listens there is told to be that."""
        strangers = {404: b"<html>", 200: b"<html>", 500: b""}
        for status, body in strangers.items():
            with self.subTest(status):
                self.admin.answers[POOL] = status, body
                error = self.fail_to_ask(PoolCommand())
                self.assertEqual(error.code, 1)
                self.assertIn("is no admin listener", str(error))
        self.admin.refuse(POOL, 404, f"There is no {POOL} here")
        self.assertIn("is no admin listener", str(self.fail_to_ask(PoolCommand())))

    def test_silence(self) -> None:
        """A daemon that does not answer is given up."""
        self.admin.answers[POOL] = None
        asking = self.begin(PoolCommand())
        self.assertNoResult(asking)
        self.clock.advance(PATIENCE)
        error = self.failureResultOf(asking, CommandFailed).value
        self.assertEqual(error.code, 3)
        self.assertIn("does not answer within 60 s", str(error))

    def test_json(self) -> None:
        """With ``--json`` the daemon's answer is printed for machines."""
        self.admin.tell(POOL, {"total": 0, "gauges": {}, "queue": [], "credentials": [], "further": 1})
        self.assertIn('"further": 1', self.ask(PoolCommand(), "--json"))


class Connecting(SynchronousTestCase):
    """Over TCP, TLS and unix sockets."""

    def setUp(self) -> None:
        self.reactor = MemoryReactorClock()

    def ask(self, url: str) -> Deferred[bytes]:
        return ensureDeferred(admin_at(self.reactor, AdminPlace(url)).raw("GET", POOL, {}))

    def test_interface(self) -> None:
        """The factory of endpoints is one."""
        verifyObject(IAgentEndpointFactory, AdminEndpoints(self.reactor, PLACE))

    def test_tcp(self) -> None:
        """An address and its port."""
        self.ask("http://127.0.0.1:8766")
        self.assertEqual(self.reactor.tcpClients[0][:2], ("127.0.0.1", 8766))

    def test_unix(self) -> None:
        """A socket's path."""
        self.ask("unix:/run/admin.sock")
        self.assertEqual(self.reactor.unixClients[0][0], "/run/admin.sock")

    def test_tls(self) -> None:
        """The certificate has to name the host."""
        endpoint = AdminEndpoints(self.reactor, PLACE).endpointForURI(URI.fromBytes(b"https://127.0.0.1:1/"))
        self.assertIn("TLS", type(endpoint).__name__ + repr(vars(endpoint)))

    def test_nobody_listens(self) -> None:
        """The commonest failure says what to do."""
        error = self.failed("http://127.0.0.1:8766", ConnectionRefusedError())
        self.assertEqual(error.code, 3)
        self.assertIn("nobody listens at http://127.0.0.1:8766: start claudeproxyd", str(error))

    def test_no_socket(self) -> None:
        """A socket that is not there, or not for this user."""
        error = self.failed("unix:/run/admin.sock", ConnectError(13, "Permission denied"))
        self.assertEqual(error.code, 3)
        self.assertIn("unix:/run/admin.sock", str(error))
        self.assertIn("Permission denied", str(error))

    def failed(self, url: str, reason: Exception) -> CommandFailed:
        """What comes of a connection that fails so."""

        class Failing:
            def request(self, *_: object, **__: object) -> Deferred[object]:
                failed: Deferred[object] = Deferred()
                failed.errback(Failure(reason))
                return failed

        http: HTTPClient = Failing()
        asking = ensureDeferred(Admin(http, AdminPlace(url), self.reactor).raw("GET", POOL, {}))
        return self.failureResultOf(asking, CommandFailed).value
