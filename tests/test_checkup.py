"""How credentials are found to be, and in which words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyClass

from claudeproxyd.checkup import MAX_CONCURRENT, PATIENCE, Checkup, Finding
from claudeproxyd.config.schema import Config, CredentialSection, Model, Provider, RouteTo
from claudeproxyd.dispatch.attempt import Attempt
from claudeproxyd.dispatch.request import ApiRequest
from claudeproxyd.executors.responses import BufferedResponse, read_count
from claudeproxyd.interfaces import IBufferedResponse, IExecutor
from claudeproxyd.leases import Credential, Route
from claudeproxyd.outcomes.classify import classify
from claudeproxyd.outcomes.types import AttemptFailed, AttemptPhase, Evidence, Family
from claudeproxyd.secrets.static import StaticSecret
from claudeproxyd.upstream.errors import ConnectFailed, NameNotFound, TLSFailed


@implementer(IExecutor)
class FakeExecutor:
    """Lists and counts what it is told to, or fails so."""

    kind = "anthropic"
    family = Family.ANTHROPIC

    def __init__(self) -> None:
        self.listed: object = ["m1", "m2"]
        self.counted: object = 7
        self.asked: list[Attempt] = []
        self.listing: list[Credential] = []

    def prepare(self, request: ApiRequest, route: Route) -> None:
        return None

    async def messages(self, attempt: Attempt) -> Any:
        raise NotImplementedError

    async def count_tokens(self, attempt: Attempt) -> IBufferedResponse:
        self.asked.append(attempt)
        return BufferedResponse([], read_count(b'{"input_tokens":%d}' % await self._result(self.counted)))

    async def models(self, credential: Credential) -> list[dict[str, Any]]:
        self.listing.append(credential)
        return [{"id": name} for name in await self._result(self.listed)]

    async def _result(self, result: Any) -> Any:
        if isinstance(result, Exception):
            raise result
        return await result if isinstance(result, Deferred) else result


verifyClass(IExecutor, FakeExecutor)


def refusal(status: int, kind: str = "", message: str = "") -> AttemptFailed:
    """What an executor makes of an upstream's error."""
    body = b'{"type":"error","error":{"type":"%b","message":"%b"}}' % (kind.encode(), message.encode())
    evidence = Evidence(Family.ANTHROPIC, AttemptPhase.ANSWER, status=status, body=body)
    return AttemptFailed(classify(evidence))


