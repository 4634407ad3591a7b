"""What can go wrong, in the words of a blob store.

These exceptions know no HTTP: :mod:`sos.web.errors` maps them to statuses and
:mod:`sos.stores.remote.store` maps statuses back to them.  The text of each says
what happened, to what, and where possible what to do.
"""

from __future__ import annotations


def printable(text: str) -> str:
    """Return *text*, which somebody else has said, as it can stand in an error.

    From there it comes to logs and terminals, to which control characters are commands.
    """
    return "".join(each if each.isprintable() else "?" for each in text)


class SOSError(Exception):
    """The base of every error this project raises on purpose."""


class InvalidRequest(SOSError):
    """Input from outside is not well formed; nothing was changed."""


class InvalidId(InvalidRequest):
    """An id that is not 1 to 128 lower-case letters and digits."""


class InvalidMetadata(InvalidRequest):
    """X-* metadata that is too much, or that cannot be a header."""


class Incomplete(InvalidRequest):
    """A body ended before its announced end; nothing was stored."""


class WrongDigest(InvalidRequest):
    """A body does not match a digest that was sent with it; nothing was stored."""


class WrongChecksum(SOSError):
    """A part of an upload does not match its checksum; nothing of it was kept."""


class Unauthorized(SOSError):
    """Who asks has not shown who they are, or not so that it can be believed.

    :param challenge: the scheme by which it can be shown, of ``WWW-Authenticate``
        (RFC 9110, 11.6.1).
    """

    def __init__(self, reason: str, challenge: str) -> None:
        super().__init__(reason)
        self.challenge = challenge


class Forbidden(SOSError):
    """Who asks may not do this; nothing was changed."""


class Misdirected(SOSError):
    """The request names a host that this server does not answer for; nothing was changed."""


class TooSlow(SOSError):
    """A request's bytes came too slowly to go on waiting; nothing was stored."""


class TooLarge(SOSError):
    """A body passes the configured limit; nothing was stored."""


class UnsupportedCoding(SOSError):
    """A body in a content coding that is not taken; nothing was stored.

    :ivar accepted: the codings that are.
    """

    def __init__(self, text: str, accepted: tuple[str, ...] = ()) -> None:
        super().__init__(text)
        self.accepted = accepted


class Unsatisfiable(SOSError):
    """A part was asked for that lies outside the body, which is of *size* bytes."""

    def __init__(self, size: int) -> None:
        super().__init__(f"the blob has {size} bytes")
        self.size = size


class NotFound(SOSError):
    """The store answered, and holds no such blob."""


class SetAside(NotFound):
    """The store's copy was damaged, as it has just found: it holds no such blob any more."""

    def __init__(self, id: str, damage: object) -> None:
        super().__init__(f"{id} was damaged, and is set aside: {damage}")


class Mismatch(SOSError):
    """The bytes do not hash to the content id they came under, or are not its manifest."""


class Conflict(SOSError):
    """What is stored, or held, is not what the request is for; nothing was changed."""


class Locked(SOSError):
    """Another request is at work on the same upload."""


class NoSpace(SOSError):
    """There is no room for the blob; reading still works."""


class ReadOnly(SOSError):
    """The store takes no writes, and says why; reading still works."""


class Unavailable(SOSError):
    """The store did not answer, or its answer cannot be trusted.

    It says nothing about whether the blob exists.
    """


class StoreUnusable(SOSError):
    """A directory cannot be opened as a store: locked, foreign or damaged."""


class ConfigError(SOSError):
    """A configuration text is wrong; the message names the file and the line."""
