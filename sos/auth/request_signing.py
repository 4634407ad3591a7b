"""Signed requests: who has the secret shows it, without sending it.

A request is signed by HMAC-SHA256 (RFC 2104) over its *canonical form*, which is
these lines, each ended by a newline::

    SOS1
    method
    path and query, as they stand in the request's line
    date: seconds since 1970
    nonce: 32 hex digits
    length of the body in bytes, or "chunked"
    SHA-256, in hex, of the headers that count

The headers that count are those ``X-*`` ones that have an effect (metadata that is
kept, and ``X-Sos-*``, which servers tell each other), ``Range``, and the digests of
a body (``Content-Digest``, ``Repr-Digest``, ``Content-MD5``): a line
``name:value`` each, sorted, the name in lower case, the value without blanks around
it, the values of one name joined by ``", "``.  What proxies add does not count, so it
breaks nothing: metadata has an effect only with what stores a blob, and where it comes in
``X-Sos-Metadata`` the plain ``X-*`` are taken to be what that says, whatever a proxy has made
of them.

The body itself is not in it, for it would have to be read before anything is
known of who sends it.  What is stored under a content id has to hash to that,
which is in the path.  For other bodies a client sends ``Content-Digest`` with those it
has in memory; of an opaque name's body that is streamed, the length alone is signed.

The result goes into a header::

    Authorization: SOS1 key=ID, date=SECONDS, nonce=HEX, signature=HEX

A client that knows the id of the server's store names it in ``X-Sos-Store``: so what was
recorded on its way to one server is good for nothing at another.

The key's id is made of the key by a hash, so that two sides which have several keys
know which is meant.  A nonce is the number of a client, and that of the request
among those it has signed: see :mod:`sos.auth.replay_cache`.
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

from sos.auth.replay_cache import Replays
from sos.errors import InvalidMetadata, Unauthorized
from sos.model import metadata

#: Name of the scheme, and version of the canonical form.
SCHEME = "SOS1"
#: Names the store that a request is for.
STORE = "X-Sos-Store"
#: Seconds that the clocks of the two sides may differ.
SKEW_SECONDS = 300
#: Most keys that hold at a time: the one that signs, and one that is coming or going.
MOST_KEYS = 2
#: Least hex digits of a key: 128 bits.
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

#: What a body's length can be: None for a chunked one.
Length = int | None


class Key:
    """One secret.

    :ivar id: names it, and tells nothing of it.
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
        """Return a key of its own for another purpose, which *label* names."""
        return Key(bytes.fromhex(self.sign(f"sos derived key: {label}".encode("ascii"))))


@frozen
class Keys:
    """The keys that hold: the first one signs, all of them are accepted."""

    all: tuple[Key, ...]

    @property
    def first(self) -> Key:
        """The one that signs."""
        return self.all[0]


