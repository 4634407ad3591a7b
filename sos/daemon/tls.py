"""TLS options of a daemon."""

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

#: Makes an endpoint from a reactor and an endpoint string.
Endpoint = Callable[[Any, str], Any]

#: TLS settings for the clients of a daemon.
SERVER_TLS = ("tls-certificate", "tls-key", "tls-client-ca")
#: TLS settings for connections to https blob servers.
CLIENT_TLS = ("tls-ca", "tls-client-certificate", "tls-client-key")


def absolute(path: str) -> str:
    """Return *path* as an absolute path, since twistd may change its directory."""
    return os.path.abspath(os.path.expanduser(path))


def check_server_tls(options: DaemonOptions, endpoints: Sequence[str]) -> None:
    """Check the options of :data:`SERVER_TLS`, and make their paths absolute.

    Raises ConfigError.
    """
    _make_absolute(options, SERVER_TLS)
    if options["tls-certificate"] is None:
        for name in ("tls-key", "tls-client-ca"):
            if options[name] is not None:
                raise ConfigError(f"--{name} needs --tls-certificate as well")
    elif any(endpoint.startswith("ssl:") for endpoint in endpoints):
        raise ConfigError(
            "an ssl: endpoint has its own certificate: use tcp: with --tls-certificate"
        )
    server_tls_of(options)


def check_client_tls(options: DaemonOptions) -> None:
    """Check the options of :data:`CLIENT_TLS`, and make their paths absolute.

    Raises ConfigError.
    """
    _make_absolute(options, CLIENT_TLS)
    client_tls_of(options)


def _make_absolute(options: DaemonOptions, names: Sequence[str]) -> None:
    for name in names:
        if options[name] is not None:
            options[name] = absolute(options[name])


def server_tls_of(options: DaemonOptions) -> WatchedFiles[CertificateOptions] | None:
    """Return the TLS context of *options*, None without TLS.

    It is reloaded when its files change.  Open connections keep the old one.
    """
    files = [options[name] for name in SERVER_TLS]
    if options["tls-certificate"] is None:
        return None
    return WatchedFiles([each for each in files if each is not None], lambda: server_tls(*files))


def client_tls_files(options: DaemonOptions) -> WatchedFiles[ClientTLS]:
    """Return the client's TLS settings of *options*, reloaded when their files change."""
    files = [options[name] for name in CLIENT_TLS if options[name] is not None]
    return WatchedFiles(files, lambda: client_tls_of(options))


def client_tls_of(settings: Mapping[str, Any]) -> ClientTLS:
    """Return the client's TLS settings from *settings*, or from options of the same names."""
    files = [settings.get(name) for name in CLIENT_TLS]
    if files[1] is None and files[2] is not None:
        raise ConfigError("--tls-client-key needs --tls-client-certificate as well")
    return client_tls(*(None if each is None else absolute(each) for each in files))


def secured(
    endpoint: Endpoint,
    options: DaemonOptions,
    context: WatchedFiles[CertificateOptions] | None,
    plain: Container[str] = (UNIX,),
) -> Endpoint:
    """Return an endpoint factory that adds TLS to the endpoints of *endpoint*.

    :param context: the TLS context, None for no TLS.
    :param plain: the kinds of endpoints without TLS, by who can reach them, see
        :mod:`sos.daemon.exposure`.
    """
    if context is None:
        return endpoint

    def make(reactor: Any, description: str) -> Any:
        made = endpoint(reactor, description)
        return made if options["reach"][description] in plain else Secured(made, Renewable(context))

    return make
