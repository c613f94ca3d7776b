"""The account of what is buffered for clients."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from claudeproxyd.errors import ClaudeError
from claudeproxyd.interfaces import IBufferAccount
from claudeproxyd.web.buffers import CLIENT_SHARE, BufferBudget


class BudgetTests(SynchronousTestCase):
    """What is still free, for all and for one."""

    def setUp(self) -> None:
        self.budget = BufferBudget(1000)

    def test_interface(self) -> None:
        """It is the account that dispatch and the executors know."""
        verifyObject(IBufferAccount, self.budget)

    def test_one_client(self) -> None:
        """One may hold so many times what it leaves to the others, with what it asks for, and no more."""
        most = 1000 * CLIENT_SHARE // (CLIENT_SHARE + 1)
        self.budget.reserve("greedy", most - 100)
        self.assertRaises(ClaudeError, self.budget.check, "greedy", 101)
        self.budget.reserve("greedy", 100)
        self.budget.check("other", 1000 - most - 50)

    def test_all(self) -> None:
        """Nobody gets more than there is; what is given back is free again."""
        self.budget.adjust(900)
        error = self.assertRaises(ClaudeError, self.budget.reserve, "a", 101)
        self.assertEqual((error.status, self.budget.held), (529, 900))
        self.budget.reserve("a", 80)
        self.budget.release("a", 80)
        self.budget.adjust(-900)
        self.assertEqual((self.budget.held, self.budget.peak), (0, 980))
