"""The members that are read of a request's body, and the one that is replaced."""

from __future__ import annotations

import json
import time
from typing import Any

from hypothesis import assume, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.errors import ClaudeError
from claudeproxyd.messages.envelope import Envelope, read_envelope

blanks = st.text(" \t\r\n", max_size=3)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(st.characters(codec="utf-8"), max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5) | st.just("model"), inner, max_size=3)
    ),
    max_leaves=8,
)
#: Ways to write one and the same key.
model_keys = st.sampled_from(['"model"', '"\\u006dodel"', '"mode\\u006c"', '"\\u006D\\u006f\\u0064\\u0065\\u006C"'])


def body(**members: Any) -> bytes:
    """A request with these members beside the usual ones; None takes one out."""
    whole = {"model": "m", "max_tokens": 9, "messages": []} | members
    return json.dumps({name: value for name, value in whole.items() if value is not None}).encode()


@st.composite
def objects(draw: st.DrawFn, models: int = 1) -> tuple[bytes, bytes, str, bytes]:
    """A valid body in pieces: what stands before the value of ``model``, that value, the name, and the rest."""
    others = draw(st.dictionaries(st.text(max_size=6), values, max_size=4))
    for taken in ("model", "max_tokens", "messages", "stream", "metadata", "system"):
        others.pop(taken, None)
    name = draw(st.text(st.characters(codec="utf-8"), min_size=1, max_size=10))
    ascii_only = draw(st.booleans())
    members = [(json.dumps(key), json.dumps(value, ensure_ascii=ascii_only)) for key, value in others.items()]
    members += [('"max_tokens"', "7"), ('"messages"', draw(st.just('[{"model":"x","role":"user"}]') | st.just("[]")))]
    mine = [(draw(model_keys), json.dumps(name, ensure_ascii=ascii_only)) for _ in range(models)]
    order = draw(st.permutations([*members, *mine]))
    text, before, value = "", "", ""
    for number, (key, written) in enumerate(order):
        text += "," * bool(number) + draw(blanks) + key + draw(blanks) + ":" + draw(blanks)
        if (key, written) in mine:
            before, value = text, written
        text += written + draw(blanks)
    whole = "{" + text + "}"
    return ("{" + before).encode(), value.encode(), name, whole[len(before) + len(value) + 1 :].encode()


