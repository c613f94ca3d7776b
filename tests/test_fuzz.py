"""Whatever bytes come in: an answer, or an error of the kind that was promised; never a fault of ours.

A few hundred examples each in the suite, the same ones each time, and as many new ones as ``$FUZZ_EXAMPLES`` says under
``make fuzz``.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import tempfile
import zlib
from itertools import pairwise
from typing import Any

import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.config.diagnostics import ConfigError
from claudeproxyd.config.loading import load
from claudeproxyd.config.state import is_foreign
from claudeproxyd.errors import ClaudeError
from claudeproxyd.executors.bedrock.reader import ChunkedClaudeReader
from claudeproxyd.framing.coding import BodyDecoder, CodingError, StreamDecoder
from claudeproxyd.framing.elements import ElementSplitter
from claudeproxyd.framing.event_stream import DamagedMessage, EventStreamSplitter
from claudeproxyd.framing.sse import FrameSplitter, FrameTooLarge
from claudeproxyd.messages.envelope import read_envelope
from claudeproxyd.messages.minted import without_minted
from claudeproxyd.messages.reader import MalformedAnswer
from claudeproxyd.store.database import Database, Foreign
from claudeproxyd.upstream.errors import UpstreamError
from claudeproxyd.upstream.parser import End, Head
from tests.config.support import MAKERS
from tests.framing.event_messages import chunk
from tests.pool.support import PoolTestCase
from tests.store.support import exported
from tests.upstream.fakes import Net
from tests.upstream.test_parser import parse, plain

examples = settings(
    max_examples=int(os.environ.get("FUZZ_EXAMPLES", "200")),
    suppress_health_check=list(HealthCheck),
)
#: Of the bytes of a database, those that say which program's it is.
WHOSE = range(68, 72)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
)


@st.composite
def damaged(draw: st.DrawFn, whole: st.SearchStrategy[bytes]) -> bytes:
    """What *whole* gives, with some of it cut, doubled, or other bytes in its place."""
    data = draw(whole)
    for _ in range(draw(st.integers(0, 3))):
        start = draw(st.integers(0, len(data)))
        end = draw(st.integers(start, len(data)))
        data = data[:start] + draw(st.binary(max_size=4) | st.just(data[start:end] * 2)) + data[end:]
    return data


@st.composite
def in_pieces(draw: st.DrawFn, whole: st.SearchStrategy[bytes]) -> list[bytes]:
    """The same, as reads bring it."""
    data = draw(whole)
    cuts = [0, *sorted(draw(st.lists(st.integers(0, len(data)), max_size=6))), len(data)]
    return [data[a:b] for a, b in pairwise(cuts)]


LETTERS = {Head: "H", bytes: "B", End: "E", UpstreamError: "X"}
#: Responses as an upstream's reads bring them, most of them damaged.
RESPONSES = in_pieces(
    damaged(
        st.tuples(
            st.sampled_from(
                [b"HTTP/1.1 200 OK\r\n", b"HTTP/1.0 404 \r\n", b"HTTP/1.1 100 C\r\n\r\nHTTP/1.1 200 OK\r\n"]
            ),
            st.lists(
                st.sampled_from(
                    [
                        b"a: b\r\n",
                        b"content-length: 3\r\n",
                        b"transfer-encoding: chunked\r\n",
                        b"connection: close\r\n",
                    ]
                ),
                max_size=3,
            ).map(b"".join),
            st.sampled_from([b"\r\nabc", b"\r\n3\r\nabc\r\n0\r\n\r\n", b"\r\n", b""]),
        ).map(b"".join)
    )
)


class Bodies(SynchronousTestCase):
    """Requests."""

    @examples
    @given(
        damaged(
            st.fixed_dictionaries(
                {"model": JSON, "messages": JSON | st.lists(JSON)},
                optional={"max_tokens": JSON, "stream": JSON, "metadata": JSON, "system": JSON},
            ).map(lambda value: json.dumps(value).encode())
        ),
        st.booleans(),
    )
    def test_envelope(self, body: bytes, count_tokens: bool) -> None:
        """A body is read or refused, and what is read can be sent on under another name."""
        try:
            envelope = read_envelope(body, count_tokens=count_tokens)
        except ClaudeError as error:
            self.assertEqual(error.status, 400)
            return
        self.assertEqual(json.loads(envelope.with_model("another"))["model"], "another")
        self.assertEqual(without_minted(body), body)

    @examples
    @given(
        in_pieces(
            damaged(
                st.tuples(
                    st.sampled_from([gzip.compress, zlib.compress, zstandard.compress, bytes]),
                    st.sampled_from([gzip.compress, zlib.compress, zstandard.compress, bytes]),
                    st.binary(max_size=300) | st.integers(0, 300_000).map(bytes),
                ).map(lambda made: made[0](made[1](made[2])))
            )
        ),
        st.lists(st.sampled_from(["gzip", "deflate", "zstd", "identity"]), min_size=1, max_size=2).map(", ".join),
    )
    def test_codings(self, pieces: list[bytes], coding: str) -> None:
        """What is coded is decoded within its bounds, or is damaged."""
        whole, stream = BodyDecoder(coding, 100_000), StreamDecoder(coding, 100_000)
        made = 0
        with contextlib.suppress(CodingError):
            for piece in pieces:
                made += len(whole.feed(piece))
                self.assertLessEqual(made, 100_000)
            whole.finish()
        with contextlib.suppress(CodingError):
            for piece in pieces:
                self.assertLessEqual(max(map(len, stream.pieces(piece)), default=0), 100_000)
            stream.finish()


class Answers(SynchronousTestCase):
    """What upstreams send."""

    @examples
    @given(
        in_pieces(
            damaged(
                st.lists(
                    st.sampled_from(
                        [b"event: a\n", b"data: {}\n", b"\n", b"\r\n", b"\r", b": c\n", b"\xef\xbb\xbf", b"x"]
                    )
                ).map(b"".join)
            )
        )
    )
    def test_frames(self, pieces: list[bytes]) -> None:
        """However it is cut, a stream has the same frames, and no bytes are made up."""
        whole, cut = FrameSplitter(1000), FrameSplitter(1000)
        try:
            frames = whole.feed(b"".join(pieces))
            self.assertEqual([frame for piece in pieces for frame in cut.feed(piece)], frames)
        except FrameTooLarge:
            pass

    @examples
    @given(in_pieces(damaged(st.lists(JSON, max_size=4).map(lambda value: json.dumps(value).encode()))))
    def test_elements(self, pieces: list[bytes]) -> None:
        """The same for the elements of an array."""
        whole, cut = ElementSplitter(1000), ElementSplitter(1000)
        try:
            elements = whole.feed(b"".join(pieces))
            self.assertEqual([element for piece in pieces for element in cut.feed(piece)], elements)
        except (FrameTooLarge, ValueError):
            pass

    @examples
    @given(in_pieces(damaged(st.lists(st.binary(max_size=8), max_size=4).map(lambda all: b"".join(map(chunk, all))))))
    def test_event_streams(self, pieces: list[bytes]) -> None:
        """The same for the messages of AWS's event streams: none is made of damage."""
        whole, cut = EventStreamSplitter(1000), EventStreamSplitter(1000)
        messages = []
        try:
            for piece in pieces:
                messages += cut.feed(piece)
        except (DamagedMessage, FrameTooLarge) as e:
            self.assertRaises(type(e), whole.feed, b"".join(pieces))
        else:
            self.assertEqual(whole.feed(b"".join(pieces)), messages)

    @examples
    @given(damaged(JSON.map(lambda value: chunk(json.dumps(value).encode()))), in_pieces(st.binary(max_size=40)))
    def test_claude_in_event_streams(self, first: bytes, pieces: list[bytes]) -> None:
        """What is no stream of Claude's is malformed, or too large; nothing else is raised."""
        reader = ChunkedClaudeReader(1000)
        try:
            for piece in (first, *pieces):
                reader.feed(piece)
            self.assertFalse(reader.end().ended)
        except (MalformedAnswer, FrameTooLarge):
            pass

    @examples
    @given(RESPONSES)
    def test_heads_and_bodies(self, pieces: list[bytes]) -> None:
        """An answer is read, or is an error of the HTTP client's; nothing is logged, and no timer is left."""
        net = Net()
        asked, wire = net.ask(), net.accept()
        came: list[Any] = []
        asked.addCallback(lambda response: response.read(10_000))
        asked.addBoth(came.append)
        for piece in pieces:
            if not wire.lost:
                wire.say(piece)
        wire.end()
        net.turn()
        self.assertEqual(len(came), 1)
        if not isinstance(came[0], bytes):
            self.assertIsInstance(came[0].value, UpstreamError)

    @examples
    @given(RESPONSES, st.booleans())
    def test_responses(self, pieces: list[bytes], head_request: bool) -> None:
        """A response's events come in their order, and are the same however it is cut."""
        events = parse(pieces, head_request)
        self.assertRegex(
            "".join(next(letter for kind, letter in LETTERS.items() if isinstance(event, kind)) for event in events),
            "^(|X|H|HB?[EX]?)$",
        )
        self.assertEqual(plain(parse([b"".join(pieces)], head_request)), plain(events))


