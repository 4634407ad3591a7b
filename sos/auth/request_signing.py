"""Signed requests: a client proves that it has the secret, without sending it.

The signature is the HMAC-SHA256 (RFC 2104) of the request's *canonical form*, which is
these lines, each ended by a newline::

    SOS1
    method
    path and query, as in the request line
    date: seconds since 1970
    nonce: 32 hex digits
    length of the body in bytes, or "chunked"
    SHA-256, in hex, of the signed headers

The signed headers are the ``X-*`` headers that have an effect (stored metadata, and
``X-Sos-*``, which servers exchange), ``Range``, and the digests of a body
(``Content-Digest``, ``Repr-Digest``, ``Content-MD5``).  Each is a line ``name:value``; the
lines are sorted, the name is in lower case, the value has no blanks around it, and the
values of one name are joined by ``", "``.  Headers that proxies add are not signed, so
they break nothing: metadata has an effect only in requests that store a blob, and if it is
in ``X-Sos-Metadata``, the plain ``X-*`` are derived from that header again, whatever a
proxy has made of them.

The signature does not cover the body: the server would have to read it before it knows
who sends it.  A body under a content id must match the id, which is in the path.  For
other bodies, a client sends ``Content-Digest`` if it has the body in memory.  If it
streams the body of an opaque name, only the length is signed.

The signature goes into a header::

    Authorization: SOS1 key=ID, date=SECONDS, nonce=HEX, signature=HEX

A client that knows the id of the server's store sends it in ``X-Sos-Store``, so a request
that was recorded on its way to one server cannot be replayed at another.

The key's id is derived from the key by HMAC.  It selects the key when both sides have
several.  A nonce consists of a random client number and the number of the request among
those that the client has signed: see :mod:`sos.auth.replay_cache`.
"""

from __future__ import annotations

import hmac
import re
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from hashlib import sha256
from itertools import count

from attrs import frozen

from sos.auth.replay_cache import ReplayCache
from sos.errors import InvalidMetadata, Unauthorized
from sos.model import metadata

#: Name of the scheme, and version of the canonical form.
SCHEME = "SOS1"
#: Header with the id of the store that a request is for.
STORE = "X-Sos-Store"
#: Seconds by which the clocks of the two sides may differ.
SKEW_SECONDS = 300
#: Most valid keys at a time: the one that signs, and another during a key rotation.
MOST_KEYS = 2
#: Fewest hex digits of a key: 128 bits.
LEAST_DIGITS = 32

_MOST_DIGITS = 256
_KEY = re.compile(f"[0-9a-f]{{{LEAST_DIGITS},{_MOST_DIGITS}}}", re.IGNORECASE)
_VALUE = re.compile(
    rb"SOS1 key=([0-9a-f]{16}), date=([0-9]{1,11}), nonce=([0-9a-f]{16})([0-9a-f]{16}), "
    rb"signature=([0-9a-f]{64})"
)

_STORE = STORE.lower().encode("ascii")
_METADATA = metadata.HEADER.lower().encode("ascii")
_STORING = frozenset((b"POST", b"PUT", b"PATCH"))
_COUNTED = frozenset((b"range", b"content-digest", b"repr-digest", b"content-md5"))
_NO_HEADERS = sha256().hexdigest().encode("ascii")

#: Length of a body in bytes, None for a chunked one.
Length = int | None


class Key:
    """Secret key.

    :ivar id: identifies the key, and reveals nothing about it.
    """

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self.id = self.sign(b"sos key id")[:16].encode("ascii")

    def __repr__(self) -> str:
        return f"<key {self.id.decode('ascii')}>"

    def sign(self, text: bytes) -> str:
        """Return the HMAC-SHA256 of *text*, in hex."""
        return hmac.digest(self._secret, text, "sha256").hex()

    def derived(self, label: str) -> Key:
        """Return a separate key for the purpose that *label* names."""
        return Key(bytes.fromhex(self.sign(f"sos derived key: {label}".encode("ascii"))))


@frozen
class Keys:
    """The valid keys: the first one signs, all of them are accepted."""

    all: tuple[Key, ...]

    @property
    def first(self) -> Key:
        """The key that signs."""
        return self.all[0]


