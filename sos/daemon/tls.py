"""TLS in a daemon: its options, and what they mean."""

from __future__ import annotations

import os
from collections.abc import Callable, Container, Mapping, Sequence
from typing import Any

from twisted.internet.ssl import CertificateOptions

from sos.daemon.exposure import UNIX
from sos.daemon.options import DaemonOptions
from sos.errors import ConfigError
from sos.files.watched import WatchedFiles
from sos.http.tls import ClientTLS, Renewable, Secured, client_tls, server_tls

#: Makes an endpoint, given a reactor and a string of Twisted's.
Endpoint = Callable[[Any, str], Any]

#: Settings of how a daemon speaks to its clients.
SERVER_TLS = ("tls-certificate", "tls-key", "tls-client-ca")
#: Settings of how it speaks to https blob servers.
CLIENT_TLS = ("tls-ca", "tls-client-certificate", "tls-client-key")


def absolute(path: str) -> str:
    """Return what *path* means now, wherever twistd goes."""
    return os.path.abspath(os.path.expanduser(path))


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


def _make_absolute(options: DaemonOptions, names: Sequence[str]) -> None:
    for name in names:
        if options[name] is not None:
            options[name] = absolute(options[name])


def server_tls_of(options: DaemonOptions) -> WatchedFiles[CertificateOptions] | None:
    """Return the context that *options* describe, None where TLS is not spoken.

    It is made again when its files have changed; connections that are open keep theirs.
    """
    files = [options[name] for name in SERVER_TLS]
    if options["tls-certificate"] is None:
        return None
    return WatchedFiles([each for each in files if each is not None], lambda: server_tls(*files))


def client_tls_files(options: DaemonOptions) -> WatchedFiles[ClientTLS]:
    """Return how https servers are spoken to by *options*, made again when files have changed."""
    files = [options[name] for name in CLIENT_TLS if options[name] is not None]
    return WatchedFiles(files, lambda: client_tls_of(options))


def client_tls_of(settings: Mapping[str, Any]) -> ClientTLS:
    """Return how https servers are spoken to, by *settings* or options of their names."""
    files = [settings.get(name) for name in CLIENT_TLS]
    if files[1] is None and files[2] is not None:
        raise ConfigError("--tls-client-key is of no use without --tls-client-certificate")
    return client_tls(*(None if each is None else absolute(each) for each in files))


def secured(
    endpoint: Endpoint,
    options: DaemonOptions,
    context: WatchedFiles[CertificateOptions] | None,
    plain: Container[str] = (UNIX,),
) -> Endpoint:
    """Return what makes endpoints that speak TLS, of what makes them without.

    :param context: None to speak it nowhere.
    :param plain: where it is not spoken all the same, by who can reach it, see
        :mod:`sos.daemon.exposure`.
    """
    if context is None:
        return endpoint

    def make(reactor: Any, description: str) -> Any:
        made = endpoint(reactor, description)
        return made if options["reach"][description] in plain else Secured(made, Renewable(context))

    return make
