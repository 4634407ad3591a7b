"""A bucket: what is kept under its keys."""

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

#: Keys that are listed by one request at most: as many as S3 allows.
PAGE = 1000

# Keys of one blob, or of leases, at most.
_MOST_KEYS = 10 * PAGE
# Those that there can be; of others an URL could lead elsewhere.
_KEY = re.compile(r"[0-9a-z/-]+")

_META = "x-amz-meta-"
#: The condition that there is nothing yet (RFC 9110, 13.1.2).
ONLY_NEW = {"If-None-Match": "*"}
# How a server tells that it does not know a condition.
_NOT_KNOWN = (400, 501)


@frozen
class Entry:
    """What is kept under a key, without its body.

    :param size: of the whole body in bytes.
    :param etag: differs when the body does; of most bodies that were put in
        one piece it is the MD5.
    :param fields: what was stored with it, by names in lower case.
    :param stored_at: in seconds since the epoch, None where the server does not tell.
    """

    size: int
    etag: str
    fields: Mapping[str, str]
    stored_at: float | None


class Bucket:
    """The keys of a bucket that begin with a prefix, which is left out everywhere here.

    :param page: most keys that one request asks for.
    :ivar conditional: whether the server puts only what is new, when asked to:
        Amazon, Swift, MinIO and Ceph do, others refuse that or ignore it.
        Until that has been seen it is not relied on.
    """

    def __init__(self, client: Client, prefix: str, page: int = PAGE) -> None:
        self.client = client
        self.prefix = prefix
        self.conditional = False
        self._page = page

    async def identified(self) -> Bucket:
        """Return another one, which can be asked whether this one is to be opened.

        Raises StoreUnusable when nobody says who we are.
        """
        return Bucket(await self.client.identified(), self.prefix, self._page)

    def open(self, found: Bucket) -> None:
        """Answer from now on, as what was *found* does."""
        self.conditional = found.conditional
        self.client.open(found.client)

    async def create(self) -> None:
        """Create the bucket; raises StoreUnusable when that is not allowed."""
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
        """Describe what is kept under *key*; None for nothing."""
        answer = await self.client.ask("HEAD", self.prefix + key, accept=(404,))
        return None if answer.status == 404 else _entry(answer)

    async def small(self, key: str) -> tuple[bytes | None, float | None]:
        """Return a small body, and the time by the clock of the server; None for neither."""
        answer = await self.client.ask("GET", self.prefix + key, accept=(404,))
        if answer.status == 404 and answer.code == "NoSuchBucket":
            raise NoBucket(f"{self.client.name}: there is no such bucket")
        return None if answer.status == 404 else answer.body, server_time(answer)

    async def read(self, key: str, span: Span | None = None) -> tuple[Entry, ResponseBody] | None:
        """Begin to read a body, or the part *span* of it, which is not empty; None for nothing."""
        fields = {} if span is None else {"Range": f"bytes={span[0]}-{span[1] - 1}"}
        answer = await self.client.ask(
            "GET", self.prefix + key, fields=fields, accept=(404,), stream=True
        )
        if answer.pieces is None:
            if answer.code == "NoSuchBucket":
                raise NoBucket(f"{self.client.name}: there is no such bucket")
            return None
        try:
            told = answer.fields.get("content-range", "")
            if span is not None and not told.startswith(f"bytes {span[0]}-{span[1] - 1}/"):
                raise Unavailable(f"{self.client.name} sent another part: {told!r:.80}")
            return _entry(answer), answer.pieces
        except BaseException:
            await answer.pieces.aclose()
            raise

    async def put(
        self, key: str, body: bytes, fields: Mapping[str, str] = {}, only_new: bool = False
    ) -> bool:
        """Store *body*; return False when *only_new* and there was something.

        It is durable on return: that is what a success of S3 means.  The
        server compares it with the hashes that are sent along.
        """
        sent = {_META + name: value for name, value in fields.items()}
        if only_new and self.conditional:
            sent |= ONLY_NEW
        answer = await self.client.ask(
            "PUT", self.prefix + key, fields=sent, body=body, accept=(412,)
        )
        return answer.status != 412

    async def probe(self, key: str, body: bytes) -> None:
        """Store *body* under *key* if nothing is there; see whether the server knows conditions.

        It does when it refuses: until there is something nobody can tell.
        """
        answer = await self.client.ask(
            "PUT", self.prefix + key, fields=ONLY_NEW, body=body, accept=(412, *_NOT_KNOWN)
        )
        self.conditional = answer.status == 412

    async def copy(
        self, source: str, target: str, fields: Mapping[str, str] | None, etag: str
    ) -> bool:
        """Copy within the bucket, where the server keeps it; return False if *source* has changed.

        :param fields: that the copy is to have; None for those of *source*.
        :param etag: of the body that is meant.
        """
        if not etag:
            raise Unavailable(f"{self.client.name} does not tell the ETag of {source}")
        sent = {
            "x-amz-copy-source": f"/{self._bucket}/{self.prefix}{source}",
            "x-amz-copy-source-if-match": etag,
            "x-amz-metadata-directive": "COPY" if fields is None else "REPLACE",
        }
        sent |= {_META + name: value for name, value in (fields or {}).items()}
        answer = await self.client.ask("PUT", self.prefix + target, fields=sent, accept=(404, 412))
        if answer.status == 200:  # behind which can come an error
            self.client.parsed(answer, "CopyObjectResult")
        return answer.status == 200

    @property
    def _bucket(self) -> str:
        return self.client.bucket

    async def delete(self, key: str, etag: str | None = None) -> None:
        """Remove what is kept under *key*, if there is anything.

        :param etag: of what is meant; servers that know conditions leave anything else.
        """
        fields = {} if etag is None else {"If-Match": etag}
        await self.client.ask("DELETE", self.prefix + key, fields=fields, accept=(404, 412))

    async def pages(
        self, prefix: str, after: str = "", limit: int | None = None
    ) -> AsyncGenerator[list[str], None]:
        """List the keys that begin with *prefix* and come behind *after*, in order.

        :param limit: of keys that are of interest; there may come more.
        """
        start = self.prefix + after if after else ""
        while True:
            # One more, by which it is seen that the last one has no second marker.
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
                raise Unavailable(f"{self.client.name} sent a listing that does not go on")
            start = keys[-1]

    def _check(self, keys: list[str], start: str, prefix: str) -> None:
        """Raise Unavailable unless *keys* come behind *start*, in order, and with *prefix*."""
        if any(key <= before for before, key in pairwise([start, *keys])):
            raise Unavailable(f"{self.client.name} sent a listing that is out of order")
        if not all(key.startswith(prefix) for key in keys):
            raise Unavailable(f"{self.client.name} sent a listing of what was not asked for")

    def _goes_on(self, page: Any) -> bool:
        told = (page.findtext("IsTruncated") or "").lower()
        if told not in ("true", "false"):
            raise Unavailable(f"{self.client.name} does not tell whether a listing is whole")
        return told == "true"

    async def keys(self, prefix: str) -> list[str]:
        """Return the keys that begin with *prefix* and can be of a store; there are few."""
        found: list[str] = []
        async with aclosing(self.pages(prefix)) as pages:
            async for page in pages:
                found += filter(_KEY.fullmatch, page)
                if len(found) > _MOST_KEYS:
                    raise Unavailable(f"{self.client.name} lists keys without end")
        return found

    async def delete_all(self, keys: list[str]) -> None:
        """Remove what is kept under *keys*."""
        for key in keys:
            await self.delete(key)


class NoBucket(Unavailable):
    """There is no such bucket."""


def server_time(answer: Answer) -> float | None:
    """Return the time by the clock of who answered, in seconds since the epoch, if that is told."""
    return seconds_of(answer.fields.get("date", ""))


def _entry(answer: Answer) -> Entry:
    fields = answer.fields
    told = fields.get("content-range", "").rpartition("/")[2] or fields.get("content-length", "")
    size = parse_size(told)
    if size is None:
        raise Unavailable(f"the server does not tell a size: {told!r:.40}")
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
