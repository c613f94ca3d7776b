"""Conversations whose turns are dealt to backends of every family: see :mod:`tests.golden.every.session`."""

from __future__ import annotations

import json
from collections import Counter

from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.errors import Unsupported
from claudeproxyd.translate.signatures import Signatures
from tests.golden.every.answers import Json
from tests.golden.every.backends import BACKENDS, Backend, Translated
from tests.golden.every.clients import CLIENTS
from tests.golden.every.session import TURNS, Session

SEEDS = 200
#: Of each client that sends the conversation otherwise than it was.
SEEDS_OF_CLIENTS = 12


class Player:
    """Plays a session on the translators and readers themselves."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.memories: dict[str, Signatures] = {}
        """As one server of each API would have them, with models of all makers."""

    def memory(self, backend: Backend) -> Signatures:
        """What the daemon keeps."""
        return self.memories.setdefault(backend.folder, Signatures(lambda: 1.0))

    def play(self) -> None:
        """All turns."""
        session = self.session
        for _ in range(TURNS):
            session.ask()
            request = session.request()
            if session.forgets:
                self.memories.clear()
            backend, body = self.deal(request)
            try:
                session.check_words(backend, request, body)
                saying = session.says(backend, request, backend.tools(body))
                streamed = session.chance.random() < 0.5
                message = backend.answer(request, saying, self.memory(backend), streamed=streamed)
                backend.check_answer(request, saying, message)
                session.hears(backend, saying, message)
            except AssertionError as fault:
                told = f"{session.place(backend)}: {fault}\n{json.dumps(body, indent=1)}"
                raise AssertionError(told) from fault

    def deal(self, request: Json) -> tuple[Backend, Json]:
        """Send it to one that takes it: not all have images or can be made to call, and so another one is asked."""
        session = self.session
        for backend in session.chance.sample(BACKENDS, len(BACKENDS)):
            try:
                return backend, backend.send(request, self.memory(backend))
            except Unsupported as refusal:
                blind = session.has_images and not backend.traits.sees and "image" in str(refusal)
                if not blind and (backend.traits.forces or not str(refusal).startswith("tool_choice")):
                    raise AssertionError(f"{session.place(backend)}: {refusal}") from refusal
            except Exception as fault:
                raise AssertionError(f"{session.place(backend)}: {fault}") from fault
        raise AssertionError("nobody takes it")


class EveryBackendTests(SynchronousTestCase):
    """Sessions by their seeds."""

    def test_sessions(self) -> None:
        """No upstream refuses a turn, and nothing is lost between them."""
        dealt: Counter[str] = Counter()
        for seed in range(SEEDS):
            session = Session(seed)
            Player(session).play()
            dealt += session.dealt
        self.assertEqual(dealt.keys(), {backend.name for backend in BACKENDS})

    def test_clients_that_change_what_was_said(self) -> None:
        """Whatever a client makes of a conversation, upstreams refuse none of it, and nothing else of it is lost."""
        for name, client in CLIENTS.items():
            for seed in range(SEEDS_OF_CLIENTS):
                try:
                    Player(Session(seed, client, recalls=name not in ("in pieces", "one by one"))).play()
                except AssertionError as fault:
                    raise AssertionError(f"{name}, {fault}") from fault

    def test_results_that_do_not_fit(self) -> None:
        """A call without its result, or the reverse, is refused in the API's words, and nothing is sent."""
        calls = [{"type": "tool_use", "id": f"toolu_{number}", "name": "Read", "input": {}} for number in range(2)]
        results = [{"type": "tool_result", "tool_use_id": f"toolu_{number}", "content": "x"} for number in range(3)]
        for brought, words in (
            (results[:1], "`tool_use` ids were found without `tool_result` blocks immediately after: toolu_1"),
            ([], "`tool_use` ids were found without `tool_result` blocks immediately after: toolu_0, toolu_1"),
            (results, "unexpected `tool_use_id` found in `tool_result` blocks: toolu_2"),
            ([*results[:2], results[0]], "each tool_use must have a single result"),
        ):
            session = Session(0)
            session.messages = [
                {"role": "user", "content": [{"type": "text", "text": "Read."}]},
                {"role": "assistant", "content": calls},
                {"role": "user", "content": [*brought, {"type": "text", "text": "Well?"}]},
            ]
            for backend in BACKENDS:
                if isinstance(backend, Translated):
                    with self.assertRaises(Unsupported) as refused:
                        backend.send(session.request(), Signatures(lambda: 1.0))
                    self.assertIn(words, str(refused.exception), backend.name)

    def test_clients_that_ask_again(self) -> None:
        """An answer that a client throws away, to have another one to the same question, is in nobody's way."""
        for seed in range(SEEDS_OF_CLIENTS):
            Player(Session(seed, retries=True)).play()
