"""A body as a server sends it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable

from sos.aio.threads import RunInThread
from sos.errors import InvalidRequest, Mismatch, SOSError, Unavailable
from sos.http.client.bodies import HeldUp
from sos.interfaces import Pieces
from sos.model.digest import BodyDigest, ManifestDigest

#: Opens the rest of a body elsewhere: given how much of it has been read, and
#: the error that it ended with.
Resume = Callable[[int, Unavailable], Awaitable[Pieces]]


class RemoteBody:
    """The pieces of a larger body, or of a part of it.

    The whole is verified: the last piece comes only when all match *digest*.

    :param start: what has been read of it.
    :param rest: its other pieces.
    :param digest: None for a part, which cannot be verified.
    :param size: in bytes, None where it is not known.
    :param run_in_thread: verifies a manifest: of a hundred thousand chunks, one takes
        longer than others can wait.
    :ivar resume: how to go on when the server breaks off; without it, and
        where the size is not known, the body ends with
        :exc:`~sos.errors.Unavailable`.
    :ivar failed: told of each failure of the server, also of one after which it goes on.
    """

    def __init__(
        self,
        start: bytes,
        rest: Pieces,
        digest: BodyDigest | None,
        size: int | None,
        run_in_thread: RunInThread | None = None,
    ) -> None:
        self.resume: Resume | None = None
        self.failed: Callable[[SOSError], object] = _nobody
        self._start = start
        self._rest = rest
        self._digest = digest
        self._size = size
        self._run_in_thread = run_in_thread

    async def __aiter__(self) -> AsyncGenerator[bytes, None]:
        held, self._start = self._start, b""
        received = self._passed(held)
        while True:
            try:
                async for piece in self._rest:
                    received += self._passed(piece)
                    if held:
                        yield held
                    held = piece
                break
            except Unavailable as error:
                if not isinstance(error, HeldUp):
                    self.failed(error)
                if self.resume is None or self._size is None:
                    raise
                await self._rest.aclose()
                if received < self._size:
                    self._rest = await self.resume(received, error)
                elif self._digest is None:  # nothing else tells that it is whole
                    raise
                else:
                    break
        if self._digest is not None:
            try:
                await self._verify(self._digest)
            except Mismatch as error:
                self.failed(error)
                raise
            except InvalidRequest as error:
                self.failed(error)
                raise Unavailable(str(error)) from error
        yield held

    async def _verify(self, digest: BodyDigest) -> None:
        if isinstance(digest, ManifestDigest) and self._run_in_thread is not None:
            await self._run_in_thread(digest.verified_id)
        else:
            digest.verified_id()

    def _passed(self, piece: bytes) -> int:
        if self._digest is not None and piece:
            self._digest.update(piece)
        return len(piece)

    async def aclose(self) -> None:
        await self._rest.aclose()


def _nobody(error: SOSError) -> None: ...
