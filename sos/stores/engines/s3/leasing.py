"""The lease of a store in a bucket, which processes everywhere can ask for.

Each lease is an object under the next number, which is put only when there is
none: so of those that ask at once one gets it.  Who has the highest number has
the lease, for as long as it says by the clock of the server; before each drop
it is read again, so never are two tokens valid.
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
    """Grants the lease, and knows who has it."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket

    async def grant(self, seconds: float, token: str | None = None) -> str:
        """Return a token for *seconds*.

        :param token: of a valid lease, to make that last longer.

        Raises Conflict while another has it, and NotFound where the server
        knows no conditions: then nobody can be sure to be the only one.
        """
        keys = await self._keys()
        if not self._bucket.conditional:
            raise NotFound(f"{self._bucket.client.name} knows no If-None-Match, so grants no lease")
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
            # Of two at the same moment Swift takes both, and keeps the last.
            kept, _ = await self._read(key)
            if kept == new:
                await self._bucket.delete_all(keys)
                return new.token
        raise Conflict("another has just been given the lease")

    async def check(self, token: str) -> None:
        """Raise Conflict unless *token* is that of the lease."""
        keys = await self._keys()
        held, now = await self._read(keys[-1]) if keys else (None, 0.0)
        leases.check(held, token, now)

    async def release(self, token: str) -> None:
        """Give the lease back, if *token* is that of it."""
        keys = await self._keys()
        if not keys:
            return
        held, _ = await self._read(keys[-1])
        if held is not None and held.token == token:
            await self._bucket.put(keys[-1], _document(Lease("", 0.0)))

    async def _keys(self) -> list[str]:
        """Return the keys of leases; others are somebody else's."""
        return [key for key in await self._bucket.keys(_KEYS) if _NUMBERED.fullmatch(key)]

    async def _read(self, key: str) -> tuple[Lease | None, float]:
        """Return what a lease says, None where there is none, and the time of the server."""
        found, now = await self._bucket.small(key)
        if now is None:
            raise Unavailable(f"{self._bucket.client.name} does not tell the time, for a lease")
        if found is None:
            return None, now
        try:
            told = json.loads(found)
            token, until = str(told["token"]), float(told["until"])
            if not math.isfinite(until):
                raise ValueError
            return Lease(token, until), now
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
            raise Unavailable(f"{self._bucket.client.name}: {key} is no lease") from None


def _key(number: int) -> str:
    return f"{_KEYS}{number:016d}"


def _document(lease: Lease) -> bytes:
    return json.dumps({"token": lease.token, "until": lease.until}).encode("ascii")
