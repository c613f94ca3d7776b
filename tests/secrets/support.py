"""What the tests of the secrets share."""

from __future__ import annotations

from typing import Any

from treq.testing import StubTreq
from twisted.logger import globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.http import Request
from twisted.web.resource import Resource

from claudeproxyd.observe.scrub import scrub


class TokenEndpoint(Resource):
    """Answers every request as the test says, and keeps the forms that it was sent."""

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.status = 200
        self.body = b'{"access_token":"ya29-first-token","expires_in":3600,"token_type":"Bearer"}'
        self.forms: list[dict[str, str]] = []
        self.requests: list[Request] = []

    def render(self, request: Any) -> bytes:
        """One request."""
        self.requests.append(request)
        self.forms.append({key.decode(): values[0].decode() for key, values in request.args.items()})
        request.setResponseCode(self.status)
        if 300 <= self.status < 400:
            request.setHeader("location", "http://elsewhere.example/")
        return self.body

    @property
    def http(self) -> Any:
        """A client whose every request comes here."""
        return StubTreq(self)


class SecretsTestCase(SynchronousTestCase):
    """A test that sees what is logged."""

    def setUp(self) -> None:
        """Listen to the log."""
        self.logged: list[tuple[str, str]] = []

        def observe(event: Any) -> None:
            if "log_level" in event and event.get("log_format"):
                self.logged.append((event["log_level"].name, event["log_format"].format(**event)))

        globalLogPublisher.addObserver(observe)
        self.addCleanup(globalLogPublisher.removeObserver, observe)

    @property
    def warnings(self) -> list[str]:
        """What went wrong."""
        return [line for level, line in self.logged if level == "warn"]

    def assert_masked(self, value: str) -> None:
        """That value is known as a secret."""
        self.assertNotIn(value, scrub(f"it is {value}!"))
