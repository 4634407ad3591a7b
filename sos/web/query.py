"""The query of a request."""

from __future__ import annotations

from sos.errors import InvalidRequest
from sos.http.server.request import Request


def argument(request: Request, name: bytes) -> str | None:
    """Return the value of *name* in the query of *request*, None if it is not there.

    Raises InvalidRequest if it is there more than once.
    """
    values = request.args.get(name)
    if not values:
        return None
    if len(values) > 1:
        raise InvalidRequest(
            f"{name.decode('ascii')} occurs {len(values)} times in the query, instead of once"
        )
    return values[0].decode("latin-1")
