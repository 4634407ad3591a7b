"""The trusted proxies in front of a daemon."""

from __future__ import annotations

from typing import Any

from sos.daemon.options import DaemonOptions
from sos.daemon.tls import Endpoint
from sos.http.server.proxies import Proxies
from sos.http.server.proxy_protocol import Proxied


def proxies_of(options: DaemonOptions) -> Proxies | None:
    """Return the trusted proxies of *options*, None if there are none."""
    listed = options["trusted-proxies"]
    return None if listed is None else Proxies(listed)


def proxied(endpoint: Endpoint, options: DaemonOptions) -> Endpoint:
    """Return an endpoint factory that adds the PROXY protocol to those of *endpoint*.

    ``ssl:`` endpoints cannot have it: the header precedes the TLS handshake, which they start
    by themselves.
    """
    proxies = proxies_of(options)
    if proxies is None:
        return endpoint

    def make(reactor: Any, description: str) -> Any:
        made = endpoint(reactor, description)
        if description.startswith("ssl:"):
            return made
        return Proxied(made, proxies, reactor, options["idle-timeout"])

    return make
