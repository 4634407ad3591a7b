"""Reload the files of a daemon on SIGHUP."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

from twisted.application.service import Service
from twisted.logger import Logger

from sos.errors import ConfigError
from sos.files.watched import read_all_again

_log = Logger()


class Reloading(Service):
    """Reloads certificates, keys, tokens and the configuration on each SIGHUP.

    A file with an error changes nothing.

    :param reload: reloads the configuration.  It returns a line for the log, or raises
        :exc:`~sos.errors.ConfigError` before it changes anything.
    """

    def __init__(self, reload: Callable[[], str], reactor: Any) -> None:
        self._reload = reload
        self._reactor = reactor

    def startService(self) -> None:
        super().startService()
        signal.signal(signal.SIGHUP, self._signalled)

    def stopService(self) -> None:
        super().stopService()
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    def _signalled(self, *_: object) -> None:
        # A signal handler can interrupt any code.
        self._reactor.callFromThread(read_all_again)
        self._reactor.callFromThread(self.reload)

    def reload(self) -> None:
        """Read the configuration again."""
        try:
            done = self._reload()
        except ConfigError as error:
            _log.error("cannot reload the configuration, keeping the old one: {error}", error=error)
        else:
            _log.info("{done}", done=done)
