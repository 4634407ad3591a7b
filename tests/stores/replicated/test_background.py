"""The bounds of what nobody waits for."""

from __future__ import annotations

from twisted.internet.defer import Deferred

from sos.stores.replicated.background import Background


def test_background_counts_bytes_and_pieces():
    """Both are given back when work ends, however it ends."""
    background = Background()
    work = Deferred()
    assert background.admits(256 << 20)
    background.add(252 << 20, work, work.cancel)
    assert background.admits(4 << 20)
    assert not background.admits((4 << 20) + 1)
    work.addErrback(lambda _: None)
    background.stop()
    assert background.admits(256 << 20)
