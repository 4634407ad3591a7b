"""Tokens of clients, and the file that lists them.

A token is 256 random bits.  The file holds the SHA-256 of each token, so nobody can use a
token after reading the file.  Passwords need a slow hash with a salt, because they can be
guessed.  Tokens do not: 256 random bits cannot be guessed, and no two tokens are the same.

Each line of the file is the JSON of one token::

    {"name": "backup", "hash": "...", "scopes": ["upload"],
     "created": "2026-11-25T12:00:00Z", "expires": "2026-12-25T12:00:00Z"}
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Iterable
from datetime import UTC, datetime
from hashlib import sha256
from hmac import compare_digest
from typing import Any

from attrs import frozen

#: The scopes that a token can have.
SCOPES = ("upload", "read", "admin", "delete")

# Makes a leaked token recognizable.
_PREFIX = "sos_"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
_HASH = re.compile(r"[0-9a-f]{64}")
# RFC 6750, 2.1.
_BEARER = re.compile(r"[A-Za-z0-9._~+/-]{1,256}=*")
_MEMBERS = {"name", "hash", "scopes", "created", "expires"}


@frozen
class Token:
    """Entry of the token file.

    :param name: of the token's holder.
    :param hash: the SHA-256 of the token, in hex.
    :param scopes: the permitted uses, from :data:`SCOPES`.
    :param created: when, in seconds since 1970.
    :param expires: when, in seconds since 1970; None for never.
    """

    name: str
    hash: str
    scopes: tuple[str, ...]
    created: int
    expires: int | None = None

    def holds(self, now: float) -> bool:
        """Return whether the token has not expired at the time *now*."""
        return self.expires is None or now < self.expires


class Tokens:
    """The tokens in a file; raises ValueError if two have the same name or the same hash."""

    def __init__(self, tokens: Iterable[Token] = ()) -> None:
        self.all = tuple(tokens)
        self._by_hash = {each.hash: each for each in self.all}
        names = [each.name for each in self.all]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two tokens have the name {name}")
        if len(self._by_hash) < len(self.all):
            raise ValueError("the same token is listed twice")

    def find(self, secret: bytes) -> Token | None:
        """Return the entry of the token *secret*, None if it is not listed."""
        # The time of the look-up can reveal the hash, but the hash does not reveal the token.
        hash = sha256(secret).hexdigest()
        found = self._by_hash.get(hash)
        return found if found is not None and compare_digest(found.hash, hash) else None


def make_token(
    name: str, scopes: Iterable[str], now: float, expires_in: float | None
) -> tuple[str, Token]:
    """Return a new token, and its entry for the token file.

    :param expires_in: seconds from now; None for never.
    :raises ValueError: if *name* or *scopes* are invalid.
    """
    secret = _PREFIX + secrets.token_urlsafe(32)
    expires = None if expires_in is None else int(now + expires_in)
    hash = sha256(secret.encode("ascii")).hexdigest()
    return secret, Token(
        _checked_name(name), hash, _checked_scopes(list(scopes)), int(now), expires
    )


def check_bearer(text: str) -> str:
    """Return *text* if it can be a token; else raise a ValueError that does not contain it."""
    if _BEARER.fullmatch(text) is None:
        raise ValueError("the token is malformed: it must be one line without spaces")
    return text


def parse_tokens(text: str) -> Tokens:
    """Return the tokens in *text*, the content of a token file.

    :raises ValueError: if *text* is malformed; the message names the line.
    """
    tokens = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            try:
                tokens.append(_token(json.loads(line)))
            except json.JSONDecodeError:
                raise ValueError(f"line {number} is invalid: it is not JSON") from None
            except (ValueError, RecursionError) as error:
                raise ValueError(f"line {number} is invalid: {error}") from None
    return Tokens(tokens)


def format_tokens(tokens: Iterable[Token]) -> str:
    """Format *tokens* as :func:`parse_tokens` reads them."""
    return "".join(f"{json.dumps(_document(each))}\n" for each in tokens)


def date(seconds: int) -> str:
    """Format a time, in seconds since 1970, as in the token file."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _document(token: Token) -> dict[str, Any]:
    document: dict[str, Any] = {
        "name": token.name,
        "hash": token.hash,
        "scopes": list(token.scopes),
        "created": date(token.created),
    }
    if token.expires is not None:
        document["expires"] = date(token.expires)
    return document


def _token(found: Any) -> Token:
    if not isinstance(found, dict):
        raise ValueError("it is not a JSON object")
    if unknown := found.keys() - _MEMBERS:
        raise ValueError(f"it has unknown members: {', '.join(map(ascii, sorted(unknown)))}")
    if missing := _MEMBERS - {"expires"} - found.keys():
        raise ValueError(f"it lacks the members {', '.join(sorted(missing))}")
    hash = found["hash"]
    if not isinstance(hash, str) or _HASH.fullmatch(hash) is None:
        raise ValueError("its hash is not a SHA-256 in hex")
    expires = found.get("expires")
    return Token(
        _checked_name(found["name"]),
        hash,
        _checked_scopes(found["scopes"]),
        _seconds("created", found["created"]),
        None if expires is None else _seconds("expires", expires),
    )


def _checked_name(name: Any) -> str:
    if not isinstance(name, str) or _NAME.fullmatch(name) is None:
        raise ValueError(f"{ascii(name)[:80]} is not a token name: use letters, digits, and ._@-")
    return name


def _checked_scopes(scopes: Any) -> tuple[str, ...]:
    if not isinstance(scopes, list) or not scopes or not all(each in SCOPES for each in scopes):
        raise ValueError(f"its scopes must be one or more of {', '.join(SCOPES)}")
    return tuple(each for each in SCOPES if each in scopes)


def _seconds(name: str, text: Any) -> int:
    try:
        time = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        raise ValueError(f"{name} is not a date like 2026-11-25T12:00:00Z") from None
    if time.tzinfo is None:
        raise ValueError(f"{name} has no time zone: write it like 2026-11-25T12:00:00Z")
    return int(time.timestamp())
