"""Options of both daemons."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from twisted.python import usage

from sos import __version__
from sos.daemon import json_log, privileges
from sos.daemon.log_pipe import non_blocking
from sos.daemon.privileges import PrivilegeDropper
from sos.errors import ConfigError
from sos.model.settings import SETTINGS

# Messages for options that an earlier release had.
_GONE = dict.fromkeys(
    ("option --workers not recognized", "option -w not recognized"),
    "--workers no longer exists: run several API servers on the same ports, each with "
    "--reuse-port and its own --admin-port, or a blob server for each disk",
)


def parameter(
    name: str,
    short: str | None,
    default: object,
    text: str,
    convert: Callable[[str], object] = str,
) -> list[Any]:
    """Return an entry of ``optParameters``; errors of the value name the option."""

    def coerce(value: str) -> object:
        if not value:
            raise ValueError(f"--{name} needs a value")
        try:
            return convert(value)
        except ValueError as error:
            raise ValueError(f"--{name}: {error}") from None

    return [name, short, default, text, coerce]


def setting(name: str) -> list[Any]:
    """Return the entry of ``optParameters`` for the setting *name* of ``sos.conf``."""
    found = SETTINGS[name]
    return parameter(name, None, None, found.help, found.option or found.convert)


class DaemonOptions(usage.Options):
    """The options of a daemon.

    An error of an option prints one line, and ends the program with status 2.
    """

    program: str
    synopsis: str
    longdesc: str
    #: The service that drops root's privileges in place of twistd, if one is needed.
    shedding: PrivilegeDropper | None = None

    optParameters = [
        *(setting(name) for name in ("hosts", "idle-timeout", "trusted-proxies")),
        parameter(
            "log-format",
            None,
            "text",
            "Format of the daemon's log: text or json.",
            json_log.log_format,
        ),
    ]

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        try:
            super().parseOptions(options)
            if self.parent is not None:
                privileges.prepare(self.parent["chroot"])
                self.shedding = privileges.shedding(self.parent)
            if self["log-format"] == "json" and self.parent is not None:
                json_log.configure(self.parent)
        except (usage.UsageError, ConfigError) as error:
            text = str(error).removeprefix("Parameter type enforcement failed: ")
            text = _GONE.get(text, text)
            sys.stderr.write(f"{self.program}: {text}\n")
            raise SystemExit(2) from None
        twistd = self.parent
        if twistd is not None and twistd["nodaemon"] and twistd["pidfile"] == "twistd.pid":
            # A foreground process needs no pid file, and twistd would refuse to start a
            # second daemon in the same directory.
            twistd["pidfile"] = ""
        if twistd is not None and twistd["nodaemon"]:
            sys.stdout = non_blocking(sys.stdout)  # twistd logs there

    def opt_version(self) -> NoReturn:
        """Show the version and exit."""
        sys.stdout.write(f"{self.program} {__version__}\n")
        raise SystemExit(0)

    def parseArgs(self, *rest: str) -> None:
        if rest:
            raise usage.UsageError(f"unexpected argument {rest[0]!r}; see --help")

    def remedy(self, endpoint: str) -> str:
        """Return the advice to append to the error if the daemon cannot listen on *endpoint*."""
        return ""
