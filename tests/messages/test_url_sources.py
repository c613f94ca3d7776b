"""What a client may have an upstream fetch."""

from __future__ import annotations

import contextlib
import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.messages.url_sources import GOOGLE_DOMAINS, forbidden, is_place, named_in, objection

PUBLIC = (
    "https://example.com/a.png",
    "HTTPS://Example.COM/a.png",
    "https://example.com",
    "https://example.com?a=b",
    "https://example.com./a.png",
    "https://example.com:8443/a.png",
    "https://a-b.c_d.example.com/ü/%20.pdf?x=http://localhost/#y@z",
    "https://xn--bcher-kva.example/a.png",
    "https://storage.googleapis.com/bucket/a.png",
    "https://bucket.s3.amazonaws.com/a.pdf?X-Amz-Signature=1",
    "https://8.8.8.8.example.com/",
    "https://localhost.example.com/",
)
FORBIDDEN = (
    "",
    "a.png",
    "//example.com/a.png",
    "https:example.com/a.png",
    "https:/example.com/a.png",
    "https:///a.png",
    "https://",
    "https://?a.png",
    "gs://operators-private-bucket/payroll.pdf",
    "GS://b/o.png",
    "s3://b/o.png",
    "az://b/o.png",
    "file:///etc/passwd.png",
    "file://localhost/etc/passwd",
    "ftp://example.com/a.png",
    "http://example.com/a.png",
    "data:image/png;base64,aGFsbG8=",
    "javascript:alert(1)//a.png",
    "javascript://example.com/%0aalert(1)",
    "blob:https://example.com/x",
    "view-source:https://example.com/",
    "http://169.254.169.254/a.png",
    "https://169.254.169.254/a.png",
    "https://169.254.169.254./a.png",
    "https://127.0.0.1/a.png",
    "https://127.1/a.png",
    "https://2130706433/a.png",
    "https://0x7f.1/a.png",
    "https://0x7f000001/a.png",
    "https://0177.0.0.1/a.png",
    "https://10.0.0.1/a.png",
    "https://192.168.1.1:8443/a.png",
    "https://8.8.8.8/a.png",
    "https://example.com.0x1/",
    "https://[::1]/a.png",
    "https://[::ffff:127.0.0.1]/a.png",
    "https://[fd00::1]/a.png",
    "https://[2606:4700::1]/a.png",
    "https://localhost/a.png",
    "https://localhost./a.png",
    "https://printer/a.png",
    "https://printer./a.png",
    "https://a.localhost/a.png",
    "https://a.local/a.png",
    "https://wiki.corp/a.png",
    "https://router.home.arpa/a.png",
    "https://metadata.google.internal/computeMetadata/v1/",
    "https://metadata.google.internal./a.png",
    "https://kubernetes.default.svc.cluster.local/a.png",
    "https://user@example.com/a.png",
    "https://user:secret@example.com/a.png",
    "https://example.com@169.254.169.254/a.png",
    "https://example.com:80:90/a.png",
    "https://example.com:/a.png",
    "https://example.com:x/a.png",
    "https://.example.com/a.png",
    "https://example..com/a.png",
    "https://example.com../a.png",
    "https://exa%6dple.com/a.png",
    "https://127。0。0。1/a.png",
    "https://①②⑦.0.0.1/a.png",
    "https://ⓔxample.com/a.png",
    "https://\u212aelvin.example/a.png",
    "http\u017f://example.com/a.png",
    "https://example.com:\u0663/a.png",
    "https://example.com\\@169.254.169.254/a.png",
    "https://169.254.169.254\\.example.com/a.png",
    "https://example.com/a b.png",
    " https://example.com/a.png",
    "https://example.com/a.png\n",
    "ht\ntps://example.com/a.png",
    "https://exam\tple.com/a.png",
    "https://example.com\0.evil/a.png",
)


