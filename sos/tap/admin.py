"""The admin port: options of it, which both daemons have."""

from __future__ import annotations

from sos.daemon.options import DaemonOptions
from sos.daemon.services import check_endpoint, tcp

# Nobody is asked who they are.
_HOST = "127.0.0.1"


def _withheld(endpoint: str) -> str:
    """Return *endpoint*, with a mode if it is a Unix socket and has none: others have no access.

    Twisted gives it one by itself, which lets everybody in.
    """
    if endpoint.startswith("unix:") and ":mode=" not in endpoint.replace("\\:", ""):
        return f"{endpoint}:mode=660"
    return endpoint


class AdminOptions(DaemonOptions):
    """Options of a daemon that tells, on a port of its own, how it is doing.

    A daemon adds ``--admin-port``, with a default.
    """

    def __init__(self) -> None:
        super().__init__()
        self["listen-admin"] = []

    def opt_listen_admin(self, endpoint: str) -> None:
        """Twisted endpoint for /status and /metrics instead of --admin-port; repeatable."""
        check_endpoint("--listen-admin", endpoint)
        self["listen-admin"].append(_withheld(endpoint))

    def settle_admins(self) -> None:
        """Keep as ``admins`` the endpoints that were asked for."""
        self["admins"] = self["listen-admin"]
        if not self["admins"] and self["admin-port"]:
            self["admins"] = [tcp(_HOST, self["admin-port"])]

    def remedy(self, endpoint: str) -> str:
        if endpoint in self["admins"]:
            return " This is for /status: --admin-port names another port, or 0 for none."
        return super().remedy(endpoint)
