"""What the options of both daemons have in common."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from twisted.python import usage

from sos import __version__
from sos.daemon import json_log, privileges
from sos.daemon.log_pipe import unhindered
from sos.daemon.privileges import Shedding
from sos.errors import ConfigError
from sos.model import config

# What is said of options that the release before had.
_GONE = dict.fromkeys(
    ("option --workers not recognized", "option -w not recognized"),
    "--workers is gone: run several API servers on the same ports, each with --reuse-port and an "
    "--admin-port of its own, or a blob server for each disk",
)


def parameter(
    name: str,
    short: str | None,
    default: object,
    text: str,
    convert: Callable[[str], object] = str,
) -> list[Any]:
    """Describe an option to ``optParameters``; a wrong value is told with its name."""

    def coerce(value: str) -> object:
        if not value:
            raise ValueError(f"--{name} is given no value")
        try:
            return convert(value)
        except ValueError as error:
            raise ValueError(f"--{name}: {error}") from None

    return [name, short, default, text, coerce]


def setting(name: str) -> list[Any]:
    """Describe the option that is also the setting *name* of ``sos.conf``."""
    found = config.SETTINGS[name]
    return parameter(name, None, None, found.help, found.option or found.convert)


class DaemonOptions(usage.Options):
    """Options of which a wrong one ends the program: one line, exit status 2."""

    program: str
    synopsis: str
    longdesc: str
    #: What gives up root's privileges, where twistd could not.
    shedding: Shedding | None = None

    optParameters = [
        *(setting(name) for name in ("hosts", "idle-timeout", "trusted-proxies")),
        parameter(
            "log-format", None, "text", "Of the daemon's log: text, json.", json_log.log_format
        ),
    ]

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        try:
            super().parseOptions(options)
            if self.parent is not None:
                privileges.prepare(self.parent["chroot"])
                self.shedding = privileges.shedding(self.parent)
            if self["log-format"] == "json" and self.parent is not None:
                json_log.settle(self.parent)
        except (usage.UsageError, ConfigError) as error:
            text = str(error).removeprefix("Parameter type enforcement failed: ")
            text = _GONE.get(text, text)
            sys.stderr.write(f"{self.program}: {text}\n")
            raise SystemExit(2) from None
        twistd = self.parent
        if twistd is not None and twistd["nodaemon"] and twistd["pidfile"] == "twistd.pid":
            # In the foreground no one asks for the process id, and twistd
            # refuses to start a second daemon in a directory where it stands.
            twistd["pidfile"] = ""
        if twistd is not None and twistd["nodaemon"]:
            sys.stdout = unhindered(sys.stdout)  # where twistd is about to log to

    def opt_version(self) -> NoReturn:
        """Display the version and exit."""
        sys.stdout.write(f"{self.program} {__version__}\n")
        raise SystemExit(0)

    def parseArgs(self, *rest: str) -> None:
        if rest:
            raise usage.UsageError(f"{rest[0]!r} is not an option; see --help")

    def remedy(self, endpoint: str) -> str:
        """Return what to say behind an error when *endpoint* cannot be had."""
        return ""
