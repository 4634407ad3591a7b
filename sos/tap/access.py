"""Who may speak to a daemon, and how a daemon shows who it is: options, and what they mean."""

from __future__ import annotations

import os
import time

from sos import config
from sos.signature import Keys, Signer, Verifier, parse_keys
from sos.stores.exchange import Credentials
from sos.tap.options import DaemonOptions, parameter
from sos.watched_file import WatchedFile, read
from sos.web.guards import Guard, SignedRequests

#: What a monitor may ask of a blob server: the original's health check.
ALIVE = b"/alive"

SECRET_FILE = parameter(
    "secret-file", None, None, "File of the key that API and blob servers share."
)


def absolute(path: str) -> str:
    """Return what *path* means now, wherever twistd goes."""
    return os.path.abspath(os.path.expanduser(path))


def check_secret(options: DaemonOptions) -> None:
    """Settle what ``--secret-file`` of *options* means; raises ConfigError."""
    if options["secret-file"] is not None:
        options["secret-file"] = absolute(options["secret-file"])
        read(options["secret-file"], parse_keys)


def keys_in(path: str) -> WatchedFile[Keys]:
    """Return the keys in the file *path*, which is read again when it has changed."""
    return WatchedFile(path, parse_keys)


def signer(path: str | None) -> Credentials | None:
    """Return what signs requests by the secret file *path*, None where there is none."""
    return None if path is None else Signer(keys_in(absolute(path)), time.time)


def blob_guard(options: DaemonOptions) -> Guard | None:
    """Return what lets in who has the secret, None where everybody is."""
    path = options["secret-file"]
    if path is None:
        return None
    return SignedRequests(Verifier(keys_in(path), time.time), (ALIVE,), time.monotonic)


def is_local(endpoint: str) -> bool:
    """Tell whether only this machine can reach *endpoint*, a string of Twisted's.

    What is not known, as a socket of systemd's, is taken to be open to others.
    """
    kind, *arguments = endpoint.replace("\\:", "\0").split(":")
    if kind == "unix":
        return True
    if kind not in ("tcp", "ssl", "tcp6"):
        return False
    hosts = [each.removeprefix("interface=") for each in arguments if "interface=" in each]
    return bool(hosts) and all(config.is_loopback(host.replace("\0", ":")) for host in hosts)
