"""Refresh tokens that are good for one use, over reloads and restarts."""

from __future__ import annotations

import json
from typing import Any

from treq.testing import StubTreq
from twisted.internet.testing import MemoryReactorClock
from twisted.web.server import NOT_DONE_YET

from claudeproxyd.config.schema import Config, CredentialSection, OAuth, Provider
from claudeproxyd.config.secret import Secret
from claudeproxyd.outcomes.types import AttemptFailed
from claudeproxyd.secrets import sources as sources_module
from claudeproxyd.secrets.grants import Grants
from claudeproxyd.secrets.sources import Sources
from tests.secrets.support import SecretsTestCase, TokenEndpoint
from tests.store.support import exported

NOW = 1_700_000_000.0


def oauth(refresh_token: str = "refresh-token-1", **more: Any) -> OAuth:
    """A section."""
    return OAuth(token_url="https://login.example/t", client_id="me", refresh_token=Secret(refresh_token), **more)


class OnceOnly(TokenEndpoint):
    """Takes each refresh token once, and gives the next with each access token."""

    def __init__(self) -> None:
        super().__init__()
        self.good = "refresh-token-1"
        self.given = 1
        self.slow = False
        self.held: list[Any] = []

    def render(self, request: Any) -> Any:
        """One request."""
        super().render(request)
        body = self.answer(self.forms[-1]["refresh_token"], request)
        if self.slow:
            self.held.append((request, body))
            return NOT_DONE_YET
        return body

    def answer(self, shown: str, request: Any) -> bytes:
        """What is said to that token."""
        if shown != self.good:
            request.setResponseCode(400)
            return b'{"error":"invalid_grant"}'
        self.given += 1
        self.good = f"refresh-token-{self.given}"
        said = {"access_token": f"ya29-access-{self.given}", "refresh_token": self.good, "expires_in": 3600}
        return json.dumps(said).encode()


class GrantsTestCase(SecretsTestCase):
    """Daemons one after the other, in front of one server."""

    def setUp(self) -> None:
        super().setUp()
        self.endpoint = OnceOnly()
        self.now = NOW
        self.state: dict[str, Any] = {}
        self.http = StubTreq(self.endpoint)
        self.patch(sources_module, "http_client", lambda reactor, proxy: self.http)

    def daemon(self, *, loads: bool = True) -> tuple[Grants, Sources]:
        """What one daemon has of it, with the state of the one before."""

        def changed(changes: Any) -> None:
            for key, value in changes.items():
                self.state.pop(key, None)
                if value is not None:
                    self.state[key] = value

        grants = Grants(lambda: self.now, outlive=True, changed=changed)
        if loads:
            grants.import_state(dict(self.state))
            grants.settle()
        return grants, Sources(MemoryReactorClock(), lambda: self.now, grants)

    def use(self, sources: Sources, *credentials: CredentialSection, proxy: str = "") -> None:
        """Have these."""
        provider = Provider(name="p", kind="x", proxy=proxy, credentials=list(credentials))
        sources.reload(Config(providers=[provider]))

    def fetch(self, sources: Sources, name: str = "c") -> str:
        """An access token, which is to be had."""
        return self.successResultOf(sources.source("p", name).refresh())["bearer_token"]


class ReloadTests(GrantsTestCase):
    """A new configuration."""

    def test_provider_is_touched(self) -> None:
        """The newest token is used on, though the provider has another proxy now and the source is made anew."""
        _, sources = self.daemon()
        self.use(sources, CredentialSection(name="c", oauth=oauth()))
        self.assertEqual(self.fetch(sources), "ya29-access-2")
        self.use(sources, CredentialSection(name="c", oauth=oauth()), proxy="http://proxy:3128")
        self.assertEqual(self.fetch(sources), "ya29-access-3")
        self.use(sources)
        self.use(sources, CredentialSection(name="renamed", oauth=oauth()))
        self.assertEqual(self.fetch(sources, "renamed"), "ya29-access-4")

    def test_another_token(self) -> None:
        """An operator who logs in anew and configures what that gave is heard."""
        _, sources = self.daemon()
        self.use(sources, CredentialSection(name="c", oauth=oauth()))
        self.fetch(sources)
        self.endpoint.good = "from-a-new-login"
        self.use(sources, CredentialSection(name="c", oauth=oauth("from-a-new-login")))
        self.fetch(sources)
        self.assertEqual(self.endpoint.forms[-1]["refresh_token"], "from-a-new-login")

    def test_two_at_once(self) -> None:
        """Two credentials of one token, or a fetch that a reload overtakes, do not spend it twice."""
        _, sources = self.daemon()
        self.endpoint.slow = True
        self.use(sources, *(CredentialSection(name=name, oauth=oauth()) for name in "ab"))
        first = sources.source("p", "a").refresh()
        second = sources.source("p", "b").refresh()
        self.use(sources, CredentialSection(name="a", oauth=oauth()), proxy="http://proxy:3128")
        third = sources.source("p", "a").refresh()
        for number, waiting in enumerate((first, second, third), 1):
            self.assertEqual(len(self.endpoint.forms), number)
            self.assertNoResult(waiting)
            request, body = self.endpoint.held.pop()
            request.write(body)
            request.finish()
            self.http.flush()
            self.successResultOf(waiting)
        sent = [form["refresh_token"] for form in self.endpoint.forms]
        self.assertEqual(sent, ["refresh-token-1", "refresh-token-2", "refresh-token-3"])