class Urls(SynchronousTestCase):
    """One URL."""

    def test_public(self) -> None:
        """What anybody can read, anybody may name."""
        self.assertEqual([url for url in PUBLIC if objection(url) is not None], [])

    def test_forbidden(self) -> None:
        """Buckets, other schemes, addresses, private names, and whatever two readers may read differently: not."""
        self.assertEqual([url for url in FORBIDDEN if objection(url) is None], [])

    def test_places(self) -> None:
        """The operator can name buckets and hosts: those, and nothing that only looks like them."""
        places = {"gs://team-docs", "https://images.corp:8443"}
        for url in ("gs://team-docs/a/b.pdf", "GS://team-docs", "https://images.corp:8443/a.png"):
            self.assertIsNone(objection(url, places), url)
        for url in (
            "gs://team-docs-2/a.pdf",
            "gs://team-doc/a.pdf",
            "gs://x@team-docs/a.pdf",
            "gs:///team-docs/a.pdf",
            "gs://other/../team-docs/a.pdf",
            "s3://team-docs/a.pdf",
            "https://team-docs/a.pdf",
            "https://images.corp/a.png",
            "https://images.corp:8443@evil.example/a.png",
            "http://images.corp:8443/a.png",
            "gs://team-docs\\@other/a.pdf",
            "https://images.corp:8443\u0663/a.png",
        ):
            self.assertIsNotNone(objection(url, places), url)

    def test_withheld(self) -> None:
        """Google's own hosts are not for Google to read, unless the operator says so."""
        for host in ("storage.googleapis.com", "STORAGE.googleapis.com.", "googleapis.com", "drive.google.com"):
            self.assertIsNotNone(objection(f"https://{host}/b/o.png", (), GOOGLE_DOMAINS), host)
        for host in ("notgoogleapis.com", "google.com.example"):
            self.assertIsNone(objection(f"https://{host}/b/o.png", (), GOOGLE_DOMAINS), host)
        named = {"https://storage.googleapis.com"}
        self.assertIsNone(objection("https://storage.googleapis.com/b/o.png", named, GOOGLE_DOMAINS))

    def test_is_place(self) -> None:
        """A place is a bucket or a host, without a path, in small letters."""
        for text in ("gs://b", "s3://my.bucket", "https://a.corp", "http://[::1]:80", "http://localhost:9000"):
            self.assertTrue(is_place(text), text)
        for text in ("b", "gs://", "gs://b/", "gs://b/o", "gs://B", "gs://*", "ftp://a", "https://a@b", "https://a:x"):
            self.assertFalse(is_place(text), text)

    @given(st.text())
    def test_any_text(self, text: str) -> None:
        """Any text has an answer, and what is not https is never let through."""
        if objection(text) is None:
            self.assertTrue(text.lower().startswith("https://"))


def image(url: str) -> dict[str, Any]:
    """An image by URL."""
    return {"type": "image", "source": {"type": "url", "url": url}}


def request(content: Any, **more: Any) -> dict[str, Any]:
    """A request with that content."""
    return {"model": "m", "messages": [{"role": "user", "content": content}], **more}


