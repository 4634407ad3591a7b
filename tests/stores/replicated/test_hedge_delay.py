"""How long to wait before another server is asked."""

from __future__ import annotations

from sos.stores.replicated.hedge_delay import LEAST_SECONDS, HedgeDelay
from sos.stores.replicated.peer import SLOW_SECONDS


def test_patience_follows_what_it_sees():
    """The slowest twentieth is too slow; and only a tenth may be asked for again."""
    hedge_delay = HedgeDelay()
    for number in range(200):
        hedge_delay.observe(0.2 if number % 10 == 0 else 0.001)
    assert hedge_delay.next() == 0.2
    for _ in range(1000):
        hedge_delay.observe(0.0001)
    assert hedge_delay.next() == LEAST_SECONDS
    spent = 0
    for _ in range(1000):
        if hedge_delay.next() < SLOW_SECONDS:
            hedge_delay.spent()
            spent += 1
    assert spent < 120