class RestartTests(GrantsTestCase):
    """Another daemon with the state of the one before."""

    def test_newest_outlives_a_restart(self) -> None:
        """The token that the last answer brought is the one that the next daemon asks with."""
        _, sources = self.daemon()
        self.use(sources, CredentialSection(name="c", oauth=oauth()))
        self.fetch(sources)
        self.fetch(sources)
        for number in (4, 5):
            _, sources = self.daemon()
            self.use(sources, CredentialSection(name="c", oauth=oauth()))
            self.assertEqual(self.fetch(sources), f"ya29-access-{number}")
        self.assertEqual(self.warnings, [])
        self.assert_masked("refresh-token-4")

    def test_not_before_the_state_is_there(self) -> None:
        """A request that comes while the state is being read waits for it: the configured token may be spent."""
        _, sources = self.daemon()
        self.use(sources, CredentialSection(name="c", oauth=oauth()))
        self.fetch(sources)
        grants, sources = self.daemon(loads=False)
        self.use(sources, CredentialSection(name="c", oauth=oauth()))
        waiting = sources.source("p", "c").refresh()
        self.assertEqual(len(self.endpoint.forms), 1)
        grants.import_state(dict(self.state))
        grants.settle()
        self.assertEqual(self.successResultOf(waiting), {"bearer_token": "ya29-access-3"})

    def test_given_up_meanwhile(self) -> None:
        """Who waited for the state and was timed out is not called, and the others are."""
        grants, sources = self.daemon(loads=False)
        self.use(sources, CredentialSection(name="c", oauth=oauth()))
        waiting = sources.source("p", "c").refresh()
        sources._reactor.advance(15.0)
        self.failureResultOf(waiting, AttemptFailed)
        grants.settle()
        self.assertEqual(self.endpoint.forms, [])

    def test_nobody_can_read_it(self) -> None:
        """The state holds neither the new token nor the configured one, in whatever form."""
        _, sources = self.daemon()
        self.use(sources, CredentialSection(name="c", oauth=oauth(client_secret=Secret("the-clients-secret"))))
        self.fetch(sources)
        kept = json.dumps(self.state)
        self.assertEqual(len(self.state), 1)
        for secret in ("refresh-token", "the-clients-secret", "login.example"):
            self.assertNotIn(secret, kept)

    def test_other_configurations(self) -> None:
        """Whoever has another first token, or another client, gets nothing of it and spoils nothing."""
        _, sources = self.daemon()
        self.use(sources, CredentialSection(name="c", oauth=oauth()))
        self.fetch(sources)
        for other in (
            oauth("another"),
            oauth(client_secret=Secret("x")),
        ):
            grants, _ = self.daemon()
            self.assertEqual(grants.grant(other).newest, other.refresh_token.reveal())
        self.assertEqual(len(self.state), 1)

    def test_damage(self) -> None:
        """What is no entry is deleted; one that was tampered with is passed over."""
        _, sources = self.daemon()
        self.use(sources, CredentialSection(name="c", oauth=oauth()))
        self.fetch(sources)
        ((key, value),) = self.state.items()
        self.state[key] = {**value, "token": value["token"][::-1]}
        self.state |= {'["grant"]': value, '["grant","x"]': 7, '["grant","y"]': {"token": 1}}
        grants, _ = self.daemon()
        self.assertEqual(grants.grant(oauth()).newest, "refresh-token-1")
        self.assertEqual(list(self.state), [key])

    def test_of_another_daemon(self) -> None:
        """Where daemons share their state, the newest of any is everybody's; an older word is not heard."""
        one, its = self.daemon()
        other, _ = self.daemon()
        old = exported(one)
        self.use(its, CredentialSection(name="c", oauth=oauth()))
        grant = other.grant(oauth())
        self.fetch(its)
        first = exported(one)
        self.now += 1.0
        self.fetch(its)
        other.merge(exported(one))
        other.merge(first)
        other.merge(dict.fromkeys(first))
        self.assertEqual((old, grant.newest), ({}, "refresh-token-3"))

    def test_without_a_state(self) -> None:
        """Where nothing outlives the daemon there is nothing to wait for, and a warning, once."""
        sources = Sources(MemoryReactorClock())
        self.use(sources, CredentialSection(name="c", oauth=oauth()))
        self.fetch(sources)
        self.fetch(sources)
        self.assertEqual([line.count("of no use after a restart") for line in self.warnings], [1])
