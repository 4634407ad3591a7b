"""The objects on an API server, renewed and deleted through its upload port."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from twisted.internet.defer import DeferredLock

from sos.errors import Deleted, Forbidden, NotFound, Unavailable
from sos.http.client.bodies import ANSWER_SECONDS
from sos.interfaces import is_size
from sos.model.metadata import EMPTY
from sos.stores.remote.client import Exchange, UnexpectedStatus

# Most bytes of an answer.
_MOST = 64 * 1024
# It is not an id, so a server that knows the request answers 400.
_NO_ID = "-"


class Unsupported(Unavailable):
    """The server does not know the request: it is an old one, or another kind of server."""


def expiry_query(expires: str | None) -> str:
    """Return the query by which an upload says when the object *expires*, if it does."""
    return "" if expires is None else "?" + urlencode({"expires": expires})


class StoredObjects:
    """The objects on an API server.

    :param exchange: the connection to the server's upload port.
    """

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        # Whether a 404 to a method is about the object, and not about the route.
        self._known: dict[str, bool] = {}
        self._asking = DeferredLock()

    async def renew(self, id: str, expires: str | None = None) -> int:
        """Store the object *id* again, without sending it, and return its size in bytes.

        So a deletion before this, which some server has not heard of yet, does not delete it.

        :param expires: when it expires, see :func:`sos.model.expiry.parse`; None for never.
        :raises NotFound: if it has to be uploaded.
        :raises Unsupported: if the server does not renew objects.
        """
        # Earlier servers take POST /upload/NAME for another request, or for a wrong one.
        found = await self._ask("POST", id + expiry_query(expires), also_unknown=(400,))
        if found.get("id") != id or not is_size(found.get("size")):
            raise Unsupported(f"{self._exchange.url} does not renew objects")
        return int(found["size"])

    async def delete(self, id: str) -> int:
        """Delete the object *id*; return the number of servers that have recorded it.

        :raises Deleted: if it was deleted before.
        :raises NotFound: if there is no such object.
        :raises Forbidden: if the server does not permit it.
        :raises Unsupported: if the server does not delete objects.
        """
        found = await self._ask("DELETE", id)
        if (found.get("id"), found.get("status")) != (id, "OK") or not is_size(
            found.get("deleted")
        ):
            raise Unavailable(
                f"{self._exchange.url} sent an unexpected answer to a deletion: {found!r:.200}"
            )
        return int(found["deleted"])

    async def _ask(
        self, method: str, id: str, also_unknown: tuple[int, ...] = ()
    ) -> dict[str, Any]:
        try:
            found = await self._send(method, id)
        except Deleted:
            raise
        except NotFound:
            if not await self._is_known(method):
                raise self._unsupported(method) from None
            raise
        except UnexpectedStatus as error:
            if error.status in (405, 501, *also_unknown):
                raise self._unsupported(method) from None
            if error.status == 410:
                raise Deleted(str(error), EMPTY) from None
            if error.status in (401, 403):
                raise Forbidden(str(error)) from None
            raise
        return found if isinstance(found, dict) else {}

    async def _send(self, method: str, name: str) -> Any:
        body = b"" if method == "POST" else None  # for a Content-Length of 0
        sent = self._exchange.send(method, f"/upload/{name}", EMPTY, body, ANSWER_SECONDS)
        return await self._exchange.parsed(await self._exchange.answered(sent), _MOST)

    async def _is_known(self, method: str) -> bool:
        """Return whether a 404 to this *method* means that there is no such object.

        From a server without this route, it means nothing.  It asks once.
        """
        async with self._asking:  # all that wait here share one answer
            if method not in self._known:
                self._known[method] = await self._rejects_no_id(method)
        return self._known[method]

    async def _rejects_no_id(self, method: str) -> bool:
        try:
            await self._send(method, _NO_ID)
        except UnexpectedStatus as error:
            return error.status == 400
        except NotFound:
            pass
        return False

    def _unsupported(self, method: str) -> Unsupported:
        verb = "renew" if method == "POST" else "delete"
        return Unsupported(
            f"{self._exchange.url} does not {verb} objects: it is an earlier version, or not the "
            "upload port of an API server"
        )
