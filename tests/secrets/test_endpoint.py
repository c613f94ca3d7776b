"""How token endpoints, issuers and the like are asked."""

from __future__ import annotations

import gzip
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.iweb import IAgent
from zope.interface.verify import verifyObject

from claudeproxyd.secrets.endpoint import PlainAgent, http_client, response_of


class PlainAgentTests(SynchronousTestCase):
    """Answers are taken as they are."""

    def test_interface(self) -> None:
        """It is one."""
        verifyObject(IAgent, PlainAgent(None))  # type: ignore[arg-type]

    def test_answers(self) -> None:
        """What is compressed nevertheless stays so, for it may be a thousand times as long; no cookie is kept."""
        reactor = MemoryReactorClock()
        http = http_client(reactor)
        body = gzip.compress(b"x" * 1000)
        for _ in range(2):
            asked: Any = http.get("http://127.0.0.1:9/keys", allow_redirects=False)
            answered = Deferred.fromCoroutine(response_of(asked, "it"))
            reactor.advance(0)
            protocol = reactor.tcpClients.pop(0)[2].buildProtocol(None)
            wire = StringTransport()
            protocol.makeConnection(wire)
            self.assertIn(b"Accept-Encoding: identity\r\n", wire.value())
            self.assertNotIn(b"Cookie", wire.value())
            head = b"HTTP/1.1 200 OK\r\nset-cookie: a=b\r\ncontent-encoding: gzip\r\ncontent-length: %d\r\n\r\n"
            protocol.dataReceived(head % len(body) + body)
            self.assertEqual(self.successResultOf(answered), (200, body))