def parse_keys(text: str) -> Keys:
    """Return the keys in *text*, the content of a secret file: one or two, a line each.

    :raises ValueError: if *text* is malformed; the message does not contain the keys.
    """
    lines = [line.strip() for line in text.splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    if not lines:
        raise ValueError("the file contains no key; make one with sos secret")
    if len(lines) > MOST_KEYS:
        raise ValueError(f"the file contains {len(lines)} keys; the most is {MOST_KEYS}")
    for number, line in enumerate(lines, 1):
        if _KEY.fullmatch(line) is None or len(line) % 2:
            raise ValueError(
                f"key {number} is malformed: a key has {LEAST_DIGITS} to {_MOST_DIGITS} hex "
                "digits, an even number of them; make one with sos secret"
            )
    keys = tuple(Key(bytes.fromhex(line)) for line in lines)
    if len({key.id for key in keys}) < len(keys):
        raise ValueError("the file contains the same key twice")
    return Keys(keys)


def make_secret() -> str:
    """Return a new secret of 256 bits, as the line of a secret file."""
    return secrets.token_hex(32)


def canonical(
    method: bytes,
    target: bytes,
    date: bytes,
    nonce: bytes,
    length: Length,
    headers: Mapping[bytes, bytes],
) -> bytes:
    """Return the canonical form of a request.

    :param target: its path and query.
    :param headers: its headers, by their names in lower case.
    """
    body = b"chunked" if length is None else b"%d" % length
    digest = _digest(headers, method in _STORING and b"/blob/" in target)
    return b"SOS1\n%s\n%s\n%s\n%s\n%s\n%s\n" % (method, target, date, nonce, body, digest)


def _digest(headers: Mapping[bytes, bytes], is_storing: bool) -> bytes:
    counted = [name for name in headers if _counts(name, is_storing)]
    if not counted:
        return _NO_HEADERS
    lines = [b"%s:%s\n" % (name, headers[name].strip(b" \t")) for name in sorted(counted)]
    return sha256(b"".join(lines)).hexdigest().encode("ascii")


@lru_cache(maxsize=512)  # requests have few different names
def _counts(name: bytes, is_storing: bool) -> bool:
    """Return whether the header *name*, in lower case, is signed."""
    if name.startswith(b"x-sos-"):
        return True
    if not name.startswith(b"x-"):
        return name in _COUNTED
    return is_storing and not metadata.is_excluded(metadata.canonical_name(name.decode("latin-1")))


def _as_sent(headers: Mapping[bytes, bytes]) -> Mapping[bytes, bytes]:
    """Return *headers* with the plain X-* replaced by those that ``X-Sos-Metadata`` implies."""
    try:
        stored = metadata.to_headers(metadata.from_header(headers[_METADATA]))
    except InvalidMetadata:
        return headers
    others = {
        name: value
        for name, value in headers.items()
        if not name.startswith(b"x-") or name.startswith(b"x-sos-")
    }
    return others | {name.lower(): value for name, value in stored}


class Signer:
    """Signer of the requests of one client.

    :param keys: returns the valid keys.
    :param now: returns the time, in seconds since 1970.
    """

    def __init__(self, keys: Callable[[], Keys], now: Callable[[], float]) -> None:
        self._keys = keys
        self._now = now
        self._client = secrets.token_hex(8).encode("ascii")
        self._numbers = count()

    def __call__(
        self, method: bytes, target: bytes, length: Length, headers: Iterable[tuple[bytes, bytes]]
    ) -> bytes:
        """Return the value of ``Authorization`` for a request, valid once.

        :param headers: the headers to send, without repeated names.
        """
        key = self._keys().first
        date = b"%d" % self._now()
        nonce = b"%s%016x" % (self._client, next(self._numbers))
        fields = {name.lower(): value for name, value in headers}
        text = canonical(method, target, date, nonce, length, fields)
        signature = key.sign(text).encode("ascii")
        return b"SOS1 key=%s, date=%s, nonce=%s, signature=%s" % (key.id, date, nonce, signature)


class Verifier:
    """Verifier of the signatures of requests.

    :param keys: returns the valid keys.
    :param now: returns the time, in seconds since 1970.
    :param store: returns the id of the store that is served, None while it is not known.
    :param replays: remembers the accepted requests.
    """

    def __init__(
        self,
        keys: Callable[[], Keys],
        now: Callable[[], float],
        store: Callable[[], str | None] = lambda: None,
        replays: ReplayCache | None = None,
    ) -> None:
        self._keys = keys
        self._now = now
        self._store = store
        self._replays = replays or ReplayCache()

    def check(
        self, method: bytes, target: bytes, length: Length, headers: Mapping[bytes, bytes]
    ) -> None:
        """Check that a request is signed, and has not been seen before.

        :param headers: its headers, by their names in lower case; the values of one
            name joined by a comma.
        :raises Unauthorized: if not; the message says why.
        """
        value = headers.get(b"authorization")
        if value is None:
            raise _refused(
                "the request is not signed: the client needs the --secret-file of this server"
            )
        match = _VALUE.fullmatch(value)
        if match is None:
            raise _refused("the request's Authorization header is malformed")
        id, date, client, number, signature = match.groups()
        key = _named(id, self._keys().all)
        if key is None:
            raise _refused("the request is signed with an unknown key: compare the secret files")
        sent = _as_sent(headers) if _METADATA in headers else headers
        text = canonical(method, target, date, client + number, length, sent)
        if not hmac.compare_digest(key.sign(text).encode("ascii"), signature):
            raise _refused("the signature does not match the request: a proxy may have changed it")
        # From here on, the sender has the key.
        now = self._now()
        late = now - int(date)
        if abs(late) > SKEW_SECONDS:
            raise _refused(
                f"the request is dated {abs(late):.0f} s {'before' if late > 0 else 'after'} this "
                f"server's time; the most is {SKEW_SECONDS} s: synchronize the clocks"
            )
        named = headers.get(_STORE)
        store = None if named is None else self._store()
        if store is not None and named != store.encode("ascii"):
            raise _refused(
                f"the request is for another store than {store}, the store of this server"
            )
        if not self._replays.admit(client, int(number, 16), int(date), now - SKEW_SECONDS):
            raise _refused("the request is a replay: the server has received it before")


def _named(id: bytes, keys: Sequence[Key]) -> Key | None:
    return next((key for key in keys if key.id == id), None)


def _refused(reason: str) -> Unauthorized:
    return Unauthorized(reason, SCHEME)
