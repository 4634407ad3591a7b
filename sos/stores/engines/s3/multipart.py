"""Multipart uploads of large bodies; a body appears when its upload is completed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any, TypeVar
from xml.etree import ElementTree

from twisted.internet.defer import Deferred, DeferredSemaphore, ensureDeferred
from twisted.logger import Logger

from sos.aio.pieces import even_pieces
from sos.aio.tasks import unwanted
from sos.aio.threads import shielded
from sos.errors import SOSError, Unavailable
from sos.interfaces import Pieces
from sos.stores.engines.s3.bucket import ONLY_NEW, Bucket, server_time
from sos.transfer import pieces_of

#: Bytes of a part: S3 accepts none below 5 MiB but the last; some servers want equal sizes.
PART_SIZE = 8 * 1024 * 1024
#: Most parts of one body.
MOST_PARTS = 10_000
#: Age in seconds from which any process aborts an upload that was not completed.
FORGOTTEN_SECONDS = 86_400.0
# Most parts of one body in flight.
_AT_ONCE = 2
# The keys of bodies, without the prefix: only those are sent in parts.
_OURS = re.compile(r"blobs/[0-9a-z/]+")

T = TypeVar("T")

_log = Logger()


class Multipart:
    """The multipart upload of one body; end it with :meth:`complete` or :meth:`abort`."""

    def __init__(
        self, bucket: Bucket, key: str, fields: Mapping[str, str], memory: DeferredSemaphore
    ) -> None:
        self._bucket = bucket
        self._key = bucket.prefix + key
        self._fields = {f"x-amz-meta-{name}": value for name, value in fields.items()}
        self._memory = memory
        self._id: str | None = None
        self._given_up = False
        self._etags: list[str] = []
        self._sending: list[Deferred[None]] = []

    async def send_all(self, body: bytes | Pieces, size: int) -> None:
        """Send *body* in parts of *size* bytes, a few at once, as memory permits."""
        # Do not cancel this: without the id of the upload nothing could remove its parts.
        await shielded(ensureDeferred(self._begin()))
        async with aclosing(even_pieces(pieces_of(body), size)) as pieces:
            while True:
                await self._memory.acquire()
                try:
                    part = await anext(pieces, None)
                except BaseException:
                    self._memory.release()
                    raise
                if part is None:
                    self._memory.release()
                    break
                self._etags.append("")
                sending = ensureDeferred(self._send(len(self._etags), part))
                self._sending.append(sending)
                sending.addBoth(self._sent)
                if len(self._sending) >= _AT_ONCE:
                    await self._sending.pop(0)

    def _sent(self, result: T) -> T:
        self._memory.release()
        return result

    async def _begin(self) -> None:
        found = await self._bucket.client.document(
            "POST",
            self._key,
            "InitiateMultipartUploadResult",
            query={"uploads": ""},
            fields=self._fields,
        )
        self._id = _required_text(found, "UploadId")
        if self._given_up:
            self.abort()

    async def _send(self, number: int, part: bytes) -> None:
        assert self._id is not None
        query = {"partNumber": str(number), "uploadId": self._id}
        answer = await self._bucket.client.ask("PUT", self._key, query=query, body=part)
        etag = answer.fields.get("etag", "")
        if not etag:
            raise Unavailable(f"{self._bucket.client.name} sent no ETag for a part")
        self._etags[number - 1] = etag

    async def complete(self, only_new: bool) -> bool:
        """Complete the upload; return False if *only_new* and the key exists."""
        while self._sending:
            await self._sending.pop(0)
        assert self._id is not None
        wanted = ElementTree.Element("CompleteMultipartUpload")
        for number, etag in enumerate(self._etags, 1):
            part = ElementTree.SubElement(wanted, "Part")
            ElementTree.SubElement(part, "PartNumber").text = str(number)
            ElementTree.SubElement(part, "ETag").text = etag
        options: dict[str, Any] = {
            "query": {"uploadId": self._id},
            "fields": ONLY_NEW if only_new and self._bucket.conditional else {},
            "body": ElementTree.tostring(wanted),
        }
        answer = await self._bucket.client.ask("POST", self._key, accept=(412,), **options)
        if answer.status == 412:
            self.abort()
            return False
        # The body of a 200 can contain an error.
        if b"CompleteMultipartUploadResult" not in answer.body:
            name = self._bucket.client.name
            raise Unavailable(
                f"{name} cannot complete an upload: {answer.code or 'it gave no reason'}"
            )
        self._id = None
        return True

    def abort(self) -> None:
        """Cancel all parts in flight, and abort the upload in the background."""
        self._given_up = True
        sending, self._sending = self._sending, []
        for each in sending:
            each.addErrback(unwanted)
            each.cancel()
        upload, self._id = self._id, None
        if upload is not None:
            ensureDeferred(_abort(self._bucket, self._key, upload))


async def _abort(bucket: Bucket, key: str, upload: str) -> None:
    try:
        await bucket.client.ask("DELETE", key, query={"uploadId": upload}, accept=(404,))
    except SOSError as error:
        _log.warn(
            "cannot abort an upload, retrying in a day, key={key}: {error}",
            key=key,
            error=error,
        )


async def abort_forgotten(bucket: Bucket, seconds: float = FORGOTTEN_SECONDS) -> None:
    """Abort the uploads under the prefix that are at least *seconds* old.

    The processes that began them were killed: an upload takes hours at most. Uploads stay if the
    server does not list them, or does not say when they began or what time it is.
    """
    query = {"uploads": "", "prefix": bucket.prefix}
    name = bucket.client.name
    try:
        answer = await bucket.client.ask("GET", query=query)
        found = bucket.client.parsed(answer, "ListMultipartUploadsResult")
        now = server_time(answer)
        last = float("-inf") if now is None else now - seconds
        uploads = [_forgotten(each, bucket.prefix, last) for each in found.findall("Upload")]
    except SOSError as error:
        _log.warn("cannot list unfinished uploads, store={name}: {error}", name=name, error=error)
        return
    for key, upload in filter(None, uploads):
        await _abort(bucket, key, upload)


def _forgotten(upload: ElementTree.Element, prefix: str, last: float) -> tuple[str, str] | None:
    """Return key and id of an *upload* of this store that began by *last*; None for any other.

    :param prefix: the prefix of the store.
    :param last: in seconds since the epoch.
    """
    key, id = upload.findtext("Key") or "", upload.findtext("UploadId")
    if not id or not _OURS.fullmatch(key.removeprefix(prefix)) or not key.startswith(prefix):
        return None
    try:
        begun = datetime.fromisoformat(upload.findtext("Initiated") or "")
        seconds = (begun if begun.tzinfo else begun.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None
    return (key, id) if seconds <= last else None


def _required_text(found: ElementTree.Element, name: str) -> str:
    text = found.findtext(name)
    if not text:
        raise Unavailable(f"the server sent no {name} for an upload")
    return text
