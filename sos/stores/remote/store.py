"""The store of a remote blob server, over HTTP.

The server may be of the original system: then a blob's size can be unknown, and a
listing is always complete.
"""

from __future__ import annotations

import math
import re
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing, suppress
from typing import Any
from urllib.parse import urlencode

import attrs
from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.web.iweb import UNKNOWN_LENGTH
from zope.interface import implementer

from sos.aio.threads import RunInThread
from sos.errors import (
    Conflict,
    InvalidRequest,
    Mismatch,
    NotFound,
    SOSError,
    Unavailable,
    printable,
)
from sos.http import dates
from sos.http.client.bodies import ANSWER_SECONDS, PROMPT_SECONDS, ResponseBody
from sos.interfaces import (
    SMALL_BODY,
    Blob,
    BlobInfo,
    IBlobWriter,
    IOneStepStore,
    IReplicaStore,
    Pieces,
    ScrubStatus,
    Span,
    StoreStatus,
    is_size,
    parse_size,
)
from sos.model import batch, ids
from sos.model import metadata as metadata_format
from sos.model.batch import Answer
from sos.model.digest import BlobDigest, BodyDigest, PartitionDigest, body_digest
from sos.model.lease import LEASE
from sos.model.membership import MEMBERS, Announcer, Membership, parse_views
from sos.model.merge import Times, assumed
from sos.model.metadata import DELETED_AT, EMPTY, Metadata
from sos.stores.remote.body import RemoteBody
from sos.stores.remote.client import Exchange, Response, Upload, beginning, gather
from sos.stores.remote.coalescer import Coalescer
from sos.stores.spool import Spooled, SpooledWriter
from sos.stores.threaded_digest import ThreadedDigest
from sos.transfer import transfer

# 4096 partitions, some 90 bytes each.
_MOST_OF_DIGESTS = 1024 * 1024
# The membership views of up to 16 kinds of API servers.
_MOST_OF_A_STATUS = 2 * 1024 * 1024
# The digests of half a million blobs in one partition.
_MOST_OF_PARTITION = 64 * 1024 * 1024
# Twelve million ids: a server of the original system always lists all of them.
_MOST_OF_A_LISTING = 512 * 1024 * 1024
# In one listing.  Bytes alone do not bound the memory: short ids take more than their length.
_MOST_IDS = 16_000_000
# Most ids of lost blobs (a pass searches for each), and characters of a refusal's reason.
_MOST_LOST = 1000
_MOST_OF_A_REASON = 500

_VERSION = re.compile("[012][0-9a-f]{64}")
_HASH = re.compile("[0-9a-f]{0,64}")
_TOKEN = re.compile("[0-9A-Za-z]{1,100}")
_SUM = re.compile("[0-9a-f]{1,32}")


