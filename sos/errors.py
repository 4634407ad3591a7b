"""The exceptions of a blob store.

These exceptions know no HTTP: :mod:`sos.web.errors` maps them to statuses and
:mod:`sos.stores.remote.store` maps statuses back to them.  The text of each says
what happened, to what, and where possible what to do.
"""

from __future__ import annotations

from collections.abc import Mapping


def printable(text: str) -> str:
    """Return *text*, which is from outside, without unprintable characters, for an error.

    Errors go to logs and terminals, which would obey control characters.
    """
    return "".join(each if each.isprintable() else "?" for each in text)


class SOSError(Exception):
    """The base of every error this project raises on purpose."""


class BodyError(Exception):
    """The base of what is wrong with a stored body: its store handles it, and no caller sees it."""


class InvalidRequest(SOSError):
    """Input from outside is malformed; nothing was changed."""


class InvalidId(InvalidRequest):
    """An id that is not 1 to 128 lower-case letters and digits."""


class InvalidMetadata(InvalidRequest):
    """X-* metadata that is too large, or that cannot be a header."""


class Incomplete(InvalidRequest):
    """A body ended before its announced end; nothing was stored."""


class WrongDigest(InvalidRequest):
    """A body does not match a digest that was sent with it; nothing was stored."""


class WrongChecksum(SOSError):
    """A part of an upload does not match its checksum; nothing of it was kept."""


class Unauthorized(SOSError):
    """The request has missing or invalid credentials.

    :param challenge: the scheme to authenticate by, for ``WWW-Authenticate``
        (RFC 9110, 11.6.1).
    """

    def __init__(self, reason: str, challenge: str) -> None:
        super().__init__(reason)
        self.challenge = challenge


class Forbidden(SOSError):
    """The client is not allowed to do this; nothing was changed."""


class Misdirected(SOSError):
    """The request names a host that this server does not answer for; nothing was changed."""


class TooSlow(SOSError):
    """A request's bytes arrive too slowly; nothing was stored."""


class TooLarge(SOSError):
    """A body exceeds the configured limit; nothing was stored."""


class UnsupportedCoding(SOSError):
    """The body has a content coding that is not accepted; nothing was stored.

    :ivar accepted: the codings that are accepted.
    """

    def __init__(self, text: str, accepted: tuple[str, ...] = ()) -> None:
        super().__init__(text)
        self.accepted = accepted


class Unsatisfiable(SOSError):
    """The requested range lies outside the body, which has *size* bytes."""

    def __init__(self, size: int) -> None:
        super().__init__(f"the range is outside the blob, which has {size} bytes")
        self.size = size


class NotFound(SOSError):
    """The store answered that it holds no such blob."""


class Quarantined(NotFound):
    """The store has just found its copy damaged and quarantined it: the blob is gone there."""

    def __init__(self, id: str, damage: object) -> None:
        super().__init__(f"{id} is damaged and has been quarantined: {damage}")


class Deleted(NotFound):
    """The object was deleted.

    :ivar metadata: of its tombstone, see :mod:`sos.model.merge`.
    """

    def __init__(self, reason: str, metadata: Mapping[str, str]) -> None:
        super().__init__(reason)
        self.metadata = metadata


class Mismatch(SOSError):
    """The bytes do not hash to their content id, or are not its manifest."""


class Conflict(SOSError):
    """The request contradicts what is stored, or who holds a lease; nothing was changed."""


class Locked(SOSError):
    """Another request is working on the same upload."""


class NoSpace(SOSError):
    """There is no room for the blob; reading still works."""


class ReadOnly(SOSError):
    """The store accepts no writes, and the text says why; reading still works."""


class Unavailable(SOSError):
    """The store did not answer, or its answer cannot be trusted.

    So it is unknown whether the blob exists.
    """


class Replaced(Unavailable):
    """A blob was replaced or dropped while it was read; another read gets what is there now."""

    def __init__(self, id: str) -> None:
        super().__init__(f"blob {id} was replaced or dropped while it was read")


class StoreUnusable(SOSError):
    """A directory cannot be opened as a store: locked, foreign or damaged."""


class ConfigError(SOSError):
    """The configuration is wrong; the message names the file and the line."""
