"""Who may speak to a daemon, and how a daemon shows who it is: options, and what they mean."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from twisted.internet.ssl import CertificateOptions

from sos import config
from sos.errors import ConfigError
from sos.signature import Keys, Signer, Verifier, parse_keys
from sos.stores.exchange import Credentials
from sos.tap.options import DaemonOptions, parameter
from sos.tokens import Tokens, parse_tokens
from sos.watched_file import WatchedFile, read
from sos.web.guards import Bearers, Guard, SignedRequests
from sos.wire.tls import ClientTLS, Secured, client_tls, server_tls

#: Makes an endpoint, given a reactor and a string of Twisted's.
Endpoint = Callable[[Any, str], Any]

#: What a monitor may ask of a blob server: the original's health check.
ALIVE = b"/alive"
#: What a load balancer may ask of an API server.
PROBES = (b"/healthz", b"/readyz")

SECRET_FILE = parameter(
    "secret-file", None, None, "File of the key that API and blob servers share."
)

TOKEN_FILE = parameter("token-file", None, None, "File of the tokens that clients have to bring.")
#: How a daemon speaks to those who come to it.
SERVER_TLS = (
    parameter("tls-certificate", None, None, "Speak TLS, with the certificate in this file."),
    parameter("tls-key", None, None, "File of its key, if that is another."),
    parameter("tls-client-ca", None, None, "Clients need a certificate of one of these."),
)
#: How it speaks to https blob servers.
CLIENT_TLS = (
    parameter("tls-ca", None, None, "Blob servers need a certificate of one of these."),
    parameter("tls-client-certificate", None, None, "File of the certificate to show them."),
    parameter("tls-client-key", None, None, "File of its key, if that is another."),
)
PRIVATE_READS = ["private-reads", None, "Fetches, too, need a token, or a signed link."]


def absolute(path: str) -> str:
    """Return what *path* means now, wherever twistd goes."""
    return os.path.abspath(os.path.expanduser(path))


def check_secret(options: DaemonOptions) -> None:
    """Settle what ``--secret-file`` of *options* means; raises ConfigError."""
    if options["secret-file"] is not None:
        options["secret-file"] = absolute(options["secret-file"])
        read(options["secret-file"], parse_keys)


def check_server_tls(options: DaemonOptions, endpoints: Sequence[str]) -> None:
    """Settle what the options of :data:`SERVER_TLS` mean; raises ConfigError."""
    _make_absolute(options, SERVER_TLS)
    if options["tls-certificate"] is None:
        for name in ("tls-key", "tls-client-ca"):
            if options[name] is not None:
                raise ConfigError(f"--{name} is of no use without --tls-certificate")
    elif any(endpoint.startswith("ssl:") for endpoint in endpoints):
        raise ConfigError("ssl: endpoints speak TLS by themselves: --tls-certificate is for tcp:")
    server_tls_of(options)


def check_client_tls(options: DaemonOptions) -> None:
    """Settle what the options of :data:`CLIENT_TLS` mean; raises ConfigError."""
    _make_absolute(options, CLIENT_TLS)
    client_tls_of(options)


def _make_absolute(options: DaemonOptions, parameters: Sequence[Sequence[Any]]) -> None:
    for name, *_ in parameters:
        if options[name] is not None:
            options[name] = absolute(options[name])


def server_tls_of(options: DaemonOptions) -> CertificateOptions | None:
    """Return the context that *options* describe, None where TLS is not spoken."""
    if options["tls-certificate"] is None:
        return None
    return server_tls(options["tls-certificate"], options["tls-key"], options["tls-client-ca"])


def client_tls_of(settings: Mapping[str, Any]) -> ClientTLS:
    """Return how https servers are spoken to, by *settings* or options of their names."""
    names = ("tls-ca", "tls-client-certificate", "tls-client-key")
    files = [settings.get(name) for name in names]
    if files[1] is None and files[2] is not None:
        raise ConfigError("--tls-client-key is of no use without --tls-client-certificate")
    return client_tls(*(None if each is None else absolute(each) for each in files))


def secured(
    endpoint: Endpoint, context: CertificateOptions | None, is_plain: Callable[[str], bool]
) -> Endpoint:
    """Return what makes endpoints that speak TLS, of what makes them without.

    :param context: None to speak it nowhere.
    :param is_plain: tells where it is not spoken all the same.
    """
    if context is None:
        return endpoint

    def make(reactor: Any, description: str) -> Any:
        plain = endpoint(reactor, description)
        return plain if is_plain(description) else Secured(plain, context)

    return make


def is_unix(endpoint: str) -> bool:
    """Tell whether *endpoint* is a socket in the file system, behind which a proxy speaks TLS."""
    return endpoint.startswith("unix:")


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


class ClientGuards:
    """What clients of an API server have to pass, by what they ask for; None for nothing.

    :ivar uploads: where they upload.
    :ivar fetches: where they fetch.
    """

    def __init__(self, options: DaemonOptions) -> None:
        self._tokens: Callable[[], Tokens] | None = None
        self.uploads: Guard | None = None
        self.fetches: Guard | None = None
        if options["token-file"] is not None:
            self._tokens = WatchedFile(options["token-file"], parse_tokens)
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

    def admin(self, endpoint: str) -> Guard | None:
        """Return what those have to pass who look after the server, at *endpoint*."""
        if self._tokens is None or is_local(endpoint):
            return None
        return Bearers(self._tokens, "admin", time.time, time.monotonic, PROBES)


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