@implementer(IReplicaStore, IOneStepStore)
class RemoteStore:
    """Store of the blobs on one remote server.

    :param algorithm: the hash of new content ids.
    :param path: prefix of an id in the path of a blob.  Only with the default, which is that of
        a blob server, requests are coalesced.
    :param stat_seconds: timeout of ``stat``.
    :param announcer: name and membership view to announce to the server, if any.
    :param membership: without an *announcer*, the view to compare with the views of others.
    """

    def __init__(
        self,
        exchange: Exchange,
        run_in_thread: RunInThread,
        algorithm: str = ids.DEFAULT_ALGORITHM,
        path: str = "/blob/",
        stat_seconds: float = PROMPT_SECONDS,
        announcer: Announcer | None = None,
        membership: Membership | None = None,
    ) -> None:
        self._announcer = announcer
        self._membership = membership if announcer is None else announcer.membership
        self.name = exchange.url
        self._exchange = exchange
        self._run_in_thread = run_in_thread
        self._algorithm = algorithm
        self._path = path
        self._stat_seconds = stat_seconds
        self._coalescer = Coalescer(exchange, 0.0 if path == "/blob/" else math.inf)
        # The ETag of the last digests, and the digests.
        self._digests: tuple[str | None, Mapping[str, PartitionDigest]] = None, {}
        # As the last status says.
        self._keeps_tombstones = False

    async def stat(self, id: str) -> BlobInfo:
        answer = await self._coalescer.ask(batch.STAT, id)
        if answer is not None:
            return self._described(id, answer)
        response = await self._exchange.request("HEAD", self._path + id, seconds=self._stat_seconds)
        await gather(ResponseBody(response, self._exchange.clock), 1024)
        return self._info(id, response, _content_length(response))

    async def read(self, id: str, span: Span | None = None) -> Blob:
        if span is not None:
            return await self._read_part(id, span)
        answer = await self._coalescer.ask(batch.READ, id)
        if answer is not None:
            return self._small(self._described(id, answer), answer.body)
        response = await self._exchange.request("GET", self._path + id)
        start = response.whole()
        body = ResponseBody(response, self._exchange.clock) if start is None else None
        try:
            size = None if response.length is UNKNOWN_LENGTH else int(response.length)
            info = self._info(id, response, size)
            if body is not None:
                start = await beginning(body, SMALL_BODY)
                if len(start) > SMALL_BODY:
                    digest = ThreadedDigest(self._digest(info), self._run_in_thread)
                    return Blob(info, RemoteBody(start, body, digest, size))
            return self._small(info, start)
        except BaseException:
            if body is not None:
                await body.aclose()
            raise

    async def _read_part(self, id: str, span: Span) -> Blob:
        response = await self._exchange.request("GET", self._path + id, span)
        body = ResponseBody(response, self._exchange.clock)
        start, stop = span
        try:
            # Servers of the original system ignore Range, and send the whole body.
            skip = 0 if response.code == 206 else start
            info = self._info(id, response, _whole_size(response))
            part = _Part(body, skip, stop - start, is_all=response.code == 206)
            return Blob(info, RemoteBody(b"", part, None, stop - start))
        except BaseException:
            await body.aclose()
            raise

    def writer(
        self, id: str | None = None, metadata: Metadata = EMPTY, size: int | None = None
    ) -> IBlobWriter:
        # Metadata without a time is older than all that has one: it is not set now.
        metadata = metadata_format.timed(metadata, 0)
        if id is None:
            digest = body_digest(None, metadata, self._algorithm, size)
            return SpooledWriter(digest, metadata, self._place, self._run_in_thread)
        fields = metadata_format.for_server(metadata)
        return Upload(self._exchange, self._path + id, id, fields, size)

    async def put(self, id: str | None, metadata: Metadata, body: bytes) -> BlobInfo:
        answer = None
        if id is not None:
            header = metadata_format.to_header(metadata_format.timed(metadata, 0))
            answer = await self._coalescer.ask(batch.STORE, id, header, body)
        if id is None or answer is None:
            return await transfer(body, self.writer(id, metadata, len(body)))
        name, _, stored = answer.body.decode("latin-1").partition(" ")
        if (stored, answer.size) != (id, len(body)) or not (name == "" or ids.is_store_id(name)):
            raise Unavailable(
                f"{self.name} was sent {len(body)} bytes for {id}, but reports {answer.size} "
                f"bytes stored as {answer.body!r:.200}"
            )
        self._exchange.store = name or self._exchange.store
        return BlobInfo(id, answer.size, EMPTY, store=name or None)

    def _described(self, id: str, answer: Answer) -> BlobInfo:
        metadata = self._exchange.metadata(answer)
        return BlobInfo(id, answer.size if is_size(answer.size) else None, metadata)

    def _small(self, info: BlobInfo, body: bytes) -> Blob:
        """Return a small blob, verified."""
        digest = self._digest(info)
        digest.update(body)
        try:
            digest.verified_id()
        except (Mismatch, InvalidRequest) as error:
            raise Unavailable(f"{self.name} sent a wrong body: {error}") from error
        return Blob(info if info.size is not None else evolve(info, size=len(body)), body)

    def _digest(self, info: BlobInfo) -> BodyDigest:
        return body_digest(info.id, info.metadata, expected_size=info.size)

    async def _place(self, spooled: Spooled) -> BlobInfo:
        try:
            writer = self.writer(spooled.id, spooled.metadata, spooled.size)
            return await transfer(spooled.body(), writer)
        finally:
            spooled.close()

    async def listing(
        self, after: str | None = None, limit: int | None = None, partition: str | None = None
    ) -> list[str]:
        page = {"after": after, "limit": limit, "partition": partition}
        query = urlencode({name: value for name, value in page.items() if value is not None})
        response = await self._exchange.request("GET", f"/blobs?{query}" if query else "/blobs")
        parts = self._exchange.parts(response, b"[]", b",", _MOST_OF_A_LISTING)
        # Servers of the original system ignore the query, and list everything.
        start = "" if after is None else ids.sort_key(after)
        keys: list[str] = []
        async with aclosing(parts):
            async for part in parts:
                found = map(ids.sort_key, self._ids(part))
                keys += [key for key in found if key > start and key.startswith(partition or "")]
                if len(keys) > _MOST_IDS:
                    raise Unavailable(
                        f"{self.name} sent a listing of over {_MOST_IDS} blobs at once"
                    )
                if limit is not None:
                    keys = sorted(keys)[:limit]
        return await self._run_in_thread(_in_order, keys)

    def _ids(self, part: Any) -> list[str]:
        if not isinstance(part, list):
            raise Unavailable(f"{self.name} sent an invalid listing: {part!r:.100}")
        try:
            return [ids.check(id) for id in part]
        except (InvalidRequest, TypeError) as error:
            raise Unavailable(f"{self.name} sent an invalid listing: {error}") from error

    async def digests(self) -> Mapping[str, PartitionDigest]:
        etag, known = self._digests
        etag, found = await self._exchange.version("/digests", etag, _MOST_OF_DIGESTS)
        if found is None:
            return known
        try:
            digests = {
                ids.check_partition(name): _partition_digest(*row) for name, row in found.items()
            }
            self._digests = etag, digests
            return digests
        except (AttributeError, TypeError, ValueError, InvalidRequest) as error:
            raise Unavailable(f"{self.name} sent invalid digests: {error}") from error

    async def blob_digests(self, partition: str) -> dict[str, BlobDigest]:
        # After the loss of a server a pass sends thousands of these, so it bypasses treq.
        response = await self._exchange.request("GET", f"/digests/{partition}?times=yes")
        parts = self._exchange.parts(response, b"{}", b"],", _MOST_OF_PARTITION)
        digests: dict[str, BlobDigest] = {}
        async with aclosing(parts):
            async for part in parts:
                digests.update(self._blob_digests(partition, part))
        return digests

    def _blob_digests(self, partition: str, part: Any) -> dict[str, BlobDigest]:
        try:
            return {_in(partition, id): _blob_digest(*row) for id, row in part.items()}
        except (AttributeError, TypeError, ValueError, InvalidRequest) as error:
            raise Unavailable(f"{self.name} sent invalid blob digests: {error}") from error

    async def reconcile(self, id: str, metadata: Metadata) -> None:
        if DELETED_AT in metadata and not await self._remembers_deletions():
            # It would store the tombstone as the metadata of an object.
            raise Conflict(f"{self.name} does not remember deletions: upgrade it")
        fields = metadata_format.for_server(metadata)
        await self._done(self._exchange.send("PATCH", self._path + id, fields, b""))

    async def _remembers_deletions(self) -> bool:
        return self._keeps_tombstones or (await self.status()).tombstones

    async def lease(self, seconds: float, token: str | None = None) -> str:
        fields = EMPTY if token is None else {LEASE: token}
        path = f"/lease?seconds={int(seconds)}"
        found = await self._exchange.document("POST", path, fields=fields)
        try:
            if _TOKEN.fullmatch(found["lease"]):
                return str(found["lease"])
        except (KeyError, TypeError):
            pass
        raise Unavailable(f"{self.name} sent an invalid lease")

    async def release(self, token: str) -> None:
        await self._done(self._exchange.send("DELETE", f"/lease/{token}"))

    async def drop(self, id: str, token: str, known: BlobDigest | None = None) -> None:
        arguments = {} if known is None else {"size": known.size, "version": known.version}
        if known is not None and known.hash:
            arguments["hash"] = known.hash
        query = "?" + urlencode(arguments) if arguments else ""
        await self._done(self._exchange.send("DELETE", self._path + id + query, {LEASE: token}))

    async def _done(self, sent: Deferred[Response]) -> None:
        """Wait until the request that was *sent* is answered with a 200."""
        sent.addTimeout(ANSWER_SECONDS, self._exchange.clock)
        response = await self._exchange.answered(sent)
        await gather(ResponseBody(response, self._exchange.clock), 1024)

    async def status(self) -> StoreStatus:
        announcer = self._announcer
        fields = EMPTY if announcer is None else {MEMBERS: announcer.header}
        try:
            found = await self._exchange.document("GET", "/status", _MOST_OF_A_STATUS, fields)
        except NotFound:  # a server of the original system
            response = await self._exchange.request("GET", "/alive")
            await gather(ResponseBody(response, self._exchange.clock), 1024)
            self._keeps_tombstones = False
            return StoreStatus(writable=True)
        try:
            if announcer is not None and not _is_known(announcer, found):
                sent = self._exchange.send(
                    "POST", "/members", fields, announcer.membership.encoded, ANSWER_SECONDS
                )
                response = await self._exchange.answered(sent)
                found = await self._exchange.parsed(response, _MOST_OF_A_STATUS)
            status = StoreStatus(
                writable=found["writable"],
                reason=_reason(found["reason"]),
                blobs=found["blobs"],
                size=found["size"],
                capacity=found["capacity"],
                free=found["free"],
                scrub=_scrub(found.get("scrub")),
                id=found.get("id"),
                lost=found.get("lost"),
                lost_ids=found.get("lost_ids", ())[:_MOST_LOST],
                tombstones=found.get("tombstones", False),
                time=found.get("time"),
                others=parse_views(found["members"], self._membership)
                if "members" in found
                else None,
            )
            self._exchange.store = status.id
            self._keeps_tombstones = status.tombstones
            return status
        except KeyError as error:
            raise Unavailable(f"{self.name} sent a status without {error}") from error
        except (AttributeError, TypeError, InvalidRequest) as error:
            raise Unavailable(f"{self.name} sent an invalid status: {error}") from error

    async def leave(self) -> None:
        """Withdraw the membership view that was announced to the server, if any."""
        announcer, self._announcer = self._announcer, None
        if announcer is not None:
            with suppress(SOSError):  # the server drops the view after a while anyway
                await self._done(
                    self._exchange.send("DELETE", "/members", {MEMBERS: announcer.header})
                )

    def _info(self, id: str, response: Response, size: int | None) -> BlobInfo:
        info = BlobInfo(id, size, self._exchange.metadata(response))
        sunset = response.headers.getRawHeaders(b"sunset")
        if sunset is None:
            return info
        # From the download port of an API server: when the object expires (RFC 8594).
        return evolve(info, expires_at=dates.seconds(sunset[0].decode("latin-1")))


