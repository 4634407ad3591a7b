"""The HTTP interface of the blob server: store, read, list and drop blobs."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from functools import cache, partial
from hashlib import blake2b
from itertools import islice

import attrs

from sos.errors import InvalidRequest
from sos.http.server.request import Request
from sos.interfaces import IReplicaStore
from sos.model import batch, ids, membership, merge
from sos.model import metadata as metadata_format
from sos.model.digest import BlobDigest, PartitionDigest
from sos.model.lease import LEASE, MAX_SECONDS
from sos.model.membership import MEMBERS
from sos.model.metadata import assumed, to_server
from sos.monitoring.sightings import Sightings
from sos.web.batches import Batch
from sos.web.errors import answer_json, answer_text, encode_json, errors_log
from sos.web.openapi import Operation, Port, document, parameters, responses
from sos.web.openapi.credentials import SIGNATURES
from sos.web.openapi.parameters import MAX_PAGE
from sos.web.query import argument
from sos.web.responses import Answer, answer_blob, answer_stored, is_known, store_body, whole_body
from sos.web.stock_site import App

_MEMBERS = MEMBERS.lower().encode("ascii")

# Lists ids as IReplicaStore.listing does.
_Listing = Callable[[str | None, int, str | None], Awaitable[list[str]]]

# Blobs per write of a long answer: a partition can have hundreds of thousands.
_ROWS_AT_ONCE = 1000


class BlobServer:
    """HTTP server for one store.

    :param max_size: most bytes of a blob, None for no limit.
    :param status: returns the document of ``/status``; by default, the status of
        the store and the sightings.
    :param sightings: records which API servers use this server.
    """

    app = App()

    def __init__(
        self,
        store: IReplicaStore,
        max_size: int | None = None,
        status: Callable[[], Awaitable[Mapping[str, object]]] | None = None,
        sightings: Sightings | None = None,
    ) -> None:
        self._sightings = sightings or Sightings(time.monotonic)
        self._store = store
        self._max_size = max_size
        self._status = status or self._own_status
        self._failures = errors_log(time.monotonic)
        # The digests sent last, their JSON, and its ETag.
        self._digests: tuple[Mapping[str, PartitionDigest], bytes, str] = {}, b"{}", "empty"

    @app.route("/alive", methods=["GET"])
    @Operation("state", answers=[responses.ALIVE])
    def alive(self, request: Request) -> bytes:
        """Confirm that the server runs, without credentials."""
        return answer_text(request, b"alive")

    @app.route("/blob/<id>", methods=["POST", "PUT"])
    @Operation(
        "blobs",
        takes=(parameters.BLOB, *parameters.BLOB_HEADERS, *parameters.DIGESTS),
        body=parameters.BYTES,
        answers=(*responses.STORED_BLOB, responses.OTHER_HASH),
    )
    async def store(self, request: Request, id: str) -> bytes:
        """Store the body under *id*, with the metadata from the headers.

        A body that is marked as a manifest must be the manifest of *id*.  Metadata without a time
        gets the current time, unless it is empty.
        """
        received = merge.check_upload(metadata_format.from_server(request.received_headers))
        metadata = metadata_format.timed(received, metadata_format.ticks(time.time()))
        info = await store_body(request, self._store, ids.check(id), self._max_size, metadata)
        return answer_stored(request, info, self._named())

    def _named(self) -> bytes:
        """Return the JSON member with the id of the store, empty if the store has no id."""
        id = self._identity()
        return b',"store":"%s"' % id.encode("ascii") if id else b""

    def _identity(self) -> str:
        """Return the id of the store, empty if it has none."""
        return getattr(self._store, "identity", None) or ""

    @app.route("/blob/<id>", methods=["GET"])
    @Operation(
        "blobs",
        "GET HEAD",
        takes=(parameters.BLOB, *parameters.RANGES, *parameters.CONDITIONS),
        answers=responses.READ_BLOB,
    )
    def read(self, request: Request, id: str) -> Answer:
        """Send the blob *id*, or a range of it."""
        return answer_blob(request, self._store, ids.check(id), to_server)

    @app.route("/blobs", methods=["GET"])
    @app.route("/blob", methods=["GET"], endpoint="listing_as_blob")
    @Operation("replicas", takes=parameters.LISTING, answers=[responses.LISTING])
    async def listing(self, request: Request) -> None:
        """List ids, optionally of one ``partition``, after the id ``after``, at most ``limit``.

        With ``kind=manifest`` it lists only objects that are in chunks.  ``/blob`` is the path
        that the original system has.
        """
        after = argument(request, b"after")
        limit = argument(request, b"limit")
        partition = argument(request, b"partition")
        listing = _listing_of(self._store, argument(request, b"kind"))
        if after is not None:
            ids.check(after)
        if partition is not None:
            ids.check_partition(partition)
        # Page by page, so that memory does not grow with the number of blobs.
        size = MAX_PAGE if limit is None else _number("limit", limit, MAX_PAGE)
        page = await listing(after, size, partition)
        request.setHeader(b"Content-Type", b"application/json")
        if limit is not None and len(page) == size:
            kind = argument(request, b"kind")
            request.setHeader(b"Link", _next_page(page[-1], size, partition, kind))
        separator = b"["
        while page:
            # Ids are letters and digits, and need no escaping.
            request.write(separator + b'"' + '","'.join(page).encode("ascii") + b'"')
            separator = b","
            await request.drained()
            if limit is not None:
                break
            page = await listing(page[-1], size, partition)
        request.write(b"]" if separator == b"," else b"[]")

    @app.route("/digests", methods=["GET"])
    @Operation("replicas", takes=[parameters.IF_NONE_MATCH], answers=responses.DIGESTS)
    async def digests(self, request: Request) -> bytes:
        """Send the digest of each partition: count, bytes, sum.  304 if the ETag matches."""
        found = await self._store.digests()
        if found is not self._digests[0]:
            body = encode_json({name: _row(found[name]) for name in sorted(found)})
            self._digests = found, body, blake2b(body, digest_size=16).hexdigest()
        _, body, etag = self._digests
        request.setHeader(b"ETag", b'"%s"' % etag.encode("ascii"))
        if is_known(request, etag):
            request.setResponseCode(304)
            return b""
        request.setHeader(b"Content-Type", b"application/json")
        return body

    @app.route("/digests/<partition>", methods=["GET"])
    @Operation(
        "replicas", takes=(parameters.PARTITION, parameters.TIMES), answers=[responses.BLOB_DIGESTS]
    )
    async def blob_digests(self, request: Request, partition: str) -> bytes | None:
        """Send the size and metadata version of each blob of a partition.

        The hash follows if the blob has an opaque name.  With ``times``, the hash (or "") and
        the time of the metadata follow, unless the version implies that time; then the times at
        which it was stored, as an object and as a chunk, and deleted, or null, unless the others
        imply these: older API servers, which do not send ``times``, reject rows of four.
        """
        found = await self._store.blob_digests(ids.check_partition(partition))
        timed = argument(request, b"times") is not None
        rows = ((id, _blob_row(each, timed)) for id, each in found.items())
        request.setHeader(b"Content-Type", b"application/json")
        if len(found) <= _ROWS_AT_ONCE:  # whole, with a Content-Length: shorter than chunks
            return encode_json(dict(rows))
        separator = b"{"
        while part := dict(islice(rows, _ROWS_AT_ONCE)):
            request.write(separator + encode_json(part)[1:-1])
            separator = b","
            await request.drained()
        request.write(b"}")
        return None

    @app.route("/batch", methods=["POST"])
    @Operation(
        "replicas",
        takes=parameters.DIGESTS,
        body=parameters.BATCH,
        answers=(responses.BATCH, responses.LARGE_BATCH),
    )
    async def batch(self, request: Request) -> bytes:
        """Carry out operations on small blobs, which the body describes; answer with the outcomes.

        Each counts as the GET, HEAD or POST of ``/blob/{id}`` for which it stands.
        """
        records = batch.parse(await whole_body(request, batch.MOST_BYTES))
        named = self._identity().encode("ascii")
        work = Batch(request, self._store, self._max_size, named, self._failures)
        answers = await work.carry_out(records)
        request.setHeader(b"Content-Type", batch.MEDIA_TYPE)
        return answers

    @app.route("/blob/<id>", methods=["PATCH"])
    @Operation(
        "replicas",
        takes=(parameters.BLOB, *parameters.BLOB_HEADERS),
        answers=(
            *responses.DONE_FOR_BLOB,
            responses.NO_BLOB,
            responses.OTHER_KIND,
            responses.DELETED_BLOB,
        ),
    )
    async def reconcile(self, request: Request, id: str) -> bytes:
        """Reconcile the metadata of *id* with the headers.

        What was set first stays.  The metadata of a tombstone deletes the object.
        """
        received = metadata_format.from_server(request.received_headers)
        metadata = merge.check_change(received, time.time())
        await self._store.reconcile(ids.check(id), metadata)
        return answer_json(request, {"id": id, "status": "OK"})

    @app.route("/lease", methods=["POST"])
    @Operation(
        "replicas",
        takes=(parameters.SECONDS, parameters.RENEWED_LEASE),
        answers=(responses.LEASE, responses.LEASED, responses.NO_ROOM),
    )
    async def lease(self, request: Request) -> bytes:
        """Grant a lease, the right to drop blobs, for ``seconds``, to one holder at a time.

        A request that sends a lease renews it for ``seconds`` from now.
        """
        seconds = _number("seconds", argument(request, b"seconds") or "", MAX_SECONDS)
        token = await self._store.lease(seconds, _lease(request))
        return answer_json(request, {"lease": token, "seconds": seconds})

    @app.route("/lease/<token>", methods=["DELETE"])
    @Operation(
        "replicas", takes=[parameters.RELEASED_LEASE], answers=(responses.DONE, responses.NO_ROOM)
    )
    async def release(self, request: Request, token: str) -> bytes:
        """Release a lease, whether or not it is valid."""
        await self._store.release(token)
        return answer_json(request, {"status": "OK"})

    @app.route("/blob/<id>", methods=["DELETE"])
    @Operation(
        "replicas",
        takes=(parameters.BLOB, parameters.HELD_LEASE, *parameters.KNOWN_DIGEST),
        answers=(*responses.DONE_FOR_BLOB, responses.NO_LEASE),
    )
    async def drop(self, request: Request, id: str) -> bytes:
        """Remove the copy of *id* for the holder of the lease, if it matches the query.

        A blob that the server does not have counts as removed.
        """
        token = _lease(request)
        if token is None:
            raise InvalidRequest(
                f"the header {LEASE} is missing: only the holder of the lease deletes"
            )
        await self._store.drop(ids.check(id), token, _known(request))
        return answer_json(request, {"id": id, "status": "OK"})

    @app.route("/status", methods=["GET"])
    @Operation(
        "state",
        takes=[parameters.ANNOUNCER_IF_ANY],
        answers=(responses.BLOB_STATUS, responses.OTHER_SITE),
    )
    async def status(self, request: Request) -> bytes:
        """Send the status of the store and its scrub, and the views of API servers."""
        if (header := request.getHeader(_MEMBERS)) is not None:
            self._sightings.record(header.decode("latin-1"))
        return answer_json(request, await self._status())

    @app.route("/members", methods=["POST"])
    @Operation(
        "replicas",
        takes=(parameters.ANNOUNCER, *parameters.DIGESTS),
        body=parameters.MEMBERSHIP,
        answers=(responses.BLOB_STATUS, responses.LARGE_MEMBERSHIP),
    )
    async def members(self, request: Request) -> bytes:
        """Record an API server's view of the cluster; answer as ``/status``.

        API servers send their views if ``/status`` does not have their fingerprints.
        """
        view = membership.decode(await whole_body(request, membership.MOST_BYTES))
        self._sightings.record(_announcer(request), view)
        return answer_json(request, await self._status())

    @app.route("/members", methods=["DELETE"])
    @Operation("replicas", takes=[parameters.ANNOUNCER], answers=[responses.DONE])
    def leave(self, request: Request) -> bytes:
        """Forget an API server that stops."""
        self._sightings.leave(_announcer(request))
        return answer_json(request, {"status": "OK"})

    @app.route("/openapi.json", methods=["GET"])
    @Operation("state", answers=[responses.DESCRIPTION])
    def description(self, request: Request) -> bytes:
        """Send the OpenAPI description of this interface."""
        request.setHeader(b"Content-Type", b"application/json")
        return openapi_json()

    async def _own_status(self) -> Mapping[str, object]:
        own = attrs.asdict(await self._store.status(), filter=attrs.filters.exclude("others"))
        return {**own, "members": self._sightings.document()}


@cache
def openapi_json() -> bytes:
    """Return the OpenAPI description of a blob server, in JSON."""
    description = (
        "Stores bytes under names. Its clients are API servers, and other programs that replicate; "
        "people upload to an API server, and fetch from one."
    )
    tags = {
        "blobs": "Store and read.",
        "replicas": "Keep the same blobs on several servers.",
        "state": "Watch the server.",
    }
    ports = [Port(BlobServer.app, 3001, "The port of a blob server.")]
    return encode_json(document("SOS blob server", description, tags, ports, SIGNATURES))


def _announcer(request: Request) -> str:
    header = request.getHeader(_MEMBERS)
    if header is None:
        raise InvalidRequest(
            f"the header {MEMBERS} is missing: it names the client and its servers"
        )
    return header.decode("latin-1")


def _lease(request: Request) -> str | None:
    token = request.getHeader(LEASE.lower().encode("ascii"))
    return None if token is None else token.decode("latin-1")


def _blob_row(digest: BlobDigest, timed: bool) -> tuple[int | str | None, ...]:
    if timed and digest.times != merge.assumed(digest.set_at):
        *times, expires = attrs.astuple(digest.times)
        row = digest.size, digest.version, digest.hash, digest.set_at, *times
        return row if expires is None else (*row, expires)
    if timed and digest.set_at != assumed(digest.version):
        return digest.size, digest.version, digest.hash, digest.set_at
    shortly = digest.size, digest.version
    return (*shortly, digest.hash) if digest.hash else shortly


def _known(request: Request) -> BlobDigest | None:
    """Return the expected digest of a blob from the query, if there is one."""
    size, version = argument(request, b"size"), argument(request, b"version")
    if size is None and version is None:
        return None
    if size is None or version is None:
        raise InvalidRequest("the query needs both size and version of the blob, or neither")
    if not (size.isascii() and size.isdigit() and len(size) < 20):
        raise InvalidRequest(f"size={size[:20]!r} is not a number")
    return BlobDigest(int(size), version, argument(request, b"hash") or "")


def _row(digest: PartitionDigest) -> tuple[int, int, str]:
    return digest.count, digest.bytes, f"{digest.sum:032x}"


def _listing_of(store: IReplicaStore, kind: str | None) -> _Listing:
    """Return the function that lists the blobs of this *kind*, of all kinds if it is None."""
    if kind is None:
        return store.listing
    if kind != "manifest":
        raise InvalidRequest(f"kind={kind[:20]!r} is not manifest")
    return partial(_manifests, store)


async def _manifests(
    store: IReplicaStore, after: str | None, limit: int, partition: str | None
) -> list[str]:
    """List the manifests of *store* as :meth:`~sos.interfaces.IReplicaStore.listing` does."""
    start = "" if after is None else ids.sort_key(after)
    found: list[str] = []
    for each in sorted(await store.digests()):
        if each >= start[:3] and partition in (None, each) and len(found) < limit:
            held = await store.blob_digests(each)
            keys = (ids.sort_key(id) for id, copy in held.items() if copy.is_manifest)
            found += [key[3:] for key in sorted(keys) if key > start]
    return found[:limit]


def _next_page(last: str, limit: int, partition: str | None, kind: str | None) -> bytes:
    query = f"after={last}&limit={limit}" + (f"&partition={partition}" if partition else "")
    query += f"&kind={kind}" if kind else ""
    return f'</blobs?{query}>; rel="next"'.encode("ascii")


def _number(name: str, text: str, most: int) -> int:
    digits = text.isascii() and text.isdigit() and len(text) <= len(str(most))
    if not (digits and 1 <= int(text) <= most):
        raise InvalidRequest(f"{name}={text[:20]!r} is not a number from 1 to {most}")
    return int(text)