class Reading(SynchronousTestCase):
    """What a client sends, and what it is told if that will not do."""

    def complaint(self, data: bytes, **options: Any) -> str:
        """What a client is told."""
        error = self.assertRaises(ClaudeError, read_envelope, data, **options)
        self.assertEqual((error.status, error.type), (400, "invalid_request_error"))
        return error.message

    def test_members(self) -> None:
        """Model, stream, max_tokens and the raw parts are known; the bytes stay."""
        data = body(stream=True, metadata={"user_id": "u"}, system="s", messages=[{"role": "user"}])
        envelope = read_envelope(data)
        self.assertIsInstance(envelope, Envelope)
        self.assertEqual((envelope.model, envelope.stream, envelope.max_tokens), ("m", True, 9))
        self.assertEqual(envelope.metadata, b'{"user_id": "u"}')
        self.assertEqual(envelope.system, b'"s"')
        self.assertEqual(envelope.messages, b'[{"role": "user"}]')
        self.assertIs(envelope.body, data)

    def test_least(self) -> None:
        """What was not sent is empty, and max_tokens may be 0: it warms the cache."""
        envelope = read_envelope(body(max_tokens=0))
        self.assertEqual(
            (envelope.metadata, envelope.system, envelope.stream, envelope.max_tokens), (b"", b"", False, 0)
        )

    def test_names_the_field(self) -> None:
        """A 400 names the member that is wrong."""
        for field, wrong in (
            ("model", {"model": None}),
            ("model", {"model": 7}),
            ("model", {"model": ""}),
            ("model", {"model": ["m"]}),
            ("model", {"model": "m" * 257}),
            ("messages", {"messages": None}),
            ("messages", {"messages": {}}),
            ("messages", {"messages": "hello"}),
            ("max_tokens", {"max_tokens": None}),
            ("max_tokens", {"max_tokens": -1}),
            ("max_tokens", {"max_tokens": 1.5}),
            ("max_tokens", {"max_tokens": "9"}),
            ("max_tokens", {"max_tokens": True}),
            ("stream", {"stream": "true"}),
            ("stream", {"stream": 1}),
        ):
            self.assertTrue(
                self.complaint(body(**wrong)).startswith(field + ":"), (field, self.complaint(body(**wrong)))
            )

    def test_null(self) -> None:
        """``null`` is no boolean, no integer, no list and no name."""
        for field in (b"model", b"messages", b"max_tokens", b"stream"):
            data = body(stream=True).replace(b'"%b":' % field, b'"%b": null, "was":' % field)
            self.assertTrue(self.complaint(data).startswith(field.decode() + ":"), data)

    def test_no_json(self) -> None:
        """What is no JSON, or no object, is said to be so."""
        for data in (b"", b"x", b'{"model":', b'{"model":"m"', body() + b"x", b"\xef\xbb\xbf" + body()):
            self.assertIn("valid JSON", self.complaint(data))
        self.assertIn("valid JSON", self.complaint(body().replace(b'"m"', b'"\xff"')))
        for data in (b"[]", b"7", b'"x"', b"null"):
            self.assertIn("JSON object", self.complaint(data))

    def test_half_a_character(self) -> None:
        """Half a surrogate pair, as an escape, is the upstream's to refuse or to take: every byte stays as it was."""
        for half in (b"\\ud83d", b"\\uDE00", b"\\ud83d\\ud83d", b"\\ude00\\ud83d", b"x\\\\\\ud83dx"):
            for member in ("messages", "system", "metadata", "new", "tools"):
                data = body(**{member: [{"role": "user", "HALF": ["HALF"]}]}).replace(b"HALF", half)
                for written in (data, data.replace(b'"model": "m"', b'"x": 1, "model" : "m"')):
                    envelope = read_envelope(written)
                    self.assertIs(envelope.body, written)
                    self.assertEqual(envelope.with_model("other"), written.replace(b'"m"', b'"other"'))
                    self.assertEqual(
                        self.complaint(written.replace(b'"m"', b'"m", "model": "n"')), "model: given twice"
                    )
                    self.assertIn("valid JSON", self.complaint(written[:-1]))
            self.assertIs(read_envelope(body(model="HALF").replace(b"HALF", half)).stream, False)

    def test_halves_without_end(self) -> None:
        """Millions of escapes are not looked at one by one: a client would stop all others by them."""
        started = time.process_time()
        self.complaint(body(system="\n" * 4_000_000).replace(b'"messages": []', b'"messages": ["\\ud83d"]'))
        self.assertLess(time.process_time() - started, 1)

    def test_count_tokens(self) -> None:
        """count_tokens does not need max_tokens; a wrong one is refused all the same."""
        self.assertIsNone(read_envelope(body(max_tokens=None), count_tokens=True).max_tokens)
        self.assertIn("max_tokens", self.complaint(body(max_tokens="9"), count_tokens=True))

    def test_model_twice(self) -> None:
        """Two models, however written, are refused: upstreams differ in which one counts."""
        for second in (b'"model"', b'"mod\\u0065l"', b'"\\u006D\\u006f\\u0064\\u0065\\u006C"'):
            for data in (
                b'{"model":"a",%b:"b","max_tokens":1,"messages":[]}' % second,
                b'{%b:"b","max_tokens":1,"messages":[],"model":"a"}' % second,
                b'{%b:"b","max_tokens":1,"messages":[],%b:"a"}' % (second, second),
            ):
                self.assertEqual(self.complaint(data), "model: given twice")

    def test_model_elsewhere(self) -> None:
        """``model`` inside of messages, tools or strings is nobody's business, nor are other keys that come twice."""
        data = b'{"x":{"model":"n"},"model":"m","s":"\\"model\\":","max_tokens":1,"max_tokens":2,"messages":["model"]}'
        envelope = read_envelope(data)
        self.assertEqual(envelope.with_model("z"), data.replace(b'"model":"m"', b'"model":"z"'))

    def test_deep(self) -> None:
        """Nesting that no parser follows is a 400 and not a crash; what is merely deep passes."""
        self.assertIn("deep", self.complaint(b'{"x":' + b"[" * 200_000))
        deep = b"[" * 100 + b"]" * 100
        self.assertEqual(read_envelope(body()[:-1] + b',"x":' + deep + b"}").model, "m")

    def test_garbage(self) -> None:
        """Nothing but a 400 comes of any bytes."""

        @settings(deadline=None, max_examples=300)
        @given(st.binary(max_size=60) | values.map(lambda value: json.dumps(value).encode()))
        def hold(data: bytes) -> None:
            try:
                read_envelope(data)
            except ClaudeError as error:
                self.assertEqual(error.status, 400)

        hold()


