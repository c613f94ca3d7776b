"""What balancers and supervisors ask: answered on every listener, to everybody, however plainly it is put."""

from __future__ import annotations

from dataclasses import replace

from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.principals import Principal
from claudeproxyd.web.access import BrowserGuard
from claudeproxyd.web.roles import Operator, Role
from tests.web.support import AdminListener, Listener, get, post
from tests.web.test_admin import admin_root

PLAIN = b"%b %b HTTP/1.0\r\n\r\n"
BY_NAME = b"%b %b HTTP/1.1\r\nHost: gateway.example\r\nUser-Agent: kube-probe/1.36\r\n\r\n"


class Probes(SynchronousTestCase):
    """``/healthz`` and ``/readyz``."""

    def test_answered_everywhere(self) -> None:
        """With or without keys, by any name or none: HAProxy's plain check has no ``Host``."""
        guarded = BrowserGuard(check_host=True, check_origin=True)
        keyed = AdminListener(admin_root(), Operator("operator", role=Role.OPERATE))
        for listener in (Listener(Principal("k")), Listener(guard=guarded), AdminListener(admin_root()), keyed):
            for path in (b"/healthz", b"/readyz"):
                for method in (b"GET", b"HEAD"):
                    for request in (PLAIN, BY_NAME):
                        asked = request % (method, path)
                        self.assertEqual(listener.ask(asked).status, 200, asked)

    def test_nothing_else(self) -> None:
        """Another path, or another method of theirs, is guarded as ever."""
        guarded = BrowserGuard(check_host=True, check_origin=True)
        for listener in (Listener(guard=guarded), AdminListener(admin_root())):
            self.assertEqual(listener.ask(PLAIN % (b"GET", b"/")).status, 403)
            self.assertEqual(listener.ask(PLAIN % (b"DELETE", b"/healthz")).status, 403)
            self.assertEqual(listener.ask(post("/readyz", b"", "Origin: https://evil.example")).status, 403)

    def test_pages(self) -> None:
        """A page that may call may read them, and another one learns nothing."""
        guarded = BrowserGuard(origins=["https://good.example"], check_host=True, check_origin=True)
        listener = Listener(guard=guarded)
        for origin, told in ((b"https://good.example", True), (b"https://evil.example", False)):
            reply = listener.ask(get("/readyz", f"Origin: {origin.decode()}"))
            self.assertEqual((reply.status, b"access-control-allow-origin" in reply.headers), (200, told))

    def test_many_connections(self) -> None:
        """A process that has all the connections it may have lives: nobody is to kill it for that."""
        listener = Listener()
        listener.site.gateway = replace(
            listener.site.gateway, limits=replace(listener.site.gateway.limits, max_connections=1)
        )
        listener.connect()
        self.assertEqual(listener.ask(get("/healthz")).status, 200)
        self.assertEqual(listener.ask(get("/readyz")).status, 200)
        self.assertEqual(listener.ask(get("/")).status, 503)
