"""Requests that go on with a conversation which lies elsewhere."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.messages.threads import continues_thread


class ThreadTests(SynchronousTestCase):
    """What is told apart."""

    def test_continued(self) -> None:
        """A request that names the answer it goes on from brings only what is new."""
        self.assertTrue(
            continues_thread(b'{"messages":[],"thread":{"type": "continue","previous_message_id":"msg_1"}}')
        )

    def test_whole(self) -> None:
        """All others bring the conversation, also those that begin a thread, and whatever the API will refuse."""
        for thread in (b'{"type":"create"}', b"null", b'"continue"', b"{}", b'{"type":{"type":"continue"}}', b"["):
            self.assertFalse(continues_thread(b'{"messages":[],"thread":' + thread + b"}"), thread)
        self.assertFalse(continues_thread(b'{"messages":[{"thread":{"type":"continue"}}]}'))
        self.assertFalse(continues_thread(b'{"thread":' + b"[" * 100_000))