def _in_order(keys: list[str]) -> list[str]:
    """Return the ids of *keys* in order.

    Sort partition by partition: a sort holds the GIL, so a long one blocks all threads.
    """
    partitions: dict[str, list[str]] = {}
    for key in keys:
        partitions.setdefault(key[:3], []).append(key[3:])
    return [id for each in sorted(partitions) for id in sorted(partitions[each])]


def _is_known(announcer: Announcer, status: dict[str, Any]) -> bool:
    """Return whether a server has the view of *announcer*, or does not take part in views."""
    known = [each["fingerprint"] for each in status.get("members", ()) if each["members"]]
    return "members" not in status or announcer.membership.fingerprint in known


def _scrub(document: dict[str, Any] | None) -> ScrubStatus | None:
    if document is None:  # engines and older servers send none
        return None
    return ScrubStatus(**{each.name: document[each.name] for each in attrs.fields(ScrubStatus)})


def _reason(reason: Any) -> Any:
    """Return a server's reason in a form that is safe for logs and terminals."""
    return printable(reason[:_MOST_OF_A_REASON]) if isinstance(reason, str) else reason


def _partition_digest(count: int, size: int, sum: str) -> PartitionDigest:
    if not (is_size(count) and is_size(size) and _SUM.fullmatch(sum)):
        raise ValueError(f"{count!r:.80}, {size!r:.80} and {sum!r:.80}")
    return PartitionDigest(count, size, int(sum, 16))


