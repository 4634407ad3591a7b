"""The lease of a store in a bucket, for all processes that use the store.

Each lease is an object under the next number. A process puts it on the condition that the key
does not exist, so only one of several concurrent requests succeeds. The highest number is the
lease, until the time that it contains, by the clock of the server. It is read again before each
drop, so two tokens are never valid at the same time.
"""

from __future__ import annotations

import json
import math
import re

from sos.errors import Conflict, NotFound, Unavailable
from sos.model import lease as leases
from sos.model.lease import Lease
from sos.stores.engines.s3.bucket import Bucket

_KEYS = "lease/"
_NUMBERED = re.compile(r"lease/[0-9]{16}")


class Leasing:
    """The lease of the store in *bucket*: grants, checks and releases it."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket

    async def grant(self, seconds: float, token: str | None = None) -> str:
        """Return a token for *seconds*.

        :param token: the token of a valid lease, to extend it.

        Raises Conflict while another process has the lease, and NotFound if the server does not
        honour conditions: then no lease would be exclusive.
        """
        keys = await self._keys()
        if not self._bucket.conditional:
            raise NotFound(
                f"{self._bucket.client.name} ignores If-None-Match, so it cannot grant leases"
            )
        held, now = await self._read(keys[-1]) if keys else (None, 0.0)
        if not keys:
            _, now = await self._read(f"{_KEYS}0")
        new = leases.grant(held, seconds, now, token)
        if token is not None:
            await self._bucket.put(keys[-1], _document(new))
            return token
        number = int(keys[-1].removeprefix(_KEYS)) + 1 if keys else 1
        key = _key(number)
        if await self._bucket.put(key, _document(new), only_new=True):
            # Swift accepts two concurrent puts, and keeps the last.
            kept, _ = await self._read(key)
            if kept == new:
                await self._bucket.delete_all(keys)
                return new.token
        raise Conflict("another process has just acquired the lease")

    async def check(self, token: str) -> None:
        """Raise Conflict unless *token* is the token of the valid lease."""
        keys = await self._keys()
        held, now = await self._read(keys[-1]) if keys else (None, 0.0)
        leases.check(held, token, now)

    async def release(self, token: str) -> None:
        """Release the lease, if *token* is its token."""
        keys = await self._keys()
        if not keys:
            return
        held, _ = await self._read(keys[-1])
        if held is not None and held.token == token:
            await self._bucket.put(keys[-1], _document(Lease("", 0.0)))

    async def _keys(self) -> list[str]:
        """Return the keys of leases, in order; ignore all other keys."""
        return [key for key in await self._bucket.keys(_KEYS) if _NUMBERED.fullmatch(key)]

    async def _read(self, key: str) -> tuple[Lease | None, float]:
        """Return the lease under *key*, or None, and the time by the server's clock."""
        found, now = await self._bucket.small(key)
        if now is None:
            raise Unavailable(f"{self._bucket.client.name} sent no Date, which leases need")
        if found is None:
            return None, now
        try:
            document = json.loads(found)
            token, until = str(document["token"]), float(document["until"])
            if not math.isfinite(until):
                raise ValueError
            return Lease(token, until), now
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
            raise Unavailable(f"{self._bucket.client.name}: {key} is not a lease") from None


def _key(number: int) -> str:
    return f"{_KEYS}{number:016d}"


def _document(lease: Lease) -> bytes:
    return json.dumps({"token": lease.token, "until": lease.until}).encode("ascii")
