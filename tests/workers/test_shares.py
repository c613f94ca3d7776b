"""What each worker may have."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.config.schema import Config, CredentialSection, Pool, Provider, Server
from claudeproxyd.workers.shares import share, share_of


class ShareTests(SynchronousTestCase):
    """Parts that add up."""

    def test_share(self) -> None:
        """They differ by one at most, and none is less for a larger whole."""
        for count in range(1, 9):
            for whole in range(40):
                parts = [share(whole, count, slot) for slot in range(count)]
                self.assertEqual(sum(parts), whole)
                self.assertLessEqual(max(parts) - min(parts), 1)
                self.assertTrue(all(share(whole + 1, count, slot) >= part for slot, part in enumerate(parts)))

    def test_configuration(self) -> None:
        """What is bounded for a process is divided; limits of attempts are not; and there is no admin listener."""
        credential = CredentialSection(name="c", max_concurrency=5)
        provider = Provider(name="p", kind="sandbox", max_connections=5, max_concurrency=9, credentials=[credential])
        free = Provider(name="q", kind="sandbox")
        config = Config(
            server=Server(max_connections=101, workers=2, lame_duck=5.0),
            providers=[provider, free],
            pool=Pool(queue=7),
        )
        both = [share_of(config, 2, slot) for slot in range(2)]
        self.assertEqual([each.server.max_connections for each in both], [51, 50])
        self.assertEqual([each.pool.queue for each in both], [4, 3])
        self.assertEqual([[one.max_connections for one in each.providers] for each in both], [[3, 0], [2, 0]])
        for each in both:
            self.assertEqual((each.server.admin, each.server.lame_duck), ("", 0.0))
            self.assertEqual(each.server.max_buffered_bytes, config.server.max_buffered_bytes // 2)
            self.assertEqual(each.providers[0].max_concurrency, 9)
            self.assertEqual(each.providers[0].credentials, [credential])
