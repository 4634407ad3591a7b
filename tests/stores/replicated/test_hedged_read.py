"""What a search comes to when nobody can be asked; the rest is shown with whole stores."""

from __future__ import annotations

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.task import Clock

from sos.aio.timeouts import Deadlines
from sos.errors import Unavailable
from sos.stores.replicated.hedge_delay import HedgeDelay
from sos.stores.replicated.hedged_read import HedgedRead


@ensureDeferred
async def test_no_server_is_no_answer():
    """As when the only one that had a body broke off in the middle of it."""
    clock = Clock()
    search = HedgedRead([], None, None, None, HedgeDelay(), Deadlines(clock, 0.01))
    with pytest.raises(Unavailable, match="no server is left"):
        await search.run("abc")
    assert clock.getDelayedCalls() == []
