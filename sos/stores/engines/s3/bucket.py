"""A bucket of S3, and the operations on its objects."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from itertools import pairwise
from typing import Any

from attrs import frozen

from sos.errors import Unavailable
from sos.http.client.bodies import ResponseBody
from sos.interfaces import Span, parse_size
from sos.stores.engines.s3.client import Answer, Client, Denied, seconds_of, unusable
from sos.stores.engines.s3.signing import DEFAULT_REGION

#: Most keys that one request lists: the limit of S3.
PAGE = 1000

# Most keys of one blob, or of leases.
_MOST_KEYS = 10 * PAGE
# The keys that a store writes; the URL of any other key could lead elsewhere.
_KEY = re.compile(r"[0-9a-z/-]+")

_META = "x-amz-meta-"
#: The condition that nothing is stored under the key (RFC 9110, 13.1.2).
ONLY_NEW = {"If-None-Match": "*"}
# The statuses by which a server rejects a condition that it does not support.
_NOT_KNOWN = (400, 501)


@frozen
class Entry:
    """An object in the bucket, without its body.

    :param size: the size of the whole body in bytes.
    :param etag: differs if the body differs; the MD5 of most bodies that were sent by one
        request.
    :param fields: its metadata fields, by their names in lower case.
    :param stored_at: in seconds since the epoch; None if the server does not say.
    """

    size: int
    etag: str
    fields: Mapping[str, str]
    stored_at: float | None


class Bucket:
    """The objects of a bucket whose keys begin with a prefix; keys here are without it.

    :param page: the most keys that one request lists.
    :ivar conditional: whether the server honours ``If-None-Match: *`` in a PUT. Amazon, Swift,
        MinIO and Ceph do; others reject or ignore it. False until :meth:`probe` has seen it.
    """

    def __init__(self, client: Client, prefix: str, page: int = PAGE) -> None:
        self.client = client
        self.prefix = prefix
        self.conditional = False
        self._page = page

    async def identified(self) -> Bucket:
        """Return a copy with credentials, to check the store before :meth:`open`.

        Raises StoreUnusable if there are no credentials.
        """
        return Bucket(await self.client.identified(), self.prefix, self._page)

    def open(self, found: Bucket) -> None:
        """Start to use the credentials and the capabilities that *found* has."""
        self.conditional = found.conditional
        self.client.open(found.client)

    async def create(self) -> None:
        """Create the bucket; raises StoreUnusable if the server refuses."""
        region = self.client.region
        body = b""
        if region != DEFAULT_REGION:
            body = (
                "<CreateBucketConfiguration><LocationConstraint>"
                f"{region}</LocationConstraint></CreateBucketConfiguration>"
            ).encode()
        try:
            await self.client.ask("PUT", body=body, accept=(409,))
        except Denied as error:
            raise unusable(error) from error

    async def entry(self, key: str) -> Entry | None:
        """Describe the object *key*; None if there is none."""
        answer = await self.client.ask("HEAD", self.prefix + key, accept=(404,))
        return None if answer.status == 404 else _entry(answer)

    async def small(self, key: str) -> tuple[bytes | None, float | None]:
        """Return a small body and the time by the server's clock; None for what is missing."""
        answer = await self.client.ask("GET", self.prefix + key, accept=(404,))
        if answer.status == 404 and answer.code == "NoSuchBucket":
            raise NoBucket(f"{self.client.name}: the bucket does not exist")
        return None if answer.status == 404 else answer.body, server_time(answer)

    async def read(self, key: str, span: Span | None = None) -> tuple[Entry, ResponseBody] | None:
        """Open a body, or its non-empty part *span*, for reading; None if there is none.

        The part ends with the body if *span* ends behind it.
        """
        fields = {} if span is None else {"Range": f"bytes={span[0]}-{span[1] - 1}"}
        answer = await self.client.ask(
            "GET", self.prefix + key, fields=fields, accept=(404,), stream=True
        )
        if answer.pieces is None:
            if answer.code == "NoSuchBucket":
                raise NoBucket(f"{self.client.name}: the bucket does not exist")
            return None
        try:
            entry = _entry(answer)
            if span is not None:
                _check_range(answer, span, entry.size)
            return entry, answer.pieces
        except BaseException:
            await answer.pieces.aclose()
            raise

    async def put(
        self, key: str, body: bytes, fields: Mapping[str, str] = {}, only_new: bool = False
    ) -> bool:
        """Store *body*; return False if *only_new* and the key exists.

        *only_new* has no effect unless the server is conditional. The body is durable on return:
        S3 acknowledges no earlier. The server verifies it by the hashes in the request.
        """
        sent = {_META + name: value for name, value in fields.items()}
        if only_new and self.conditional:
            sent |= ONLY_NEW
        answer = await self.client.ask(
            "PUT", self.prefix + key, fields=sent, body=body, accept=(412,)
        )
        return answer.status != 412

    async def probe(self, key: str, body: bytes) -> None:
        """Store *body* if *key* does not exist, to test whether the server honours conditions.

        Only a refusal (412) shows that it does, so the test needs a key that exists.
        """
        answer = await self.client.ask(
            "PUT", self.prefix + key, fields=ONLY_NEW, body=body, accept=(412, *_NOT_KNOWN)
        )
        self.conditional = answer.status == 412

    async def copy(
        self, source: str, target: str, fields: Mapping[str, str] | None, etag: str
    ) -> bool:
        """Copy an object on the server; return False if *source* is gone or has changed.

        :param fields: the fields of the copy; None to keep those of *source*.
        :param etag: the expected ETag of *source*.
        """
        if not etag:
            raise Unavailable(f"{self.client.name} sent no ETag for {source}")
        sent = {
            "x-amz-copy-source": f"/{self._bucket}/{self.prefix}{source}",
            "x-amz-copy-source-if-match": etag,
            "x-amz-metadata-directive": "COPY" if fields is None else "REPLACE",
        }
        sent |= {_META + name: value for name, value in (fields or {}).items()}
        answer = await self.client.ask("PUT", self.prefix + target, fields=sent, accept=(404, 412))
        if answer.status == 200:  # the body can contain an error all the same
            self.client.parsed(answer, "CopyObjectResult")
        return answer.status == 200

    @property
    def _bucket(self) -> str:
        return self.client.bucket

    async def delete(self, key: str, etag: str | None = None) -> None:
        """Remove the object *key*, if there is one.

        :param etag: its expected ETag; servers that honour conditions keep any other object.
        """
        fields = {} if etag is None else {"If-Match": etag}
        await self.client.ask("DELETE", self.prefix + key, fields=fields, accept=(404, 412))

    async def pages(
        self, prefix: str, after: str = "", limit: int | None = None
    ) -> AsyncGenerator[list[str], None]:
        """List the keys that begin with *prefix* and come after *after*, in order.

        :param limit: a hint: how many keys the caller needs. There may be more.
        """
        start = self.prefix + after if after else ""
        while True:
            # One key more shows whether the last blob has a second marker.
            size = self._page if limit is None else min(limit + 1, self._page)
            query = {"list-type": "2", "prefix": self.prefix + prefix, "max-keys": str(size)}
            if start:
                query["start-after"] = start
            page = await self.client.document("GET", "", "ListBucketResult", query=query)
            keys = [each.findtext("Key") or "" for each in page.findall("Contents")]
            self._check(keys, start, self.prefix + prefix)
            yield [key.removeprefix(self.prefix) for key in keys]
            if not self._goes_on(page):
                return
            if not keys:
                raise Unavailable(
                    f"{self.client.name} sent an empty page in the middle of a listing"
                )
            start = keys[-1]

    def _check(self, keys: list[str], start: str, prefix: str) -> None:
        """Raise Unavailable unless *keys* are in order, after *start*, and begin with *prefix*."""
        if any(key <= before for before, key in pairwise([start, *keys])):
            raise Unavailable(f"{self.client.name} sent a listing that is out of order")
        if not all(key.startswith(prefix) for key in keys):
            raise Unavailable(f"{self.client.name} listed keys outside the requested prefix")

    def _goes_on(self, page: Any) -> bool:
        truncated = (page.findtext("IsTruncated") or "").lower()
        if truncated not in ("true", "false"):
            raise Unavailable(f"{self.client.name} does not say whether a listing is complete")
        return truncated == "true"

    async def keys(self, prefix: str) -> list[str]:
        """Return the keys with *prefix* that a store can have written; they must be few."""
        found: list[str] = []
        async with aclosing(self.pages(prefix)) as pages:
            async for page in pages:
                found += filter(_KEY.fullmatch, page)
                if len(found) > _MOST_KEYS:
                    raise Unavailable(
                        f"{self.client.name} lists over {_MOST_KEYS} keys where few are expected"
                    )
        return found

    async def delete_all(self, keys: list[str]) -> None:
        """Remove the objects *keys*."""
        for key in keys:
            await self.delete(key)


class NoBucket(Unavailable):
    """The bucket does not exist."""


def server_time(answer: Answer) -> float | None:
    """Return the ``Date`` of an answer in seconds since the epoch; None if it has none."""
    return seconds_of(answer.fields.get("date", ""))


def _check_range(answer: Answer, span: Span, size: int) -> None:
    """Raise Unavailable unless *answer* is the part *span* of a body of *size* bytes."""
    # A server may answer a request for the whole body as if there were no Range.
    found = answer.fields.get("content-range", f"bytes 0-{size - 1}/{size}")
    if found != f"bytes {span[0]}-{min(span[1], size) - 1}/{size}":
        raise Unavailable(f"the server sent another range than requested: {found!r:.80}")


def _entry(answer: Answer) -> Entry:
    fields = answer.fields
    length = fields.get("content-range", "").rpartition("/")[2] or fields.get("content-length", "")
    size = parse_size(length)
    if size is None:
        raise Unavailable(f"the server sent an invalid size: {length!r:.40}")
    return Entry(
        size,
        fields.get("etag", ""),
        {
            name.removeprefix(_META): value
            for name, value in fields.items()
            if name.startswith(_META)
        },
        seconds_of(fields.get("last-modified", "")),
    )
