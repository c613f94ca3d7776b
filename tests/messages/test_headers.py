"""Which headers travel, and which stay."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.messages import headers as module
from claudeproxyd.messages.headers import client_headers, upstream_lines, value_of
from claudeproxyd.remembered import MAX_WORD_LENGTH, MAX_WORDS

VERSION = (b"anthropic-version", b"2023-06-01")


def up(*headers: tuple[bytes, bytes], **betas: list[bytes]) -> list[tuple[bytes, bytes]]:
    """What an upstream gets."""
    lines = upstream_lines(headers, **betas)  # type: ignore[arg-type]  # both are sequences of bytes
    assert lines.endswith(b"\r\n") or not lines
    return [(name, value) for line in lines.split(b"\r\n")[:-1] for name, _, value in [line.partition(b": ")]]


class Up(SynchronousTestCase):
    """From the client to an Anthropic upstream."""

    def test_passes(self) -> None:
        """The version as it is, all that is Anthropic's, Claude's and the SDK's own, and a few more, in order."""
        headers = [
            (b"anthropic-version", b"2026-10-21"),
            (b"anthropic-beta", b"a-1,b-2"),
            (b"anthropic-dangerous-direct-browser-access", b"true"),
            (b"x-claude-code-session-id", b"s"),
            (b"x-stainless-lang", b"js"),
            (b"x-app", b"cli"),
            (b"x-client-request-id", b"c"),
            (b"user-agent", b"claude-cli/2"),
            (b"accept", b"application/json"),
            (b"idempotency-key", b"i"),
        ]
        self.assertEqual(up(*headers), headers)

    def test_stays(self) -> None:
        """Never the client's key, its cookies, hop-by-hop or forwarding headers, nor what is ours to say."""
        for name in (
            b"x-api-key",
            b"authorization",
            b"proxy-authorization",
            b"cookie",
            b"host",
            b"content-length",
            b"content-encoding",
            b"content-type",
            b"accept-encoding",
            b"connection",
            b"keep-alive",
            b"te",
            b"trailer",
            b"transfer-encoding",
            b"upgrade",
            b"expect",
            b"forwarded",
            b"via",
            b"x-forwarded-for",
            b"x-real-ip",
            b"cf-connecting-ip",
            b"origin",
            b"referer",
            b"x-something-else",
        ):
            self.assertEqual(up((name, b"v"), VERSION), [VERSION], name)

    def test_version_is_added(self) -> None:
        """A request without a version means the first."""
        self.assertEqual(up((b"x-app", b"cli")), [(b"x-app", b"cli"), VERSION])
        self.assertEqual(up(), [VERSION])

    def test_named_in_connection(self) -> None:
        """What the client's own connection names goes no further, in whichever of the headers it is named."""
        named = [(b"connection", b"keep-alive"), (b"connection", b"close, X-App"), (b"connection", b"x-stainless-lang")]
        self.assertEqual(up(*named, (b"x-app", b"c"), (b"x-stainless-lang", b"js"), VERSION), [VERSION])

    def test_betas(self) -> None:
        """The operator's betas are added once, unwanted ones dropped, the client's order kept."""
        betas = [(b"anthropic-beta", b"a-1, b-2"), (b"x-app", b"cli"), (b"anthropic-beta", b"c-3"), VERSION]
        options = {"add_betas": [b"c-3", b"d-4"], "drop_betas": [b"b-2"]}
        self.assertIn((b"anthropic-beta", b"a-1,c-3,d-4"), up(*betas, **options))
        self.assertEqual(up(VERSION, add_betas=[b"d-4"]), [VERSION, (b"anthropic-beta", b"d-4")])
        self.assertEqual(up(VERSION, (b"anthropic-beta", b"b-2"), drop_betas=[b"b-2"]), [VERSION])

    def test_smuggled(self) -> None:
        """A value that would end its line early goes, whole; its neighbours stay."""
        for value in (b"a\r\nx-api-key: k", b"a\nb: c", b"a\rb", b"a\0b", b"\r\n\r\nGET / HTTP/1.1"):
            for name in (b"user-agent", b"anthropic-beta"):
                self.assertEqual(up((name, value), (b"x-app", b"cli"), VERSION), [(b"x-app", b"cli"), VERSION])
            names = {name for name, _ in up((b"anthropic-beta", value), VERSION, add_betas=[b"d-4"])}
            self.assertLessEqual(names, {b"anthropic-version", b"anthropic-beta"})


class Down(SynchronousTestCase):
    """From an upstream to the client."""

    def test_passes(self) -> None:
        """What is end to end passes as it came, twice where it came twice."""
        headers = [
            (b"content-type", b"application/json"),
            (b"request-id", b"req_1"),
            (b"x-should-retry", b"true"),
            (b"anthropic-organization-id", b"o"),
            (b"anthropic-ratelimit-requests-remaining", b"3"),
            (b"x-new", b"1"),
            (b"x-new", b"2"),
        ]
        self.assertEqual(client_headers(headers), headers)

    def test_stays(self) -> None:
        """Hop-by-hop, cookies, the decoded body's, CORS, the host's and the cloud's own, forgeries, keys."""
        for name in (
            b"connection",
            b"keep-alive",
            b"proxy-authenticate",
            b"te",
            b"trailer",
            b"transfer-encoding",
            b"upgrade",
            b"set-cookie",
            b"content-length",
            b"content-encoding",
            b"access-control-allow-origin",
            b"server",
            b"via",
            b"cf-ray",
            b"cf-cache-status",
            b"x-claudeproxyd-provider",
            b"authorization",
            b"proxy-authorization",
            b"x-api-key",
            b"x-goog-api-key",
            b"x-amz-security-token",
            b"cookie",
            b"x-goog-user-project",
        ):
            self.assertEqual(client_headers([(name, b"v"), (b"request-id", b"r")]), [(b"request-id", b"r")], name)

    def test_named_in_connection(self) -> None:
        """So does what the upstream's connection names, in whichever of the headers it is named."""
        headers = [(b"connection", b"X-Hop"), (b"connection", b"close, x-other"), (b"x-hop", b"1"), (b"x-other", b"2")]
        self.assertEqual(client_headers(headers), [])

    def test_rate_limits(self) -> None:
        """One credential's limits say nothing where several stand behind one name."""
        headers = [(b"anthropic-ratelimit-tokens-reset", b"x"), (b"request-id", b"r")]
        self.assertEqual(client_headers(headers, strip_rate_limits=True), [(b"request-id", b"r")])

    def test_names_kept_are_bounded(self) -> None:
        """Whoever makes up header names, a client or an upstream, does not fill our memory: by many or by long ones."""
        for kept, cross in ((module._goes_up, upstream_lines), (module._goes_down, client_headers)):
            self.addCleanup(kept.clear)
            cross([(b"x-" + b"y" * 60_000 + b"%d" % number, b"1") for number in range(10)])
            self.assertFalse([name for name in kept if len(name) > MAX_WORD_LENGTH])
            for number in range(2 * MAX_WORDS):
                cross([(b"x-%d" % number, b"1")])
                self.assertLessEqual(len(kept), MAX_WORDS)

    def test_value_of(self) -> None:
        """The first of a name; b'' where there is none."""
        self.assertEqual(value_of([(b"a", b"1"), (b"a", b"2")], b"a"), b"1")
        self.assertEqual(value_of([], b"a"), b"")
