"""W3C Trace Context, by the examples of the recommendation and by what clients send in its place."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.observe.trace_context import MAX_STATE_CHARACTERS, TraceContext, header_lines, read_context

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PARENT = f"00-{TRACE}-{SPAN}-01"


def read(parent: str, *states: str) -> TraceContext | None:
    """Read one ``traceparent`` and some ``tracestate`` headers."""
    headers = [(b"traceparent", parent.encode()), *((b"tracestate", state.encode()) for state in states)]
    return read_context(headers)


class ParentTests(SynchronousTestCase):
    """``traceparent``."""

    def test_valid(self) -> None:
        """Ids and the flag; of other flags nothing is known."""
        self.assertEqual(read(PARENT), TraceContext(TRACE, SPAN, True))
        self.assertEqual(read(f"00-{TRACE}-{SPAN}-00"), TraceContext(TRACE, SPAN, False))
        self.assertEqual(read(f"00-{TRACE}-{SPAN}-fe"), TraceContext(TRACE, SPAN, False))
        self.assertEqual(read(f" {PARENT}\t"), TraceContext(TRACE, SPAN, True))

    def test_later_versions(self) -> None:
        """They may have more behind another dash, and are read as far as they are known."""
        self.assertEqual(read(f"cc-{TRACE}-{SPAN}-01"), TraceContext(TRACE, SPAN, True))
        self.assertEqual(read(f"cc-{TRACE}-{SPAN}-01-what-the-future-brings"), TraceContext(TRACE, SPAN, True))
        self.assertIsNone(read(f"cc-{TRACE}-{SPAN}-01.what"))

    def test_garbage(self) -> None:
        """None of it begins, continues or ends anything."""
        for parent in (
            "",
            "garbage",
            PARENT.upper(),
            f"ff-{TRACE}-{SPAN}-01",
            f"00-{'0' * 32}-{SPAN}-01",
            f"00-{TRACE}-{'0' * 16}-01",
            f"00-{TRACE}-{SPAN}-1",
            f"00-{TRACE}-{SPAN}-01-",
            f"00-{TRACE}-{SPAN}-01-more",
            f"00-{TRACE}-{SPAN}-01,{PARENT}",
            f"00-{TRACE[1:]}-{SPAN}-01",
            PARENT + "\n",
        ):
            self.assertIsNone(read(parent, "a=1"), parent)
        self.assertIsNone(read_context([(b"traceparent", PARENT.encode())] * 2))
        self.assertIsNone(read_context([(b"tracestate", b"a=1")]))

    @given(st.binary(max_size=80))
    def test_anything(self, value: bytes) -> None:
        """Whatever comes, what is written is of our own making."""
        context = read_context([(b"traceparent", value), (b"tracestate", value)])
        if context is not None:
            self.assertRegex(header_lines(context), rb"\Atraceparent: 00-[0-9a-f]{32}-[0-9a-f]{16}-0[01]\r\n\Z")


class StateTests(SynchronousTestCase):
    """``tracestate``."""

    def state(self, *values: str) -> str:
        """What is passed on."""
        context = read(PARENT, *values)
        assert context is not None
        return context.state

    def test_passes(self) -> None:
        """In order, several headers as one, without blanks and empty members."""
        self.assertEqual(
            self.state("rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"), "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"
        )
        self.assertEqual(self.state("a=1 , ,\tb=2", "1tenant@system=x y"), "a=1,b=2,1tenant@system=x y")

    def test_garbage(self) -> None:
        """One member that is none takes all along, and the parent stays."""
        for value in ("a", "=1", "A=1", "a=1,b", "a=1=2", "a=", "a=\x01", "a=1,a=2", "a=ü", "a" * 257 + "=1"):
            self.assertEqual(self.state(value), "", value)
        self.assertEqual(self.state(",".join(f"k{n}=1" for n in range(33))), "")

    def test_bound(self) -> None:
        """Large members go first, then the last ones."""
        large = "large=" + "x" * 200
        many = [f"k{n}=" + "y" * 60 for n in range(9)]
        state = self.state(",".join([many[0], large, *many[1:]]))
        self.assertLessEqual(len(state), MAX_STATE_CHARACTERS)
        self.assertEqual(state.split(","), many[:8])

    def test_lines(self) -> None:
        """Both headers, as lines."""
        self.assertEqual(header_lines(TraceContext(TRACE, SPAN, True)), f"traceparent: {PARENT}\r\n".encode())
        self.assertEqual(
            header_lines(TraceContext(TRACE, SPAN, False, "a=1")),
            f"traceparent: 00-{TRACE}-{SPAN}-00\r\ntracestate: a=1\r\n".encode(),
        )
