"""The address of an API server, and the password for a proxy in front of it."""

from __future__ import annotations

import os
import stat
from base64 import b64encode
from netrc import NetrcParseError, netrc
from urllib.parse import unquote, urlsplit

import click
from attrs import field, frozen

from sos.errors import ConfigError
from sos.files.watched import check_mode
from sos.model import addresses
from sos.stores.remote.client import Credentials


@frozen
class Address:
    """The address of an API server.

    :param url: see :func:`sos.model.addresses.server_url`.
    :param login: the value of ``Authorization`` for the user and the password in the URL
        (RFC 7617), None if it has none.
    """

    url: str
    login: bytes | None = field(default=None, repr=False)


def parse(text: str) -> Address:
    """Separate the user and the password from a URL; raises ValueError that contains neither."""
    scheme, separator, rest = text.partition("://")
    authority, slash, path = rest.partition("/")
    userinfo, at, host = authority.rpartition("@")
    if not at:
        return Address(addresses.server_url(text))
    url = addresses.server_url(f"{scheme}{separator}{host}{slash}{path}")
    user, colon, password = userinfo.partition(":")
    if not user or not colon:
        raise ValueError(
            "the URL needs both a user and a password before its @: http://user:password@host"
        )
    return Address(url, _basic(unquote(user), unquote(password)))


def credentials_for(address: Address, token: Credentials | None) -> Credentials | None:
    """Return the credentials for the server at *address*, None if there are none.

    :param token: the token from an option or the environment, or None.
    :raises click.UsageError: if there is a password as well: both need ``Authorization``.
    """
    login = address.login
    if token is not None:
        if login is not None:
            raise click.UsageError(
                "a password in the URL and a token exclude each other, because both need the "
                "header Authorization: have the proxy that needs the password add the token"
            )
        return token
    value = _of_netrc(address) if login is None else login
    return None if value is None else lambda *_: value


def _basic(user: str, password: str) -> bytes:
    if ":" in user:
        raise ValueError("the user in a URL must not contain a colon")
    if not (user + password).isprintable():
        raise ValueError("the user or the password in a URL contains control characters")
    return b"Basic " + b64encode(f"{user}:{password}".encode())


def _of_netrc(address: Address) -> bytes | None:
    """Return the login for the host of *address* in ``~/.netrc``, or in the file of ``$NETRC``.

    The entry ``default`` is ignored: it would send a password to any server.
    """
    path = os.environ.get("NETRC") or os.path.expanduser("~/.netrc")
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            return None
        found = netrc(path).hosts.get(urlsplit(address.url).hostname or "")
        if found is None:
            return None
        check_mode(path, status, "passwords")
        user, _, password = found
        return _basic(user, password or "")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        reason = error.strerror
    except NetrcParseError as error:  # its text can contain a password
        reason = f"syntax error in line {error.lineno}"
    except ConfigError as error:
        raise click.UsageError(str(error)) from None
    except UnicodeDecodeError:
        reason = "it is not text in UTF-8"
    except ValueError:
        reason = "the user or password for this server contains a colon or control characters"
    click.echo(f"Warning: ignoring {path}: {reason}", err=True)
    return None
