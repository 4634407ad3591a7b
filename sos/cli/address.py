"""The address of an API server, and the password that a proxy before it may ask for."""

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
from sos.model import config
from sos.stores.remote.client import Credentials


@frozen
class Address:
    """Where an API server is.

    :param url: see :func:`sos.model.config.server_url`.
    :param login: the value of ``Authorization`` by the user and the password that stood in the
        URL (RFC 7617), None if there were none.
    """

    url: str
    login: bytes | None = field(default=None, repr=False)


def parse(text: str) -> Address:
    """Take the user and the password out of a URL; raises ValueError, which tells neither."""
    scheme, separator, rest = text.partition("://")
    authority, slash, path = rest.partition("/")
    userinfo, at, host = authority.rpartition("@")
    if not at:
        return Address(config.server_url(text))
    url = config.server_url(f"{scheme}{separator}{host}{slash}{path}")
    user, colon, password = userinfo.partition(":")
    if not user or not colon:
        raise ValueError("before the @ of a URL stand a user and a password: user:password@host")
    return Address(url, _basic(unquote(user), unquote(password)))


def credentials_for(address: Address, token: Credentials | None) -> Credentials | None:
    """Return what shows the server at *address* who asks.

    :param token: of an option or the environment, or None.
    :raises click.UsageError: when there is a password as well: both go into ``Authorization``.
    """
    login = address.login
    if token is not None:
        if login is not None:
            raise click.UsageError(
                "a password in a URL and a token exclude each other, for both go into the header "
                "Authorization: let the proxy that asks for the password add the token"
            )
        return token
    value = _of_netrc(address) if login is None else login
    return None if value is None else lambda *_: value


def _basic(user: str, password: str) -> bytes:
    if ":" in user:
        raise ValueError("the user in a URL cannot have a colon")
    if not (user + password).isprintable():
        raise ValueError("the user or the password in a URL has characters that it cannot have")
    return b"Basic " + b64encode(f"{user}:{password}".encode())


def _of_netrc(address: Address) -> bytes | None:
    """Return the login for the host of *address* in ``~/.netrc``, or in the file of ``$NETRC``.

    Its ``default`` is not for servers that it does not name.
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
    except NetrcParseError as error:  # whose text can hold a password
        reason = f"line {error.lineno} is not understood"
    except ConfigError as error:
        raise click.UsageError(str(error)) from None
    except UnicodeDecodeError:
        reason = "it is not text in UTF-8"
    except ValueError:
        reason = "its user or password for this server has characters that it cannot have"
    click.echo(f"Warning: {path} is not used: {reason}", err=True)
    return None