class Splicing(SynchronousTestCase):
    """A route that renames the model."""

    def test_same_name(self) -> None:
        """Nothing is copied where nothing changes."""
        envelope = read_envelope(body())
        self.assertIs(envelope.with_model("m"), envelope.body)

    def test_other_bytes_stay(self) -> None:
        """Wherever the model stands and however it is written, no other byte changes."""

        @settings(deadline=None, max_examples=300)
        @given(objects(), st.text(st.characters(codec="utf-8"), min_size=1, max_size=10))
        def hold(pieces: tuple[bytes, bytes, str, bytes], other: str) -> None:
            before, value, name, after = pieces
            assume(other != name)
            envelope = read_envelope(before + value + after)
            self.assertEqual(envelope.model, name)
            spliced = envelope.with_model(other)
            self.assertTrue(spliced.startswith(before))
            self.assertTrue(spliced.endswith(after))
            self.assertEqual(json.loads(spliced[len(before) : len(spliced) - len(after)]), other)

        hold()

    def test_twice_is_always_seen(self) -> None:
        """Two models in any spelling at any two places are a 400."""

        @settings(deadline=None, max_examples=200)
        @given(objects(models=2))
        def hold(pieces: tuple[bytes, bytes, str, bytes]) -> None:
            before, value, _, after = pieces
            error = self.assertRaises(ClaudeError, read_envelope, before + value + after)
            self.assertEqual(error.message, "model: given twice")

        hold()


class Bounds(SynchronousTestCase):
    """How much of anything there may be."""

    def test_members(self) -> None:
        """Members by the ten thousand are refused, however they are spelled; what is large in another way is not."""
        for colon in (":", " : "):
            members = ",".join(f'"a{number}"{colon}1' for number in range(10_001))
            hostile = f'{{"model":"m","max_tokens":9,"messages":[],{members}}}'.encode()
            error = self.assertRaises(ClaudeError, read_envelope, hostile)
            self.assertEqual((error.status, "10,000 members" in error.message), (400, True))
        read_envelope(body(tools=[{"name": "a", "input_schema": {str(n): {} for n in range(20_000)}}]))
        read_envelope(body(messages=[{"role": "user", "content": [{"a": 1}] * 20_000}], later="a: b, " * 50_000))

    def test_messages(self) -> None:
        """The API's own limit of messages holds here too; roles that are only quoted are none."""
        said = {"role": "user", "content": "a"}
        error = self.assertRaises(ClaudeError, read_envelope, body(messages=[said] * 100_001))
        self.assertEqual(error.message, "messages: there is a limit of 100,000 messages")
        read_envelope(body(messages=[said] * 100_000))
        read_envelope(body(messages=[{"role": "user", "content": '"role"' * 100_001}]))

    def test_lists(self) -> None:
        """Nothing takes as long to pass over as lists within lists."""
        lists: Any = []
        for _ in range(200):
            lists = [lists]
        error = self.assertRaises(ClaudeError, read_envelope, body(messages=[lists] * 5_000))
        self.assertEqual((error.status, error.message), (400, "The request body has more than 1,000,000 lists"))
        read_envelope(body(messages=[lists] * 4_900))
