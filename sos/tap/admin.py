"""The options of the admin port of both daemons."""

from __future__ import annotations

from sos.daemon.options import DaemonOptions
from sos.daemon.services import check_endpoint, tcp

# The admin port needs no credentials.
_HOST = "127.0.0.1"


def _withheld(endpoint: str) -> str:
    """Return *endpoint*; give a Unix socket without a mode one that excludes other users.

    Twisted's default mode admits all users.
    """
    if endpoint.startswith("unix:") and ":mode=" not in endpoint.replace("\\:", ""):
        return f"{endpoint}:mode=660"
    return endpoint


class AdminOptions(DaemonOptions):
    """Options of a daemon with an admin port.

    A subclass adds ``--admin-port`` with its default.
    """

    def __init__(self) -> None:
        super().__init__()
        self["listen-admin"] = []

    def opt_listen_admin(self, endpoint: str) -> None:
        """Twisted endpoint of the admin port, instead of --admin-port; repeatable."""
        check_endpoint("--listen-admin", endpoint)
        self["listen-admin"].append(_withheld(endpoint))

    def set_admins(self) -> None:
        """Set the option ``admins`` to the endpoints of the admin port."""
        self["admins"] = self["listen-admin"]
        if not self["admins"] and self["admin-port"]:
            self["admins"] = [tcp(_HOST, self["admin-port"])]

    def remedy(self, endpoint: str) -> str:
        if endpoint in self["admins"]:
            return " This is the admin port: choose another with --admin-port, or 0 for none."
        return super().remedy(endpoint)
