"""Host name lookups in their own thread pool."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from socket import EAI_FAIL, gaierror, getaddrinfo
from threading import Thread
from typing import Any

from twisted.application.service import Service
from twisted.internet.interfaces import (
    IAddress,
    IHostnameResolver,
    IHostResolution,
    IResolutionReceiver,
)
from twisted.python.threadpool import ThreadPool
from zope.interface import implementer

from sos.aio.twisted_internals import name_resolver

#: The most lookups at once.  One that no name server answers takes half a minute.
MOST_LOOKUPS = 32


class _Thread(Thread):
    """A daemon thread: the process does not wait for it, since a lookup cannot be cancelled."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, daemon=True, **options)


class _Threads(ThreadPool):
    threadFactory = _Thread


@implementer(IHostnameResolver)
class HostnameResolver(Service):
    """Resolves host names for *reactor* while the service runs.

    The reactor's own threads read and write files.  In that pool, a name server that does
    not answer would block uploads, and a slow disk would block every connection by name.
    Lookups of the same name at the same time share one thread.  Otherwise each request to a
    server whose name is not answered would occupy another.

    :param look_up: getaddrinfo(), or a replacement.
    """

    def __init__(self, reactor: Any, look_up: Callable[..., Any] = getaddrinfo) -> None:
        self._reactor = reactor
        self._look_up = look_up
        self._under_way: dict[object, _Lookup] = {}

    def startService(self) -> None:
        super().startService()
        self._threads = _Threads(0, MOST_LOOKUPS, "sos-names")
        self._threads.start()
        self._resolver = name_resolver(self._reactor, self._threads, self._answer)
        self._former = self._reactor.installNameResolver(self)

    def stopService(self) -> None:
        super().stopService()
        self._reactor.installNameResolver(self._former)
        if not self._under_way:  # stop() waits for running lookups
            self._threads.stop()

    def _answer(self, *arguments: Any) -> Any:
        try:
            return self._look_up(*arguments)
        except (OSError, UnicodeError) as error:  # for example too many open files
            raise gaierror(EAI_FAIL, str(error)) from error

    def resolveHostName(
        self,
        resolutionReceiver: IResolutionReceiver,
        hostName: str,
        portNumber: int = 0,
        addressTypes: Sequence[type[IAddress]] | None = None,
        transportSemantics: str = "TCP",
    ) -> IHostResolution:
        """Look up *hostName*, see IHostnameResolver."""
        kinds = None if addressTypes is None else frozenset(addressTypes)
        asked = hostName, portNumber, kinds, transportSemantics
        lookup = self._under_way.get(asked)
        if lookup is None:
            lookup = self._under_way[asked] = _Lookup(partial(self._under_way.pop, asked))
            self._resolver.resolveHostName(
                lookup, hostName, portNumber, addressTypes, transportSemantics
            )
        lookup.receivers.append(resolutionReceiver)
        resolutionReceiver.resolutionBegan(lookup.resolution)
        return lookup.resolution


@implementer(IResolutionReceiver)
class _Lookup:
    """A lookup in progress, and the receivers of its result."""

    resolution: IHostResolution

    def __init__(self, ended: Callable[[], object]) -> None:
        self._ended = ended
        self.receivers: list[IResolutionReceiver] = []

    def resolutionBegan(self, resolution: IHostResolution) -> None:
        self.resolution = resolution

    def addressResolved(self, address: IAddress) -> None:
        for each in self.receivers:
            each.addressResolved(address)

    def resolutionComplete(self) -> None:
        self._ended()
        for each in self.receivers:
            each.resolutionComplete()
