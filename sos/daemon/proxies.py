"""The proxies in front of a daemon, as its options name them."""

from __future__ import annotations

from typing import Any

from sos.daemon.options import DaemonOptions
from sos.daemon.tls import Endpoint
from sos.http.server.proxies import Proxies
from sos.http.server.proxy_protocol import Proxied


def proxies_of(options: DaemonOptions) -> Proxies | None:
    """Return the trusted proxies of *options*, None where there are none."""
    listed = options["trusted-proxies"]
    return None if listed is None else Proxies(listed)


def proxied(endpoint: Endpoint, options: DaemonOptions) -> Endpoint:
    """Return what makes endpoints that understand the PROXY protocol, of what makes them without.

    ``ssl:`` endpoints do not: the header comes before TLS, which those begin by themselves.
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