class Files(PoolTestCase):
    """What lies on the disk."""

    @examples
    @given(
        damaged(
            st.sampled_from(
                [
                    b'[server]\nlisten = ["tcp:0"]\nstate = "memory:"\n'
                    b'[accounts]\ndatabase = ""\n[[providers]]\nname = "a"\nkind = "sandbox"\n',
                    b'[[providers]]\nname = "a"\nkind = "anthropic"\ncredentials = [{ name = "b", api_key = "c" }]\n',
                    b'include = ["none/*.toml"]\n[pool]\n[[models]]\nname = "a*"\nroutes = [{ provider = "a" }]\n',
                ]
            )
        )
    )
    def test_configuration(self, text: bytes) -> None:
        """A file is a configuration, or a list of mistakes."""
        with tempfile.NamedTemporaryFile(suffix=".toml") as file:
            file.write(text)
            file.flush()
            try:
                load(file.name, {}, MAKERS)
            except ConfigError as error:
                self.assertTrue(str(error))

    @examples
    @given(
        st.dictionaries(
            st.sampled_from(["cooldown/", "affinity/", "disabled/", ""]).flatmap(
                lambda start: st.text(max_size=12).map(lambda rest: start + rest)
            ),
            JSON,
            max_size=4,
        ),
        st.data(),
    )
    def test_state(self, made: dict[str, Any], data: st.DataObject) -> None:
        """State that makes no sense is passed over, and so is that of which a value was changed."""
        pool = self.pool("ab")
        pool.import_state(made)
        saved = exported(pool)
        for key in saved:
            saved[key] = data.draw(JSON)
        self.pool("ab").import_state(saved)

    @examples
    @given(st.integers(0, 8192), st.binary(min_size=1, max_size=64))
    def test_database(self, at: int, other: bytes) -> None:
        """A database of which some bytes are others is read, or set aside, and the daemon starts; but where they are
        those that say whose it is, it is taken for another program's, and stays as it is."""
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "state.db")
            database = Database(path)
            database.write({"a": (0.0, 1)})
            database.close()
            with open(path, "r+b") as file:
                file.seek(at)
                file.write(other)
            database = Database(path)
            if is_foreign(path):
                self.assertTrue(at < WHOSE.stop and WHOSE.start < at + len(other))
                self.assertRaises(Foreign, database.read)
                return
            database.read()
            database.write({"b": (0.0, 2)})
            self.assertEqual(database.read()["b"], 2)
            database.close()
