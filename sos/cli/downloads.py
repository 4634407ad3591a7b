"""Objects on their way from an API server: several parts of one at once."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from contextlib import aclosing
from functools import partial
from itertools import chain
from typing import Any

from twisted.internet.task import deferLater
from twisted.web.iweb import UNKNOWN_LENGTH

from sos.aio.pieces import ReadAhead
from sos.aio.threads import RunInThread, threads_of
from sos.cli.servers import FETCH, fetches
from sos.errors import Unavailable
from sos.http.client.bodies import PROMPT_SECONDS, ResponseBody
from sos.interfaces import Pieces, Span
from sos.model import ids
from sos.model.digest import BodyDigest
from sos.stores.remote.body import RemoteBody
from sos.stores.remote.client import Exchange, Response

#: Bytes of a part: as many as a chunk has, unless the server was told otherwise,
#: so that each of them is read for one part.
PART_SIZE = 8 * 1024 * 1024

#: Seconds to wait each time before the rest of a part that broke off is asked for.
WAITS = (0.5, 1.0, 2.0, 4.0)

#: Is called with a number of bytes when they have come.
Advance = Callable[[int], object]

_CONTENT_RANGE = re.compile(rb"bytes 0-([0-9]{1,18})/([0-9]{1,18})")


class Downloader:
    """Gets objects from where they are served.

    What has a content id is fetched in parts, and compared with that as a
    whole.  Anything else is fetched in one piece: of its parts nothing could
    tell whether they are of the same bytes.

    :param exchange: with the API server that serves fetches.
    :param parallel: most parts of an object that are on their way at once.  So
        many are held in memory, and the one that is being read.
    """

    def __init__(self, exchange: Exchange, reactor: Any, parallel: int) -> None:
        self._exchange = exchange
        self._store = fetches(exchange, reactor)
        self._run_in_thread = threads_of(reactor)
        self._parallel = parallel

    async def open(self, id: str, advance: Advance) -> tuple[int | None, bytes | Pieces]:
        """Return the size of an object in bytes, where it is told, and its body.

        It is verified: see :class:`sos.interfaces.Blob`.  Raises NotFound or
        Unavailable.
        """
        if ids.algorithm(id) is None:
            return await self._whole(id, advance)
        asked = {"Range": f"bytes=0-{PART_SIZE - 1}"}
        sent = self._exchange.send("GET", FETCH + id, asked, seconds=PROMPT_SECONDS)
        response = await self._exchange.answered(sent, accept=(200, 206, 416))
        body = ResponseBody(response, self._exchange.clock)
        if response.code == 416:  # what is empty has no part
            await body.aclose()
            return await self._whole(id, advance)
        if response.code == 200:  # servers of the original system know no parts
            length = None if response.length is UNKNOWN_LENGTH else int(response.length)
            digest = BodyDigest(id, expected_size=length)
            return length, _Counted(RemoteBody(b"", body, digest, length), advance)
        try:
            size = self._size(response)
        except Unavailable:
            await body.aclose()
            raise
        read = partial(self._part, id, size, advance)
        spans = ((at, min(at + PART_SIZE, size)) for at in range(0, size, PART_SIZE))
        parts = chain([read(next(spans), body)], map(read, spans))
        return size, _Parts(parts, size, self._parallel, BodyDigest(id), self._run_in_thread)

    async def _whole(self, id: str, advance: Advance) -> tuple[int | None, bytes | Pieces]:
        blob = await self._store.read(id)
        if isinstance(blob.body, bytes):
            return blob.info.size, blob.body
        return blob.info.size, _Counted(blob.body, advance)

    async def _part(
        self, id: str, size: int, advance: Advance, span: Span, begun: Pieces | None = None
    ) -> bytes:
        """Return a part of an object, of which what breaks off is asked for again.

        :param size: of the object, in bytes.
        :param begun: the part's pieces, if it has been asked for.
        """
        start, stop = span
        pieces: list[bytes] = []
        waits = iter(WAITS)
        while start < stop:
            try:
                async with aclosing(begun or await self._opened(id, size, (start, stop))) as body:
                    begun = None
                    async for piece in body:
                        if len(piece) > stop - start:
                            raise Unavailable(f"{self._exchange.url} sent more than was asked for")
                        start += len(piece)
                        pieces.append(piece)
                        advance(len(piece))
                if start < stop:
                    raise Unavailable(f"{self._exchange.url} ended {stop - start} bytes early")
            except Unavailable:
                wait = next(waits, None)
                if wait is None:
                    raise
                await deferLater(self._exchange.clock, wait)
        return b"".join(pieces)

    async def _opened(self, id: str, size: int, span: Span) -> Pieces:
        blob = await self._store.read(id, span)
        assert not isinstance(blob.body, bytes)
        if blob.info.size not in (None, size):
            await blob.body.aclose()
            raise Unavailable(
                f"{self._exchange.url} serves {id} in {blob.info.size} bytes, and had {size}"
            )
        return blob.body

    def _size(self, response: Response) -> int:
        """Return the size of the object whose first part is the answer."""
        told = response.headers.getRawHeaders(b"content-range", [b""])[0]
        found = _CONTENT_RANGE.fullmatch(told)
        if found is not None:
            last, size = map(int, found.groups())
            if last + 1 == min(size, PART_SIZE):
                return size
        raise Unavailable(
            f"{self._exchange.url} sent another part than was asked for: {told!r:.80}"
        )


class _Counted:
    """The pieces of *body*, each told to *advance* when it comes."""

    def __init__(self, body: Pieces, advance: Advance) -> None:
        self._body = body
        self._advance = advance

    async def __aiter__(self) -> AsyncGenerator[bytes, None]:
        async for piece in self._body:
            self._advance(len(piece))
            yield piece

    async def aclose(self) -> None:
        await self._body.aclose()


class _Parts:
    """The parts of an object, in order; the next are on their way already.

    :param parts: each fetches one, when it is awaited.
    :param parallel: how many are, at most, beside the one that is being read.
    :param digest: of the whole: the last part comes only when all match it.
    """

    def __init__(
        self,
        parts: Iterator[Coroutine[Any, Any, bytes]],
        size: int,
        parallel: int,
        digest: BodyDigest,
        run_in_thread: RunInThread,
    ) -> None:
        self._ahead = ReadAhead(parts, parallel, cancel=True)
        self._size = size
        self._digest = digest
        self._run_in_thread = run_in_thread

    async def __aiter__(self) -> AsyncGenerator[bytes, None]:
        async for part in self._ahead:
            await self._run_in_thread(self._digest.update, part)
            if self._digest.size == self._size:
                self._digest.verified_id()
            yield part

    async def aclose(self) -> None:
        await self._ahead.aclose()
