"""Batches of requests from API servers: see :mod:`sos.model.batch` for the format."""

from __future__ import annotations

import time
from functools import partial
from types import SimpleNamespace

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress
from twisted.python.failure import Failure

from sos.aio.limited_log import LimitedLog
from sos.aio.tasks import Running, run
from sos.errors import Deleted, TooLarge
from sos.http.server.request import Request
from sos.http.server.request_ids import CURRENT, request_id
from sos.interfaces import SMALL_BODY, Blob, BlobInfo, IPromptStore, IReplicaStore
from sos.model import batch, ids
from sos.model import metadata as metadata_format
from sos.model.batch import ALONE, FULL, READ, STORE, UNKNOWN, Answer, Record
from sos.model.merge import check_upload
from sos.model.metadata import to_header
from sos.transfer import store_bytes
from sos.web.errors import status_and_reason

_PATH = b"/blob/"
_ALONE = Answer(ALONE)


class BatchedRequest:
    """A request in a batch, with those attributes of a :class:`Request` that records need.

    It is counted and logged as if it had come by itself.
    """

    __slots__ = ("_batch", "begun", "blob", "body", "code", "id", "method", "path", "sentLength")

    route = "/blob/<id>"
    user = None

    def __init__(self, of: Request, record: Record) -> None:
        self._batch = of
        self.begun = of.begun
        self.id = request_id(record.request_id)
        self.method = batch.METHODS[record.operation]
        self.path = _PATH + record.id
        self.blob = record.id.decode("latin-1")
        self.body = SimpleNamespace(received=len(record.body))
        self.code = 0
        self.sentLength = 0

    @property
    def uri(self) -> bytes:
        """The path."""
        return self.path

    @property
    def headers(self) -> dict[bytes, bytes]:
        """The headers of the batch."""
        return self._batch.headers

    @property
    def clientproto(self) -> bytes:
        """The HTTP version of the batch."""
        return self._batch.clientproto

    def getClientAddress(self) -> IAddress | None:
        """Return the client's address."""
        return self._batch.getClientAddress()


class Batch:
    """Operations of one batch on *store*, which are carried out concurrently.

    :param max_size: most bytes of a blob to store, None for no limit.
    :param named: the id of the store, empty if it has none.
    :param log: for failures of the server.
    """

    def __init__(
        self,
        request: Request,
        store: IReplicaStore,
        max_size: int | None,
        named: bytes,
        log: LimitedLog,
    ) -> None:
        self._request = request
        self._store = store
        self._prompt = store if IPromptStore.providedBy(store) else None
        self._max_size = max_size
        self._named = named
        self._log = log
        self._answers: list[bytes] = []
        self._size = 0
        self._left = 0
        self._running: dict[int, Running] = {}
        self._finished: Deferred[None] | None = None

    async def carry_out(self, records: list[Record]) -> bytes:
        """Carry out all operations; return the answers, encoded."""
        self._answers = [b""] * len(records)
        self._left = len(records)
        for number, record in enumerate(records):
            self._begin(number, record)
        if self._left:
            self._finished = Deferred(self._cancel)
            await self._finished
        return b"".join(self._answers)

    def _begin(self, number: int, record: Record) -> None:
        operation = BatchedRequest(self._request, record)
        context = CURRENT.set(operation.id)
        try:
            work = run(
                self._carry_out(operation.blob, record), partial(self._ended, number, operation)
            )
            if work is not None:
                self._running[number] = work
        finally:
            CURRENT.reset(context)

    async def _carry_out(self, id: str, record: Record) -> Answer:
        ids.check(id)
        if record.operation == STORE:
            return await self._keep(id, record)
        if record.operation == READ:
            return await self._read(id)
        return self._fitting(_described(await self._store.stat(id)))

    async def _keep(self, id: str, record: Record) -> Answer:
        body = record.body
        if len(body) > SMALL_BODY:
            return _ALONE
        if self._max_size is not None and len(body) > self._max_size:
            raise TooLarge(f"the body has {len(body)} bytes, the limit is {self._max_size}")
        received = check_upload(metadata_format.from_header(record.metadata))
        metadata = metadata_format.timed(received, metadata_format.ticks(time.time()))
        info = await store_bytes(self._store, id, metadata, body)
        size = UNKNOWN if info.size is None else info.size
        return Answer(200, size, body=b"%b %b" % (self._named, record.id))

    async def _read(self, id: str) -> Answer:
        blob: Blob | None
        if self._size > FULL:
            return _ALONE
        if self._prompt is None:
            blob = await self._store.read(id)
        else:
            blob = self._prompt.peek(id)
            if blob is None:
                await self._store.stat(id)  # raises if there is none
                return _ALONE
        if not isinstance(blob.body, bytes):
            await blob.body.aclose()
            return _ALONE
        return self._fitting(_described(blob.info, blob.body))

    def _fitting(self, answer: Answer) -> Answer:
        """Return *answer* while there is room for it in the answer to the batch."""
        if self._size > FULL:
            return _ALONE
        self._size += len(answer.metadata) + len(answer.body)
        return answer

    def _ended(self, number: int, operation: BatchedRequest, outcome: Answer | Failure) -> None:
        self._running.pop(number, None)
        self._left -= 1
        if self._request.disconnected:  # nobody wants the answer, and the failure is our own
            outcome = _ALONE
        elif isinstance(outcome, Failure):
            status, reason = status_and_reason(operation, outcome, self._log)
            error = outcome.value
            kept = to_header(error.metadata) if isinstance(error, Deleted) else b""
            outcome = Answer(status, metadata=kept, body=reason.encode("utf-8", "replace"))
        elif operation.method == b"GET":
            operation.sentLength = len(outcome.body)
        operation.code = outcome.status
        if outcome.status != ALONE:
            self._request.finished_part(operation)
        self._answers[number] = outcome.encode()
        if self._left == 0 and self._finished is not None and not self._finished.called:
            self._finished.callback(None)

    def _cancel(self, _: object) -> None:
        for work in list(self._running.values()):
            work.cancel()


def _described(info: BlobInfo, body: bytes = b"") -> Answer:
    size = UNKNOWN if info.size is None else info.size
    return Answer(200, size, metadata_format.to_header(info.metadata), body)
