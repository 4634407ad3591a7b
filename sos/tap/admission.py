"""Authentication and authorization in the daemons: options, guards and credentials."""

from __future__ import annotations

import time
from collections.abc import Container

from sos.auth.guards import AdminGuard, Guard, SignedRequests, TokenGuard
from sos.auth.hosts import HostGuard, Unlisted
from sos.auth.request_signing import Keys, Signer, Verifier, parse_keys
from sos.auth.tokens import Tokens, parse_tokens
from sos.daemon.exposure import OTHERS
from sos.daemon.options import DaemonOptions
from sos.daemon.tls import absolute
from sos.errors import ConfigError
from sos.files.watched import WatchedFile, read
from sos.interfaces import IReplicaStore
from sos.model.settings import SETTINGS
from sos.web import cors

#: Paths without authentication on any port, for load balancers: the health check of the
#: original SOS, and ``OPTIONS *``.
ALIVE = (b"/alive", b"*")
#: Paths without authentication on the admin port: health checks, and the status page, which
#: contains no data itself.
PROBES = (*ALIVE, b"/healthz", b"/readyz", b"/")

#: The settings that are flags on the command line, and their entries for ``optFlags``.
YES_OR_NO = ("private-reads", "allow-delete")
FLAGS = [[name, None, SETTINGS[name].help] for name in YES_OR_NO]


def check_secret(options: DaemonOptions) -> None:
    """Check ``--secret-file`` of *options*, and make it absolute; raises ConfigError."""
    if options["secret-file"] is not None:
        options["secret-file"] = absolute(options["secret-file"])
        read(options["secret-file"], parse_keys)


def check_tokens(options: DaemonOptions) -> None:
    """Check ``--token-file`` and ``--private-reads`` of *options*; raises ConfigError."""
    if options["token-file"] is not None:
        options["token-file"] = absolute(options["token-file"])
        read(options["token-file"], parse_tokens)
    elif options["private-reads"] and options["secret-file"] is None:
        raise ConfigError(
            "--private-reads needs a --token-file, or a --secret-file for signed links: without "
            "them nobody could fetch"
        )


def keys_in(path: str) -> WatchedFile[Keys]:
    """Return the keys in the file *path*, reloaded when the file changes.

    If the file is removed, the keys stay valid: without them the servers could not talk to
    each other.  To shut a client out, replace the keys.
    """
    return WatchedFile(path, parse_keys)


def secret_files(options: DaemonOptions) -> list[WatchedFile[Keys]]:
    """Return a list of the secret file of *options*, if there is one."""
    return [] if options["secret-file"] is None else [keys_in(options["secret-file"])]


def signer(path: str | None) -> Signer | None:
    """Return a signer with the keys of the secret file *path*, None if there is none."""
    return None if path is None else Signer(keys_in(absolute(path)), time.time)


class ServerGuards:
    """The guards of a blob server.

    All endpoints share the replay cache: a signed request is accepted at one of them, once.
    """

    def __init__(self, options: DaemonOptions, store: IReplicaStore) -> None:
        self._options = options
        self._verifier: Verifier | None = None
        if options["secret-file"] is not None:
            keys = keys_in(options["secret-file"])
            # A store has its identity only once it is open.
            self._verifier = Verifier(keys, time.time, lambda: getattr(store, "identity", None))

    def blobs(self, endpoint: str) -> Guard:
        """Return the guard of the blobs at *endpoint*; with a secret it requires signatures."""
        signed = self._signed(ALIVE)
        return host_guard(self._options, endpoint, Unlisted.REFUSED, Unlisted.PROGRAMS, signed)

    def admin(self, endpoint: str) -> Guard:
        """Return the guard of the admin port at *endpoint*.

        With a secret it requires signatures, if other machines can reach the endpoint.
        """
        signed = self._signed(PROBES) if self._options["reach"][endpoint] == OTHERS else None
        return host_guard(self._options, endpoint, Unlisted.REFUSED, Unlisted.ANSWERED, signed)

    def _signed(self, open_paths: Container[bytes]) -> Guard | None:
        if self._verifier is None:
            return None
        return SignedRequests(self._verifier, open_paths, time.monotonic)


class ClientGuards:
    """The guards of an API server.

    :ivar origins: the web origins whose pages may use the server, see :mod:`sos.web.cors`.
    """

    def __init__(self, options: DaemonOptions) -> None:
        self._options = options
        self.origins = _listed(options["cors-origins"])
        self._tokens: WatchedFile[Tokens] | None = None
        self._upload: Guard | None = None
        self._fetch: Guard | None = None
        if options["token-file"] is not None:
            self._tokens = WatchedFile(options["token-file"], parse_tokens, without=Tokens())
            self._upload = TokenGuard(
                self._tokens, "upload", time.time, time.monotonic, ALIVE, deletes=True
            )
        if options["private-reads"]:
            secret = options["secret-file"]
            self._fetch = TokenGuard(
                self._tokens or Tokens,
                "read",
                time.time,
                time.monotonic,
                ALIVE,
                link_keys=None if secret is None else keys_in(secret),
            )

    @property
    def files(self) -> list[WatchedFile[Tokens]]:
        """A list of the token file, if there is one."""
        return [] if self._tokens is None else [self._tokens]

    def uploads(self, endpoint: str) -> Guard:
        """Return the guard of uploads at *endpoint*."""
        return self._transfers(endpoint, self._upload)

    def downloads(self, endpoint: str) -> Guard:
        """Return the guard of fetches at *endpoint*."""
        return self._transfers(endpoint, self._fetch)

    def _transfers(self, endpoint: str, inner: Guard | None) -> Guard:
        # Reverse proxies on the same machine forward the Host of their clients.
        return host_guard(
            self._options,
            endpoint,
            Unlisted.PROXIED,
            Unlisted.ANSWERED,
            inner,
            cors.named(self.origins),
        )

    def admin(self, endpoint: str) -> Guard:
        """Return the guard of the admin port at *endpoint*."""
        rest: Guard | None = None
        if self._tokens is not None and self._options["reach"][endpoint] == OTHERS:
            rest = TokenGuard(self._tokens, "admin", time.time, time.monotonic, PROBES)
        inner = AdminGuard(self._upload, self._fetch, rest)
        return host_guard(self._options, endpoint, Unlisted.REFUSED, Unlisted.ANSWERED, inner)


def host_guard(
    options: DaemonOptions,
    endpoint: str,
    local: Unlisted,
    others: Unlisted,
    inner: Guard | None,
    origins: Container[bytes] = (),
) -> HostGuard:
    """Return a guard that checks the host of requests at *endpoint*, and then calls *inner*.

    With ``--hosts`` it rejects all hosts that the option does not list.

    :param local: without ``--hosts``, how to treat other hosts if only this machine can reach
        the endpoint.
    :param others: the same if other machines can reach it.
    :param origins: the web origins of other sites whose pages may make changes.
    """
    names = _listed(options["hosts"])
    reached = others if options["reach"][endpoint] == OTHERS else local
    unlisted = Unlisted.REFUSED if names else reached
    return HostGuard(names, unlisted, time.monotonic, inner, origins)


def _listed(value: str | None) -> frozenset[bytes]:
    """Return the elements of a comma-separated option."""
    return frozenset((value or "").encode("ascii").split(b",")) - {b""}
