"""Passes that copy in batches: when a batch breaks off, and when a server knows none."""

from __future__ import annotations

from itertools import count, islice

from pytest_twisted import ensureDeferred

from sos.model.ids import partition
from sos.replication.executor import RETRY_SECONDS, SMALL_AT_ONCE
from sos.stores.memory import MemoryStore
from sos.web.blob_api import BlobServer
from sos.web.routes import handler
from tests.replication.groups import RecordedReport, run
from tests.support.blobs import content_id, put
from tests.support.servers import Hurried, serving


class Server:
    """A blob server, which breaks off so many batches, and notes how many requests are open."""

    def __init__(self, store, broken=0, knows_batches=True):
        self.store = store
        self.broken = broken
        self.knows_batches = knows_batches
        self.open = []
        self.most = 0
        self._answer = handler(BlobServer(store).app)

    def __call__(self, request):
        self.open = [each for each in self.open if not each.disconnected]
        self.open.append(request)
        self.most = max(self.most, len(self.open))
        if request.path == b"/batch" and not self.knows_batches:
            request.setResponseCode(404)
            request.finish()
        elif request.path == b"/batch" and self.broken and request.body.length > 500:
            self.broken -= 1
            request.abort()
        else:
            self._answer(request)


async def filled(store, number):
    """Put so many small blobs of one partition into *store*."""
    bodies = (b"%d" % n for n in count())
    for body in islice((each for each in bodies if partition(content_id(each)) == "abc"), number):
        await put(store, body)


@ensureDeferred
async def test_copies_in_a_batch_that_breaks_off_are_tried_again(reactor):
    """The failures of all of them are one of the server, with which the pass goes on."""
    source, target = Server(MemoryStore("a")), Server(MemoryStore("b"), broken=2)
    await filled(source.store, 40)
    async with serving(source, reactor) as one, serving(target, reactor) as two:
        summary = await run((one, two), 2, RecordedReport(), Hurried(reactor, RETRY_SECONDS))
    assert target.broken == 0
    assert (summary.ok, summary.copied, len(target.store.blobs)) == (True, 40, 40)


@ensureDeferred
async def test_a_server_that_knows_no_batches_is_not_overrun(reactor):
    """Clients need connections to it as well."""
    source = Server(MemoryStore("a"), knows_batches=False)
    target = Server(MemoryStore("b"), knows_batches=False)
    await filled(source.store, 200)
    async with serving(source, reactor) as one, serving(target, reactor) as two:
        summary = await run((one, two), 2, RecordedReport(), Hurried(reactor, RETRY_SECONDS))
    assert (summary.ok, len(target.store.blobs)) == (True, 200)
    assert max(source.most, target.most) <= SMALL_AT_ONCE
