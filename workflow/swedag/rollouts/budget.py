"""What the calls of a job cost at an endpoint with prices, over all its starts, held within a limit."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from swedag.errors import SwedagError
from swedag.journal import Journal
from swedag.rollouts.settings import Prices
from swedag.trajectory import Message

SPENT = "dollars spent"
# Tokens that a chat template puts around a message, at most.
TEMPLATE_TOKENS = 16


class BudgetError(SwedagError):
    """No further call may be made. It says nothing about the model."""


@dataclass
class Bill:
    """Dollars to be charged for a call: at worst, until the endpoint has told what it was."""

    dollars: float


def money_spent(journal: Journal) -> float:
    return float((journal.get(SPENT) or {"dollars": 0.0})["dollars"])


@dataclass
class Budget:
    """Before a call its highest possible price is set aside, so that not even many calls at once exceed `limit`.

    What has been spent stands in the job's journal. A call that was begun and gave no account counts at its worst.
    """

    prices: Prices
    limit: float | None
    journal: Journal
    _aside: list[float] = field(default_factory=list)
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    def worst(self, messages: tuple[Message, ...], max_tokens: int) -> float:
        """The highest price of a call: no token is shorter than a byte."""
        prompt = sum(len(message.content.encode()) + TEMPLATE_TOKENS for message in messages)
        return self.prices.dollars(prompt, 0, max_tokens)

    def _affordable(self, dollars: float) -> bool:
        return self.limit is None or money_spent(self.journal) + sum(self._aside) + dollars <= self.limit

    @asynccontextmanager
    async def bill(self, worst: float) -> AsyncIterator[Bill]:
        """Waits while too much is set aside for other calls; BudgetError when even alone this one is too dear."""
        async with self._changed:
            while not self._affordable(worst):
                if not self._aside:
                    spent = money_spent(self.journal)
                    raise BudgetError(
                        f"${spent:.4f} of max_dollars = {self.limit:g} are spent; the next call may cost ${worst:.4f}"
                    )
                await self._changed.wait()
            self._aside.append(worst)
        bill = Bill(worst)
        try:
            yield bill
        finally:
            self._aside.remove(worst)
            if bill.dollars:
                self.journal.append(SPENT, {"dollars": money_spent(self.journal) + bill.dollars})
            async with self._changed:
                self._changed.notify_all()