def _in(partition: str, id: str) -> str:
    if ids.partition(ids.check(id)) != partition:
        raise ValueError(f"{id} belongs to another partition")
    return id


def _blob_digest(
    size: int,
    version: str,
    hash: str = "",
    set_at: int | None = None,
    *times: int | None,
) -> BlobDigest:
    known = _VERSION.fullmatch(version) and _HASH.fullmatch(hash)
    if set_at is None:
        set_at = metadata_format.assumed(version)
    if not (known and is_size(size) and is_size(set_at)):
        raise ValueError(f"{size!r:.80}, {version!r:.80}, {hash!r:.80} and {set_at!r:.80}")
    if not all(time is None or is_size(time) for time in times):
        raise ValueError(f"{times!r:.80}")
    return BlobDigest(size, version, hash, set_at, Times(*times) if times else assumed(set_at))


class _Part:
    """Pieces of *size* bytes of *body*, after the first *skip* bytes.

    :param is_all: whether *body* must end with these bytes.  Then its end is awaited too:
        a part has no hash, so only a proper end proves that its bytes are right.
    """

    def __init__(self, body: Pieces, skip: int, size: int, is_all: bool) -> None:
        self._is_all = is_all
        self._body = body
        self._skip = skip
        self._size = size

    async def __aiter__(self) -> AsyncGenerator[bytes, None]:
        async with aclosing(self._body):
            async for piece in self._body:
                wanted = piece[self._skip : self._skip + self._size]
                self._skip = max(self._skip - len(piece), 0)
                self._size -= len(wanted)
                if wanted:
                    yield wanted
                if not self._size and (not self._is_all or len(wanted) < len(piece)):
                    return
        if self._size:
            raise Unavailable(f"the body ended {self._size} bytes early")

    async def aclose(self) -> None:
        # A generator that was never started does not run its cleanup.
        await self._body.aclose()


def _whole_size(response: Response) -> int | None:
    if response.code == 200:
        return _content_length(response)
    whole = response.headers.getRawHeaders(b"content-range", [b""])[0].rpartition(b"/")[2]
    return parse_size(whole)


def _content_length(response: Response) -> int | None:
    # For the answer to a HEAD, response.length is 0: there is no body.
    return parse_size(response.headers.getRawHeaders(b"content-length", [b""])[0])
