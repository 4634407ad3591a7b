"""Who may speak to a daemon, and how a daemon shows who it is: options, and what they mean."""

from __future__ import annotations

import time
from collections.abc import Container

from sos.auth.guards import AdminGuard, Bearers, Guard, SignedRequests
from sos.auth.hosts import HostGuard, Unlisted
from sos.auth.request_signing import Keys, Signer, Verifier, parse_keys
from sos.auth.tokens import Tokens, parse_tokens
from sos.daemon.exposure import OTHERS
from sos.daemon.options import DaemonOptions
from sos.daemon.tls import absolute
from sos.errors import ConfigError
from sos.files.watched import WatchedFile, read
from sos.interfaces import IReplicaStore
from sos.model import config
from sos.web import cors

#: What a load balancer may ask of any port: the original's health check, and ``OPTIONS *``.
ALIVE = (b"/alive", b"*")
#: What everybody may ask of an admin port: what a load balancer does, and the page
#: by which people see the rest, which tells nothing by itself.
PROBES = (*ALIVE, b"/healthz", b"/readyz", b"/")

PRIVATE_READS = ["private-reads", None, config.SETTINGS["private-reads"].help]


def check_secret(options: DaemonOptions) -> None:
    """Settle what ``--secret-file`` of *options* means; raises ConfigError."""
    if options["secret-file"] is not None:
        options["secret-file"] = absolute(options["secret-file"])
        read(options["secret-file"], parse_keys)


def check_tokens(options: DaemonOptions) -> None:
    """Settle what ``--token-file`` and ``--private-reads`` mean; raises ConfigError."""
    if options["token-file"] is not None:
        options["token-file"] = absolute(options["token-file"])
        read(options["token-file"], parse_tokens)
    elif options["private-reads"] and options["secret-file"] is None:
        raise ConfigError(
            "--private-reads lets nobody fetch without --token-file, or --secret-file for links"
        )


def keys_in(path: str) -> WatchedFile[Keys]:
    """Return the keys in the file *path*, which is read again when it has changed.

    When it is removed they hold: without them no server could speak to any other.  Who is to
    be shut out does not know the keys in another file.
    """
    return WatchedFile(path, parse_keys)


def secret_files(options: DaemonOptions) -> list[WatchedFile[Keys]]:
    """Return the secret file of *options*, if there is one."""
    return [] if options["secret-file"] is None else [keys_in(options["secret-file"])]


def signer(path: str | None) -> Signer | None:
    """Return what signs requests by the secret file *path*, None where there is none."""
    return None if path is None else Signer(keys_in(absolute(path)), time.time)


class ServerGuards:
    """What requests to the server of *store* have to pass.

    A signed request that one of the server's endpoints has seen is refused at all of them.
    """

    def __init__(self, options: DaemonOptions, store: IReplicaStore) -> None:
        self._options = options
        self._verifier: Verifier | None = None
        if options["secret-file"] is not None:
            keys = keys_in(options["secret-file"])
            # A store knows its identity once it is open.
            self._verifier = Verifier(keys, time.time, lambda: getattr(store, "identity", None))

    def blobs(self, endpoint: str) -> Guard:
        """Return the guard of the blobs at *endpoint*: it wants the secret, if there is one."""
        signed = self._signed(ALIVE)
        return host_guard(self._options, endpoint, Unlisted.REFUSED, Unlisted.PROGRAMS, signed)

    def admin(self, endpoint: str) -> Guard:
        """Return the guard of the admin port at *endpoint*.

        It wants nothing from this machine, and the secret from others.
        """
        signed = self._signed(PROBES) if self._options["reach"][endpoint] == OTHERS else None
        return host_guard(self._options, endpoint, Unlisted.REFUSED, Unlisted.ANSWERED, signed)

    def _signed(self, open_paths: Container[bytes]) -> Guard | None:
        if self._verifier is None:
            return None
        return SignedRequests(self._verifier, open_paths, time.monotonic)


class ClientGuards:
    """What requests of an API server's clients have to pass.

    :ivar origins: whose pages are such clients, too, see :mod:`sos.web.cors`.
    """

    def __init__(self, options: DaemonOptions) -> None:
        self._options = options
        self.origins = _listed(options["cors-origins"])
        self._tokens: WatchedFile[Tokens] | None = None
        self._upload: Guard | None = None
        self._fetch: Guard | None = None
        if options["token-file"] is not None:
            self._tokens = WatchedFile(options["token-file"], parse_tokens, without=Tokens())
            self._upload = Bearers(self._tokens, "upload", time.time, time.monotonic, ALIVE)
        if options["private-reads"]:
            secret = options["secret-file"]
            self._fetch = Bearers(
                self._tokens or Tokens,
                "read",
                time.time,
                time.monotonic,
                ALIVE,
                link_keys=None if secret is None else keys_in(secret),
            )

    @property
    def files(self) -> list[WatchedFile[Tokens]]:
        """The token file, if there is one; without it nobody is let in whom it did let in."""
        return [] if self._tokens is None else [self._tokens]

    def uploads(self, endpoint: str) -> Guard:
        """Return the guard of uploads at *endpoint*."""
        return self._transfers(endpoint, self._upload)

    def downloads(self, endpoint: str) -> Guard:
        """Return the guard of fetches at *endpoint*."""
        return self._transfers(endpoint, self._fetch)

    def _transfers(self, endpoint: str, inner: Guard | None) -> Guard:
        # Reverse proxies on the same machine pass on the names that their clients use.
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
            rest = Bearers(self._tokens, "admin", time.time, time.monotonic, PROBES)
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
    """Return the guard that checks the host of requests at *endpoint*, before *inner*.

    :param local: how it treats names that ``--hosts`` does not list when only this machine
        reaches the endpoint.
    :param others: the same when other machines do.  With ``--hosts`` it refuses them at all
        endpoints.
    :param origins: those of other sites whose pages may make changes there.
    """
    names = _listed(options["hosts"])
    reached = others if options["reach"][endpoint] == OTHERS else local
    unlisted = Unlisted.REFUSED if names else reached
    return HostGuard(names, unlisted, time.monotonic, inner, origins)


def _listed(value: str | None) -> frozenset[bytes]:
    """Return what an option lists, separated by commas."""
    return frozenset((value or "").encode("ascii").split(b",")) - {b""}