class Checkups(SynchronousTestCase):
    """Two questions, and what follows from the answers."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.executor = FakeExecutor()

    def checkup(
        self, *names: str, models: Sequence[Model] = (), provider: Mapping[str, Any] | None = None, **members: Any
    ) -> Checkup:
        """Of credentials with these names; *members* are theirs."""
        section = Provider(
            name="p",
            kind="anthropic",
            credentials=[CredentialSection(name=name) for name in names],
            **(provider or {}),
        )
        credentials = [Credential("p", name, StaticSecret({"api_key": "k"}), **members) for name in names]
        config = Config(providers=[section], models=list(models))
        return Checkup(self.clock, config, {"p": self.executor}, credentials)

    def find(self, **options: Any) -> Finding:
        """How one credential is."""
        (found,) = self.successResultOf(ensureDeferred(self.checkup("a", **options).findings()))
        return found

    def test_well(self) -> None:
        """It lists its models, and counts with one of them."""
        expected = Finding(provider="p", credential="a", models=2, model="m1", tokens=7)
        self.assertEqual(self.find(), expected)

    def test_refused_key(self) -> None:
        """A refused key is said to be that, whatever may be counted without one."""
        self.executor.listed = refusal(401, "authentication_error", "invalid x-api-key")
        found = self.find()
        self.assertEqual(found.trouble, "the key is refused: invalid x-api-key")
        self.assertIn("configuration", found.mend)
        self.assertEqual(self.executor.asked, [])

    def test_no_way_there(self) -> None:
        """What is wrong on the way is told in the words of the connection, with what to look at."""
        for error, mend in (
            (NameNotFound("no address was found for nix.invalid"), "DNS"),
            (TLSFailed("the certificate of h is for another name"), "tls.ca_file"),
            (ConnectFailed("no connection to h:1: refused"), "base_url"),
        ):
            with self.subTest(error):
                self.executor.listed = error
                found = self.find()
                self.assertEqual(found.trouble, str(error))
                self.assertIn(mend, found.mend)

    def test_other_troubles(self) -> None:
        """Quota, money, rights and overload each have their words."""
        for failure, words in (
            (refusal(429, "rate_limit_error"), "quota"),
            (refusal(402), "credit"),
            (refusal(403, "permission_error"), "may not"),
            (refusal(529, "overloaded_error"), "overloaded"),
            (refusal(500, "api_error"), "fails"),
        ):
            with self.subTest(words):
                self.executor.listed = ["m"]
                self.executor.counted = failure
                self.assertIn(words, self.find().trouble)

    def test_lists_nothing(self) -> None:
        """An upstream without a list is well if it counts: a note says what it does not do."""
        self.executor.listed = refusal(404)
        found = self.find(models=[Model(name="claude-x", routes=[RouteTo(provider="p", model="up-x")])])
        self.assertEqual((found.models, found.model, found.tokens, found.trouble), (None, "up-x", 7, ""))
        self.assertIn("does not list", found.note)

    def test_counts_nothing(self) -> None:
        """And one that does not count is well if it lists."""
        self.executor.counted = refusal(404)
        found = self.find()
        self.assertEqual((found.models, found.tokens, found.trouble), (2, None, ""))
        self.assertIn("does not count", found.note)

    def test_wrong_base_url(self) -> None:
        """What neither lists nor counts is no such API."""
        self.executor.listed = self.executor.counted = refusal(404)
        found = self.find(provider={"models": ["m"]})
        self.assertIn("base_url", found.mend)
        self.assertIn("does not list", found.trouble)

    def test_nonsense(self) -> None:
        """Whatever else an executor raises ends one question alone."""
        self.executor.listed = ValueError("<html>")
        found = self.find(provider={"models": ["m"]})
        self.assertEqual((found.trouble, found.tokens), ("", 7))
        self.assertIn("makes no sense", found.note)

    def test_silence(self) -> None:
        """An upstream that does not answer is given up."""
        self.executor.listed = Deferred()
        asked = ensureDeferred(self.checkup("a").findings())
        self.assertNoResult(asked)
        self.clock.advance(PATIENCE)
        self.assertIn("no answer in time", self.successResultOf(asked)[0].trouble)

    def test_model(self) -> None:
        """It counts with a model that both provider and credential serve; without any it does not count."""
        self.executor.listed = ["x-1", "m-1", "m-2"]
        self.assertEqual(self.find(provider={"models": ["m-*"]}, models=[]).model, "m-1")
        self.executor.listed = []
        self.assertEqual(self.find().model, "")

    def test_model_of_the_credential(self) -> None:
        """A credential may serve less than its provider."""
        checkup = self.checkup("a")
        narrow = Credential("p", "a", StaticSecret({"api_key": "k"}), models=("m2",))
        self.assertEqual(self.successResultOf(ensureDeferred(checkup.finding(narrow))).model, "m2")

    def test_chosen(self) -> None:
        """One provider, or credentials of one name, may be asked alone."""
        checkup = self.checkup("a", "b")
        found = self.successResultOf(ensureDeferred(checkup.findings("p", "b")))
        self.assertEqual([each.credential for each in found], ["b"])
        self.assertEqual(self.successResultOf(ensureDeferred(checkup.findings("other"))), [])

    def test_not_all_at_once(self) -> None:
        """A provider with many credentials is asked a few at a time."""
        self.executor.listed = Deferred()
        asked = ensureDeferred(self.checkup(*map(str, range(MAX_CONCURRENT + 3))).findings())
        self.assertEqual(len(self.executor.listing), MAX_CONCURRENT)
        asked.addErrback(lambda _: None)
        asked.cancel()

    def test_disabled(self) -> None:
        """A credential that is out of service is asked, and said to be that."""
        self.assertTrue(self.find(disabled=True).disabled)