def parse_keys(text: str) -> Keys:
    """Return the keys in *text*, the content of a secret file: one or two, a line each.

    :raises ValueError: which says what is wrong, and nothing of the keys.
    """
    lines = [line.strip() for line in text.splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    if not lines:
        raise ValueError("it holds no key; sos secret makes one")
    if len(lines) > MOST_KEYS:
        raise ValueError(f"it holds {len(lines)} keys, and can hold {MOST_KEYS}")
    for number, line in enumerate(lines, 1):
        if _KEY.fullmatch(line) is None or len(line) % 2:
            raise ValueError(
                f"key {number} is none: {LEAST_DIGITS} to {_MOST_DIGITS} hex digits, an even "
                "number of them; sos secret makes one"
            )
    keys = tuple(Key(bytes.fromhex(line)) for line in lines)
    if len({key.id for key in keys}) < len(keys):
        raise ValueError("it holds the same key twice")
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
    """Return what is signed of a request.

    :param target: its path and query.
    :param headers: its fields, by their names in lower case.
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


@lru_cache(maxsize=512)  # requests have the same few names
def _counts(name: bytes, is_storing: bool) -> bool:
    """Tell whether a header, by its name in lower case, has an effect on what a request does."""
    if name.startswith(b"x-sos-"):
        return True
    if not name.startswith(b"x-"):
        return name in _COUNTED
    return is_storing and not metadata.is_excluded(metadata.canonical_name(name.decode("latin-1")))


def _as_sent(headers: Mapping[bytes, bytes]) -> Mapping[bytes, bytes]:
    """Return *headers* with those plain X-* that their sender made of the metadata in them."""
    try:
        told = metadata.to_headers(metadata.from_header(headers[_METADATA]))
    except InvalidMetadata:
        return headers
    others = {
        name: value
        for name, value in headers.items()
        if not name.startswith(b"x-") or name.startswith(b"x-sos-")
    }
    return others | {name.lower(): value for name, value in told}


class Signer:
    """Signs the requests of one client.

    :param keys: returns those that hold now.
    :param now: tells the time, in seconds since 1970.
    """

    def __init__(self, keys: Callable[[], Keys], now: Callable[[], float]) -> None:
        self._keys = keys
        self._now = now
        self._client = secrets.token_hex(8).encode("ascii")
        self._numbers = count()

    def __call__(
        self, method: bytes, target: bytes, length: Length, headers: Iterable[tuple[bytes, bytes]]
    ) -> bytes:
        """Return the value of ``Authorization`` for a request, which is good for once.

        :param headers: as they are sent; no name is among them twice.
        """
        key = self._keys().first
        date = b"%d" % self._now()
        nonce = b"%s%016x" % (self._client, next(self._numbers))
        fields = {name.lower(): value for name, value in headers}
        text = canonical(method, target, date, nonce, length, fields)
        signature = key.sign(text).encode("ascii")
        return b"SOS1 key=%s, date=%s, nonce=%s, signature=%s" % (key.id, date, nonce, signature)


class Verifier:
    """Checks the signatures of requests.

    :param keys: returns those that hold now.
    :param now: tells the time, in seconds since 1970.
    :param store: returns the id of the store that is served, None while that is not known.
    :param replays: remembers what was accepted.
    """

    def __init__(
        self,
        keys: Callable[[], Keys],
        now: Callable[[], float],
        store: Callable[[], str | None] = lambda: None,
        replays: Replays | None = None,
    ) -> None:
        self._keys = keys
        self._now = now
        self._store = store
        self._replays = replays or Replays()

    def check(
        self, method: bytes, target: bytes, length: Length, headers: Mapping[bytes, bytes]
    ) -> None:
        """Return if a request is signed, and has not been seen before.

        :param headers: its fields, by their names in lower case; those of one
            name joined by a comma.
        :raises Unauthorized: which says why not.
        """
        value = headers.get(b"authorization")
        if value is None:
            raise _refused("the request is not signed")
        match = _VALUE.fullmatch(value)
        if match is None:
            raise _refused("the signature is not of the form that is known here")
        id, date, client, number, signature = match.groups()
        key = _named(id, self._keys().all)
        if key is None:
            raise _refused("the request is signed by a key that is not known here")
        sent = _as_sent(headers) if _METADATA in headers else headers
        text = canonical(method, target, date, client + number, length, sent)
        if not hmac.compare_digest(key.sign(text).encode("ascii"), signature):
            raise _refused("the signature is not that of this request")
        # From here on it is somebody who has the key.
        now = self._now()
        late = now - int(date)
        if abs(late) > SKEW_SECONDS:
            raise _refused(
                f"the request is dated {abs(late):.0f} s {'before' if late > 0 else 'after'} the "
                f"time here, at most {SKEW_SECONDS} s are allowed: set the clocks"
            )
        named = headers.get(_STORE)
        store = None if named is None else self._store()
        if store is not None and named != store.encode("ascii"):
            raise _refused(f"the request is for another store, this is {store}")
        if not self._replays.admit(client, int(number, 16), int(date), now - SKEW_SECONDS):
            raise _refused("the request has been seen before")


def _named(id: bytes, keys: Sequence[Key]) -> Key | None:
    return next((key for key in keys if key.id == id), None)


def _refused(reason: str) -> Unauthorized:
    return Unauthorized(reason, SCHEME)
