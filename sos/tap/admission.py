"""Who may speak to a daemon, and how a daemon shows who it is: options, and what they mean."""

from __future__ import annotations

import time

from sos.errors import ConfigError
from sos.signature import Keys, Signer, Verifier, parse_keys
from sos.tap.options import DaemonOptions, parameter
from sos.tap.reach import OTHERS
from sos.tap.tls import absolute
from sos.tokens import Tokens, parse_tokens
from sos.watched_file import WatchedFile, read
from sos.web.guards import AdminGuard, Bearers, Guard, SignedRequests

#: What a monitor may ask of a blob server: the original's health check.
ALIVE = b"/alive"
#: What everybody may ask of an admin port: what a load balancer does, and the page
#: by which people see the rest, which tells nothing by itself.
PROBES = (b"/healthz", b"/readyz", b"/")

SECRET_FILE = parameter(
    "secret-file", None, None, "File of the key that API and blob servers share."
)
TOKEN_FILE = parameter("token-file", None, None, "File of the tokens that clients have to bring.")
PRIVATE_READS = ["private-reads", None, "Fetches, too, need a token, or a signed link."]


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


def blob_guard(options: DaemonOptions) -> Guard | None:
    """Return what lets in who has the secret, None where everybody is."""
    path = options["secret-file"]
    if path is None:
        return None
    return SignedRequests(Verifier(keys_in(path), time.time), (ALIVE,), time.monotonic)


def blob_admin_guard(options: DaemonOptions, endpoint: str) -> Guard | None:
    """Return what those have to pass who look after a blob server, at *endpoint*.

    On this machine they need nothing, elsewhere the secret.
    """
    path = options["secret-file"]
    if path is None or options["reach"][endpoint] != OTHERS:
        return None
    return SignedRequests(Verifier(keys_in(path), time.time), PROBES, time.monotonic)


class ClientGuards:
    """What clients of an API server have to pass, by what they ask for; None for nothing.

    :ivar uploads: where they upload.
    :ivar fetches: where they fetch.
    """

    def __init__(self, options: DaemonOptions) -> None:
        self._reach = options["reach"]
        self._tokens: WatchedFile[Tokens] | None = None
        self.uploads: Guard | None = None
        self.fetches: Guard | None = None
        if options["token-file"] is not None:
            self._tokens = WatchedFile(options["token-file"], parse_tokens, without=Tokens())
            self.uploads = Bearers(self._tokens, "upload", time.time, time.monotonic)
        if options["private-reads"]:
            secret = options["secret-file"]
            self.fetches = Bearers(
                self._tokens or Tokens,
                "read",
                time.time,
                time.monotonic,
                link_keys=None if secret is None else keys_in(secret),
            )

    @property
    def files(self) -> list[WatchedFile[Tokens]]:
        """The token file, if there is one; without it nobody is let in whom it did let in."""
        return [] if self._tokens is None else [self._tokens]

    def admin(self, endpoint: str) -> Guard:
        """Return what those have to pass who look after the server, at *endpoint*."""
        rest: Guard | None = None
        if self._tokens is not None and self._reach[endpoint] == OTHERS:
            rest = Bearers(self._tokens, "admin", time.time, time.monotonic, PROBES)
        return AdminGuard(self.uploads, self.fetches, rest)