class Bodies(SynchronousTestCase):
    """What a body names."""

    def named(self, body: Any) -> set[str]:
        """All URLs in it."""
        return set(named_in(body if isinstance(body, bytes) else json.dumps(body).encode()))

    def test_everywhere(self) -> None:
        """Wherever the API lets a source stand."""
        nested = {
            "type": "tool_result",
            "tool_use_id": "t",
            "content": [image("gs://a"), {"type": "text", "text": "x"}],
        }
        parts = {"type": "document", "source": {"type": "content", "content": [image("gs://b")]}}
        fetched = {
            "type": "web_fetch_tool_result",
            "content": {"type": "web_fetch_result", "url": "https://fetched", "content": {**image("gs://c")}},
        }
        search = {"type": "search_result", "source": "https://no.source.to.fetch", "content": []}
        servers = [{"type": "url", "url": "http://mcp", "name": "n"}]
        body = request([nested, parts, fetched, search, image("gs://d")], mcp_servers=servers)
        self.assertEqual(self.named(body), {"gs://a", "gs://b", "gs://c", "gs://d", "http://mcp"})

    def test_nowhere(self) -> None:
        """What is only spoken of is not fetched: a tool's arguments, its schema, its result as text."""
        call = {"type": "tool_use", "id": "t", "name": "n", "input": image("gs://a")}
        tool = {"name": "n", "input_schema": {"type": "object", "properties": {"source": image("gs://b")}}}
        result = {"type": "tool_result", "tool_use_id": "t", "content": json.dumps(image("gs://c"))}
        self.assertEqual(self.named(request([call, result], tools=[tool], metadata=image("gs://d"))), set())
        self.assertEqual(self.named(request("type: url")), set())

    def test_however_it_is_written(self) -> None:
        """Escapes and blanks hide nothing."""
        for kind in ('"url"', '"\\u0075rl"', '"u\\u0072\\u006c"', '"\\u0075\\u0072\\u006C"'):
            for colon in (":", " :  ", ":\n\t\r", ":" + " " * 500):
                for key in ('"type"', '"\\u0074ype"'):
                    source = f'{{"url":"gs:\\/\\/b/o",{key}{colon}{kind}}}'
                    body = f'{{"messages":[{{"content":[{{"type":"image","source":{source}}}]}}]}}'
                    self.assertEqual(self.named(body.encode()), {"gs://b/o"}, body)

    def test_among_many(self) -> None:
        """One source is found however often the word stands elsewhere."""
        for times in (1, 63, 64, 65, 1_000):
            tool = {"name": "n", "input_schema": {"required": ["url"] * times, "properties": {"url": {}}}}
            self.assertEqual(self.named(request([image("gs://a")], tools=[tool])), {"gs://a"})
            self.assertEqual(self.named(request("hi", tools=[tool])), set())

    def test_bounds(self) -> None:
        """A thousand sources are looked at, and no longer URLs than servers take."""
        for number, passes in ((1_000, True), (1_001, False)):
            body = json.dumps(request([image("https://example.com/a.png")] * number)).encode()
            self.assertEqual(forbidden(body, ()) is None, passes)
        for number, passes in ((8_000, True), (8_192, False)):
            body = json.dumps(request([image("https://example.com/" + "a" * number)])).encode()
            self.assertEqual(forbidden(body, ()) is None, passes)

    def test_odd_shapes(self) -> None:
        """What is out of shape hides no source: either that is found, or the request counts as unreadable."""
        for more in (None, 1, 1.5, True, "x", [], [[1]], [1], {}, {"a": 1}, 10**30):
            for body in (
                request([{"type": "x", "source": more, "content": more}, image("gs://a")], mcp_servers=more),
                request([more, image("gs://a")]),
                request([{"type": more, "url": more}, image("gs://a")]),
            ):
                with contextlib.suppress(ValueError):
                    self.assertEqual(self.named(body), {"gs://a"}, more)
        scalars = request([{"content": 1, "source": 1.5}, {"content": True, "source": "x"}, image("gs://a")])
        self.assertEqual(self.named(scalars), {"gs://a"})
        deep = b'{"messages":[{"content":' + b"[" * 50_000 + b"]" * 50_000 + b'}],"x":{"type":"url"}}'
        for unreadable in (deep, b'{"messages":[{"content":"\xff"}],"x":{"type":"url"}}', b'{"type":"url"'):
            with self.assertRaises(ValueError):
                self.named(unreadable)

    def test_many_objects(self) -> None:
        """Far too many objects cannot be read; the braces of what is quoted are none."""
        many = b'{"messages":[{"content":[' + b'{"type":"url"},' * 100_001 + b"{}]}]}"
        with self.assertRaises(ValueError):
            self.named(many)
        quoted = json.dumps([{"a": {"b": 1}}] * 100_000)
        self.assertEqual(self.named(request([image("gs://a"), {"type": "text", "text": quoted}])), {"gs://a"})

    def test_millions_of_values(self) -> None:
        """Lists of anything but objects are not made: that would take a second."""
        for value in (b"1", b'"url"', b"[]"):
            for content in (value, b'{"type":[%b]}' % value, b'{"url":{"a":%b}}' % value, b'{"content":[%b]}' % value):
                values = b",".join([content] * 90_000)
                body = b'{"messages":[{"content":[{"source":{"type":"url","url":"gs://a"}},%b]}]}' % values
                with self.assertRaises(ValueError):
                    self.named(body)
