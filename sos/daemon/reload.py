"""What a daemon does when it is told, by SIGHUP, to read its files again."""

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
    """Reads certificates, keys, tokens and the configuration again at each SIGHUP.

    What cannot be used leaves what was there before.

    :param reload: reads the configuration: raises :exc:`~sos.errors.ConfigError` before it
        changes anything; returns a line for the log.
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
        # A signal can come in the middle of anything.
        self._reactor.callFromThread(read_all_again)
        self._reactor.callFromThread(self.reload)

    def reload(self) -> None:
        """Read the configuration again."""
        try:
            done = self._reload()
        except ConfigError as error:
            _log.error("the configuration stays as it was: {error}", error=error)
        else:
            _log.info("{done}", done=done)
