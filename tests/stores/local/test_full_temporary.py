"""A temporary directory that is full is no full store."""

from __future__ import annotations

import errno
import os
import tempfile

import pytest
from pytest_twisted import ensureDeferred

from sos.errors import Unavailable
from sos.stores import spool
from sos.stores.memory import MemoryStore
from sos.stores.received import MEMORY
from tests.support.blobs import body_of, put
from tests.support.replicas import replicated


@pytest.fixture
def full(monkeypatch):
    """Lets no file be written in the temporary directory."""

    def pwrite(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("sos.stores.received.os.pwrite", pwrite)


@ensureDeferred
async def test_an_upload_that_cannot_be_spooled_says_why(reactor, full, monkeypatch):
    """And no server is blamed for it."""
    monkeypatch.setattr(MEMORY, "left", 0)
    store = replicated(reactor, [MemoryStore()])
    await put(store, b"small")
    with pytest.raises(Unavailable, match=f"temporary directory {tempfile.gettempdir()} is full"):
        await put(store, body_of(1_000_000))
    (health_of,) = (await store.survey())["group0"]
    assert health_of.errors == 0
    store.stop()


@pytest.mark.parametrize(("left", "refused"), [(0, True), (15 << 20, True), (17 << 20, False)])
def test_it_is_noticed_before(monkeypatch, left, refused):
    """For who asks whether the server is ready."""
    found = list(os.statvfs(tempfile.gettempdir()))
    found[4] = left // found[1]
    monkeypatch.setattr(os, "statvfs", lambda path: os.statvfs_result(found))
    assert (spool.refusal() is not None) == refused


def test_it_is_gone(monkeypatch, tmp_path):
    """As after a cleaning-up that went too far."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    assert spool.refusal() == (
        f"the temporary directory {tmp_path / 'none'} cannot be used: No such file or directory"
    )
